//! What a Job's pods mean: pure (upstream: pkg/controller/job). A finished pod is counted exactly once: its uid goes into
//! `uncountedTerminatedPods`, then its finalizer goes, then it moves into the counters (KEP-2307).

mod policy;
mod tally;

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use self::tally::Tally;
pub use self::tally::next_failure_count;
use crate::core::{meta, pods};

pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// Reason and message of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub failed: bool,
    pub reason: String,
    pub message: String,
}

pub struct Outcome {
    pub status: JobStatus,
    /// Finished pods that are recorded in this status: their finalizers may go once it is written.
    pub release: Vec<Arc<Pod>>,
    pub create: Vec<Option<i32>>,
    pub delete: Vec<Arc<Pod>>,
    /// The Job has ended: the pods it deletes count as failed. Those it deletes otherwise count as nothing.
    pub deletes_count: bool,
    pub newly_failed: usize,
    pub newly_succeeded: usize,
    /// The condition that ended the Job in this pass.
    pub ended: Option<Verdict>,
    pub suspended: Option<bool>,
}

pub fn is_finished(job: &Job) -> bool {
    ended_at(job).is_some()
        || conditions(job).any(|it| matches!(it.type_.as_str(), "Complete" | "Failed") && it.status == "True")
}

/// When the Job completed or failed.
pub fn ended_at(job: &Job) -> Option<Timestamp> {
    conditions(job)
        .find(|it| matches!(it.type_.as_str(), "Complete" | "Failed") && it.status == "True")
        .and_then(|it| it.last_transition_time.as_ref())
        .map(|at| at.0)
}

fn conditions(job: &Job) -> impl Iterator<Item = &JobCondition> {
    job.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

fn condition(kind: &str, verdict: &Verdict, now: Timestamp) -> JobCondition {
    let at = meta::whole_second(now);
    JobCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(verdict.reason.clone()),
        message: Some(verdict.message.clone()),
        last_probe_time: Some(at.clone()),
        last_transition_time: Some(at),
    }
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Replacements only for pods that have really ended, rather than for those that are being deleted.
fn only_replaces_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

fn has_failed(spec: &JobSpec, pod: &Pod) -> bool {
    pods::phase(pod) == "Failed"
        || (pods::phase(pod) != "Succeeded" && pods::is_terminating(pod) && !only_replaces_failed(spec))
}

pub fn evaluate(job: &Job, owned: &[Arc<Pod>], now: Timestamp) -> Outcome {
    let spec = job.spec.clone().unwrap_or_default();
    let mut tally = Tally::new(job, &spec);
    tally.settle(owned);
    tally.record(&spec, owned);
    let active: Vec<Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let terminating = owned.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_terminal(pod)).count();
    let suspend = spec.suspend == Some(true);
    let mut status = job.status.clone().unwrap_or_default();
    let mut outcome = Outcome {
        status: JobStatus::default(),
        release: tally.release.clone(),
        create: Vec::new(),
        delete: Vec::new(),
        deletes_count: false,
        newly_failed: tally.newly_failed,
        newly_succeeded: tally.newly_succeeded,
        ended: None,
        suspended: None,
    };
    let finished = is_finished(job);
    if !finished && !suspend && status.start_time.is_none() {
        status.start_time = Some(meta::whole_second(now));
    }
    if !finished {
        let verdict = pending_verdict(&status).or_else(|| tally.judge(&spec, &status, owned, active.len(), now));
        match verdict {
            Some(verdict) => {
                let interim = if verdict.failed { "FailureTarget" } else { "SuccessCriteriaMet" };
                let list = status.conditions.get_or_insert_default();
                if !list.iter().any(|it| it.type_ == interim) {
                    list.push(condition(interim, &verdict, now));
                }
                (outcome.delete, outcome.deletes_count) = (active.clone(), true);
                if active.is_empty() && terminating == 0 {
                    // A Job that ends while it is suspended has no start, and one that ended must have.
                    status.start_time.get_or_insert_with(|| meta::whole_second(now));
                    list.push(condition(if verdict.failed { "Failed" } else { "Complete" }, &verdict, now));
                    if !verdict.failed {
                        status.completion_time = Some(meta::whole_second(now));
                    }
                    outcome.ended = Some(verdict);
                }
            }
            None => {
                outcome.suspended = set_suspended(&mut status, suspend, now);
                if suspend {
                    outcome.delete = active.clone();
                    status.start_time = None;
                } else {
                    tally.manage(&spec, owned, &active, terminating, &mut outcome);
                }
            }
        }
    } else {
        (outcome.delete, outcome.deletes_count) = (active.clone(), true);
    }
    if job.metadata.deletion_timestamp.is_some() {
        (outcome.create, outcome.delete) = (Vec::new(), Vec::new());
    }
    let count = |value: usize, old: Option<i32>| if value == 0 && old.is_none() { None } else { Some(value as i32) };
    status.active =
        count(active.len() - outcome.delete.len(), status.active).filter(|it| *it != 0 || status.active.is_some());
    status.ready = Some(active.iter().filter(|pod| pods::is_ready(pod)).count() as i32);
    status.terminating = Some((terminating + outcome.delete.len()) as i32);
    tally.write(&spec, &mut status);
    outcome.status = status;
    outcome
}

/// An interim condition written earlier decides, whatever the pods say now.
fn pending_verdict(status: &JobStatus) -> Option<Verdict> {
    let interim = status
        .conditions
        .iter()
        .flatten()
        .find(|it| matches!(it.type_.as_str(), "FailureTarget" | "SuccessCriteriaMet") && it.status == "True")?;
    Some(Verdict {
        failed: interim.type_ == "FailureTarget",
        reason: interim.reason.clone().unwrap_or_default(),
        message: interim.message.clone().unwrap_or_default(),
    })
}

/// Some(state) if it changed.
fn set_suspended(status: &mut JobStatus, suspend: bool, now: Timestamp) -> Option<bool> {
    let verdict = if suspend {
        Verdict { failed: false, reason: "JobSuspended".into(), message: "Job suspended".into() }
    } else {
        Verdict { failed: false, reason: "JobResumed".into(), message: "Job resumed".into() }
    };
    let wanted = if suspend { "True" } else { "False" };
    let list = status.conditions.get_or_insert_default();
    match list.iter_mut().find(|it| it.type_ == "Suspended") {
        Some(it) if it.status == wanted => None,
        Some(it) => {
            *it = JobCondition { status: wanted.into(), ..condition("Suspended", &verdict, now) };
            Some(suspend)
        }
        None if suspend => {
            list.push(condition("Suspended", &verdict, now));
            Some(true)
        }
        None => None,
    }
}

#[cfg(test)]
#[path = "rules/tests.rs"]
mod tests;
