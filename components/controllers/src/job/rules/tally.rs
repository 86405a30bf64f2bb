//! The counters of a Job, and what is on its way into them (KEP-2307).

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::policy::{Action, policy};
use super::{FINALIZER, INDEX_FAILURES, Outcome, Verdict, has_failed, is_indexed, only_replaces_failed};
use crate::core::{meta, pods};
use crate::job::indexes::{self, Indexes};

/// The counters and what is on its way into them.
pub struct Tally {
    succeeded: i32,
    failed: i32,
    completed: Indexes,
    failed_indexes: Indexes,
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
    pub release: Vec<Arc<Pod>>,
    pub newly_failed: usize,
    pub newly_succeeded: usize,
    fail_job: Option<String>,
    indexed: bool,
    completions: Option<i32>,
}

impl Tally {
    pub fn new(job: &Job, spec: &JobSpec) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
        let limit = spec.completions.unwrap_or(0);
        Self {
            succeeded: status.succeeded.unwrap_or(0),
            failed: status.failed.unwrap_or(0),
            completed: indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), limit),
            failed_indexes: indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), limit),
            uncounted_succeeded: uncounted.succeeded.into_iter().flatten().collect(),
            uncounted_failed: uncounted.failed.into_iter().flatten().collect(),
            release: Vec::new(),
            newly_failed: 0,
            newly_succeeded: 0,
            fail_job: None,
            indexed: is_indexed(spec),
            completions: spec.completions,
        }
    }

    /// Moves into the counters what no longer has a finalizer.
    pub fn settle(&mut self, owned: &[Arc<Pod>]) {
        let held: BTreeSet<&str> = owned
            .iter()
            .filter(|pod| meta::has_finalizer(&pod.metadata, FINALIZER))
            .map(|pod| meta::uid(&pod.metadata))
            .collect();
        let settle = |set: &mut BTreeSet<String>| {
            let before = set.len();
            set.retain(|uid| held.contains(uid.as_str()));
            (before - set.len()) as i32
        };
        self.succeeded += settle(&mut self.uncounted_succeeded);
        self.failed += settle(&mut self.uncounted_failed);
    }

    pub fn record(&mut self, spec: &JobSpec, owned: &[Arc<Pod>]) {
        for pod in owned.iter().filter(|pod| meta::has_finalizer(&pod.metadata, FINALIZER)) {
            let uid = meta::uid(&pod.metadata).to_owned();
            if self.uncounted_succeeded.contains(&uid) || self.uncounted_failed.contains(&uid) {
                self.release.push(pod.clone());
            } else if pods::phase(pod) == "Succeeded" {
                self.newly_succeeded += 1;
                self.release.push(pod.clone());
                match indexes::of_pod(pod) {
                    Some(index) if self.indexed => {
                        if self.completions.is_some_and(|it| (0..it).contains(&index)) {
                            self.completed.insert(index);
                        }
                    }
                    _ => drop(self.uncounted_succeeded.insert(uid)),
                }
            } else if has_failed(spec, pod) {
                self.record_failure(spec, pod, uid);
            }
        }
    }

    fn record_failure(&mut self, spec: &JobSpec, pod: &Arc<Pod>, uid: String) {
        let (action, message) =
            if pods::phase(pod) == "Failed" { policy(spec, pod) } else { (Action::Count, String::new()) };
        self.release.push(pod.clone());
        if action == Action::Ignore {
            return;
        }
        self.newly_failed += 1;
        self.uncounted_failed.insert(uid);
        if action == Action::FailJob {
            self.fail_job.get_or_insert(message);
        }
        if let (Some(limit), Some(index)) = (spec.backoff_limit_per_index, indexes::of_pod(pod))
            && (action == Action::FailIndex || failures_of_index(pod) >= limit)
            && !self.completed.contains(&index)
        {
            self.failed_indexes.insert(index);
        }
    }

    fn total_succeeded(&self) -> i32 {
        if self.indexed { self.completed.len() as i32 } else { self.succeeded + self.uncounted_succeeded.len() as i32 }
    }

    fn total_failed(&self) -> i32 {
        self.failed + self.uncounted_failed.len() as i32
    }

    pub fn judge(
        &self,
        spec: &JobSpec,
        status: &JobStatus,
        owned: &[Arc<Pod>],
        active: usize,
        now: Timestamp,
    ) -> Option<Verdict> {
        let fail = |reason: &str, message: &str| {
            Some(Verdict { failed: true, reason: reason.into(), message: message.into() })
        };
        let succeed = |reason: &str, message: &str| {
            Some(Verdict { failed: false, reason: reason.into(), message: message.into() })
        };
        if let Some(message) = &self.fail_job {
            return fail("PodFailurePolicy", message);
        }
        let default_limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        let limit = spec.backoff_limit.unwrap_or(default_limit);
        if self.total_failed() > limit || (limit > 0 && restarts(spec, owned) >= limit) {
            return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        let started = status.start_time.as_ref().map(|at| at.0);
        let late = |seconds: i64| started.is_some_and(|started| meta::until(started, seconds, now).is_zero());
        if spec.suspend != Some(true) && spec.active_deadline_seconds.is_some_and(late) {
            return fail("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        if spec.max_failed_indexes.is_some_and(|most| self.failed_indexes.len() as i32 > most) {
            return fail("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
        }
        if let Some(message) = self.success_policy(spec) {
            return succeed("SuccessPolicy", &message);
        }
        match spec.completions {
            Some(wanted) if self.total_succeeded() >= wanted => {
                succeed("CompletionsReached", "Reached expected number of succeeded pods")
            }
            Some(wanted)
                if self.indexed
                    && !self.failed_indexes.is_empty()
                    && self.total_succeeded() + self.failed_indexes.len() as i32 >= wanted =>
            {
                fail("FailedIndexes", "Job has failed indexes")
            }
            None if self.total_succeeded() > 0 && active == 0 => {
                succeed("CompletionsReached", "Reached expected number of succeeded pods")
            }
            _ => None,
        }
    }

    /// KEP-3998: the first rule that holds.
    fn success_policy(&self, spec: &JobSpec) -> Option<String> {
        let rules = spec.success_policy.as_ref()?.rules.iter().enumerate();
        rules.into_iter().find_map(|(number, rule)| {
            let limit = self.completions.unwrap_or(0);
            let named = rule.succeeded_indexes.as_deref().map(|it| indexes::parse(it, limit));
            let done = named.as_ref().map_or(self.completed.len(), |it| it.intersection(&self.completed).count());
            let needed =
                rule.succeeded_count.map_or(named.as_ref().map_or(usize::MAX, Indexes::len), |it| it.max(0) as usize);
            (done >= needed).then(|| format!("Matched rules at index {number}"))
        })
    }

    /// How many pods are missing or superfluous.
    pub fn manage(
        &self,
        spec: &JobSpec,
        owned: &[Arc<Pod>],
        active: &[Arc<Pod>],
        terminating: usize,
        outcome: &mut Outcome,
    ) {
        let parallelism = spec.parallelism.unwrap_or(1).max(0);
        let wanted = match spec.completions {
            None if self.total_succeeded() > 0 => (active.len() as i32).min(parallelism),
            None => parallelism,
            Some(completions) => {
                (completions - self.total_succeeded() - self.failed_indexes.len() as i32).clamp(0, parallelism)
            }
        } as usize;
        if active.len() > wanted {
            let mut sorted = active.to_vec();
            pods::rank_for_deletion(&mut sorted, active);
            outcome.delete = sorted.into_iter().take(active.len() - wanted).collect();
            return;
        }
        let waiting = if only_replaces_failed(spec) { terminating } else { 0 };
        let missing = wanted.saturating_sub(active.len() + waiting);
        if !self.indexed {
            outcome.create = vec![None; missing];
            return;
        }
        let counts = |pod: &&Arc<Pod>| pods::is_active(pod) || (only_replaces_failed(spec) && !pods::is_terminal(pod));
        let taken: Indexes = owned.iter().filter(counts).filter_map(|pod| indexes::of_pod(pod)).collect();
        let free = (0..spec.completions.unwrap_or(0))
            .filter(|it| !taken.contains(it) && !self.completed.contains(it) && !self.failed_indexes.contains(it));
        outcome.create = free.take(missing).map(Some).collect();
    }

    pub fn write(self, spec: &JobSpec, status: &mut JobStatus) {
        let number = |value: i32, old: Option<i32>| if value == 0 && old.is_none() { None } else { Some(value) };
        status.succeeded =
            number(if self.indexed { self.completed.len() as i32 } else { self.succeeded }, status.succeeded);
        status.failed = number(self.failed, status.failed);
        let list = |set: BTreeSet<String>| Some(set.into_iter().collect::<Vec<_>>()).filter(|it| !it.is_empty());
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(self.uncounted_succeeded),
            failed: list(self.uncounted_failed),
        });
        if self.indexed {
            status.completed_indexes = Some(indexes::format(&self.completed)).filter(|it| !it.is_empty());
            if spec.backoff_limit_per_index.is_some() {
                status.failed_indexes = Some(indexes::format(&self.failed_indexes));
            }
        }
    }
}

fn failures_of_index(pod: &Pod) -> i32 {
    meta::annotation(&pod.metadata, INDEX_FAILURES).and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// With restartPolicy OnFailure the restarts of running pods count against the limit.
fn restarts(spec: &JobSpec, owned: &[Arc<Pod>]) -> i32 {
    if spec.template.spec.as_ref().and_then(|it| it.restart_policy.as_deref()) != Some("OnFailure") {
        return 0;
    }
    let live = owned.iter().filter(|pod| pods::is_active(pod) && matches!(pods::phase(pod), "Running" | "Pending"));
    let statuses = live
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|it| it.container_statuses.iter().flatten().chain(it.init_container_statuses.iter().flatten()));
    statuses.map(|it| it.restart_count).sum()
}

/// For a replacement: how often its index failed before.
pub fn next_failure_count(owned: &[Arc<Pod>], index: i32) -> i32 {
    owned
        .iter()
        .filter(|pod| indexes::of_pod(pod) == Some(index) && pods::phase(pod) == "Failed")
        .map(|pod| failures_of_index(pod) + 1)
        .max()
        .unwrap_or(0)
}
