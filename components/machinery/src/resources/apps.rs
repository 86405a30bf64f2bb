//! Rows of the workload groups: apps, batch and policy.

use super::{NameRule, PLAIN, Resource, SCALE, STATUS, Strategy, columns, other::hooks as o, row, workload, writing};

const V1: (&str, &str) = ("apps", "v1");
const ALL: &[&str] = &["all"];

/// What the four controllers of pods share.
const WORKLOAD: Strategy =
    Strategy { prepare_create: writing::drop_status, prepare_update: writing::keep_status, generation: true, ..PLAIN };

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        columns: columns::CONTROLLER_REVISION,
        strategy: Strategy {
            validate_create: o::controller_revision,
            validate_update: o::controller_revision_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("ControllerRevision", "ControllerRevisionList"),
            ("controllerrevisions", "controllerrevision"),
            "io.k8s.api.apps.v1.ControllerRevision",
        )
    },
    Resource {
        short_names: &["ds"],
        categories: ALL,
        subresources: &[STATUS],
        columns: columns::DAEMON_SET,
        strategy: Strategy {
            default: workload::daemon_set_defaults,
            validate_create: workload::daemon_set,
            validate_update: workload::daemon_set_update,
            validate_status_update: workload::status::daemon_set,
            warnings: workload::template_warnings,
            ..WORKLOAD
        },
        ..row(V1, ("DaemonSet", "DaemonSetList"), ("daemonsets", "daemonset"), "io.k8s.api.apps.v1.DaemonSet")
    },
    Resource {
        short_names: &["deploy"],
        categories: ALL,
        subresources: &[SCALE, STATUS],
        columns: columns::DEPLOYMENT,
        strategy: Strategy {
            default: workload::deployment_defaults,
            validate_create: workload::deployment,
            validate_update: workload::deployment_update,
            validate_status_update: workload::status::deployment,
            warnings: workload::template_warnings,
            ..WORKLOAD
        },
        ..row(V1, ("Deployment", "DeploymentList"), ("deployments", "deployment"), "io.k8s.api.apps.v1.Deployment")
    },
    Resource {
        short_names: &["rs"],
        categories: ALL,
        subresources: &[SCALE, STATUS],
        columns: columns::REPLICA_SET,
        field_selectors: &[("status.replicas", "status.replicas?0")],
        strategy: Strategy {
            default: workload::replica_set_defaults,
            validate_create: workload::replica_set,
            validate_update: workload::replica_set_update,
            validate_status_update: workload::status::replica_set,
            warnings: workload::template_warnings,
            ..WORKLOAD
        },
        ..row(V1, ("ReplicaSet", "ReplicaSetList"), ("replicasets", "replicaset"), "io.k8s.api.apps.v1.ReplicaSet")
    },
    Resource {
        short_names: &["sts"],
        categories: ALL,
        subresources: &[SCALE, STATUS],
        columns: columns::STATEFUL_SET,
        strategy: Strategy {
            name: NameRule::DnsLabel,
            default: workload::stateful_set_defaults,
            validate_create: workload::stateful_set,
            validate_update: workload::stateful_set_update,
            validate_status_update: workload::status::stateful_set,
            warnings: workload::template_warnings,
            ..WORKLOAD
        },
        ..row(V1, ("StatefulSet", "StatefulSetList"), ("statefulsets", "statefulset"), "io.k8s.api.apps.v1.StatefulSet")
    },
    Resource {
        categories: ALL,
        subresources: &[STATUS],
        columns: columns::JOB,
        field_selectors: &[("status.successful", "status.succeeded?0")],
        strategy: Strategy {
            default: workload::job::defaults,
            prepare_create: workload::job::prepare_create,
            validate_create: workload::job::validate,
            validate_update: workload::job::validate_update,
            validate_status_update: workload::job::validate_status_update,
            warnings: workload::job::warnings,
            ..WORKLOAD
        },
        ..row(("batch", "v1"), ("Job", "JobList"), ("jobs", "job"), "io.k8s.api.batch.v1.Job")
    },
    Resource {
        short_names: &["cj"],
        categories: ALL,
        subresources: &[STATUS],
        columns: columns::CRON_JOB,
        strategy: Strategy {
            default: workload::cronjob::defaults,
            validate_create: workload::cronjob::validate_create,
            validate_update: workload::cronjob::validate_update,
            warnings: workload::cronjob::warnings,
            ..WORKLOAD
        },
        ..row(("batch", "v1"), ("CronJob", "CronJobList"), ("cronjobs", "cronjob"), "io.k8s.api.batch.v1.CronJob")
    },
    Resource {
        short_names: &["pdb"],
        subresources: &[STATUS],
        columns: columns::PDB,
        strategy: Strategy {
            default: o::pdb_defaults,
            validate_create: o::pdb,
            validate_update: o::pdb_update,
            validate_status_update: |n, _| o::pdb_status(n),
            // a write that saw an older state must not undo what evictions took
            unconditional_update: false,
            ..WORKLOAD
        },
        ..row(
            ("policy", "v1"),
            ("PodDisruptionBudget", "PodDisruptionBudgetList"),
            ("poddisruptionbudgets", "poddisruptionbudget"),
            "io.k8s.api.policy.v1.PodDisruptionBudget",
        )
    },
];
