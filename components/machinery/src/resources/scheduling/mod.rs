//! Rows of coordination, scheduling and node.

mod classes;

use super::{PLAIN, Resource, Strategy, columns, row};

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        columns: columns::LEASE,
        strategy: Strategy {
            validate_create: classes::lease,
            validate_update: |n, _| classes::lease(n),
            create_on_update: true,
            ..PLAIN
        },
        ..row(
            ("coordination.k8s.io", "v1"),
            ("Lease", "LeaseList"),
            ("leases", "lease"),
            "io.k8s.api.coordination.v1.Lease",
        )
    },
    Resource {
        short_names: &["pc"],
        namespaced: false,
        columns: columns::PRIORITY_CLASS,
        strategy: Strategy {
            default: classes::priority_defaults,
            validate_create: classes::priority,
            validate_update: classes::priority_update,
            generation: true,
            ..PLAIN
        },
        ..row(
            ("scheduling.k8s.io", "v1"),
            ("PriorityClass", "PriorityClassList"),
            ("priorityclasses", "priorityclass"),
            "io.k8s.api.scheduling.v1.PriorityClass",
        )
    },
    Resource {
        namespaced: false,
        columns: columns::RUNTIME_CLASS,
        strategy: Strategy { validate_create: classes::runtime, validate_update: classes::runtime_update, ..PLAIN },
        ..row(
            ("node.k8s.io", "v1"),
            ("RuntimeClass", "RuntimeClassList"),
            ("runtimeclasses", "runtimeclass"),
            "io.k8s.api.node.v1.RuntimeClass",
        )
    },
];
