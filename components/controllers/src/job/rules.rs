//! What a Job's pods mean: pure (upstream: pkg/controller/job). A finished pod is counted exactly once: its uid goes into
//! `uncountedTerminatedPods`, then its finalizer goes, then it moves into the counters (KEP-2307).

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::indexes::{self, Indexes};
use crate::core::{meta, pods};

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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Count,
    Ignore,
    FailIndex,
    FailJob,
}

/// The action of the first matching rule of the pod failure policy (KEP-3329).
fn policy(spec: &JobSpec, pod: &Pod) -> (Action, String) {
    let rules = spec.pod_failure_policy.iter().flat_map(|it| &it.rules);
    for (number, rule) in rules.enumerate() {
        let by_code = rule.on_exit_codes.as_ref().and_then(|wanted| {
            let status = pod.status.as_ref();
            let all = status
                .iter()
                .flat_map(|it| {
                    it.container_statuses.iter().flatten().chain(it.init_container_statuses.iter().flatten())
                })
                .filter(|it| wanted.container_name.as_ref().is_none_or(|name| *name == it.name))
                .collect::<Vec<_>>();
            all.into_iter().find_map(|it| {
                let code = it.state.as_ref()?.terminated.as_ref()?.exit_code;
                let listed = wanted.values.contains(&code);
                let matches =
                    code != 0 && if wanted.operator == "In" { listed } else { wanted.operator == "NotIn" && !listed };
                matches.then(|| {
                    format!(
                        "Container {} for pod {}/{} failed with exit code {code} matching {} rule at index {number}",
                        it.name,
                        meta::namespace(&pod.metadata),
                        meta::name(&pod.metadata),
                        rule.action
                    )
                })
            })
        });
        let by_condition = rule.on_pod_conditions.iter().flatten().find(|wanted| {
            pods::condition(pod, &wanted.type_)
                .is_some_and(|it| it.status == wanted.status.as_deref().unwrap_or("True"))
        });
        let by_condition = by_condition.map(|it| {
            format!(
                "Pod {}/{} has condition {} matching {} rule at index {number}",
                meta::namespace(&pod.metadata),
                meta::name(&pod.metadata),
                it.type_,
                rule.action
            )
        });
        if let Some(message) = by_code.or(by_condition) {
            let action = match rule.action.as_str() {
                "FailJob" => Action::FailJob,
                "FailIndex" => Action::FailIndex,
                "Ignore" => Action::Ignore,
                _ => Action::Count,
            };
            return (action, message);
        }
    }
    (Action::Count, String::new())
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
                outcome.delete = active.clone();
                if active.is_empty() && terminating == 0 {
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
        outcome.delete = active.clone();
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

/// The counters and what is on its way into them.
struct Tally {
    succeeded: i32,
    failed: i32,
    completed: Indexes,
    failed_indexes: Indexes,
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
    release: Vec<Arc<Pod>>,
    newly_failed: usize,
    newly_succeeded: usize,
    fail_job: Option<String>,
    indexed: bool,
    completions: Option<i32>,
}

impl Tally {
    fn new(job: &Job, spec: &JobSpec) -> Self {
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
    fn settle(&mut self, owned: &[Arc<Pod>]) {
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

    fn record(&mut self, spec: &JobSpec, owned: &[Arc<Pod>]) {
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

    fn judge(
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
    fn manage(
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

    fn write(self, spec: &JobSpec, status: &mut JobStatus) {
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

pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn job(spec: Value, status: Value) -> Job {
        serde_json::from_value(
            json!({"metadata": {"name": "j", "namespace": "ns", "uid": "u"}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    fn base(extra: Value) -> Value {
        let mut spec = json!({"completions": 3, "parallelism": 2, "template": {}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    }

    fn pod(name: &str, phase: &str, index: Option<i32>, held: bool) -> Arc<Pod> {
        let mut pod = pods::testing::pod(name, Some("n"), phase, phase == "Running");
        pod.metadata.finalizers = held.then(|| vec![FINALIZER.to_owned()]);
        pod.metadata.annotations = index.map(|it| [(indexes::COMPLETION_INDEX.to_owned(), it.to_string())].into());
        Arc::new(pod)
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1000).unwrap()
    }

    #[test]
    fn counts_a_finished_pod_once() {
        let first = evaluate(
            &job(base(json!({})), json!({})),
            &[pod("a", "Succeeded", None, true), pod("b", "Running", None, true)],
            now(),
        );
        assert_eq!(first.release.len(), 1);
        assert_eq!(first.create.len(), 1);
        assert_eq!(first.status.succeeded, None);
        let status = serde_json::to_value(&first.status).unwrap();
        let second = evaluate(
            &job(base(json!({})), status),
            &[pod("a", "Succeeded", None, false), pod("b", "Running", None, true)],
            now(),
        );
        assert_eq!(second.status.succeeded, Some(1));
        assert_eq!(second.newly_succeeded, 0);
        let status = serde_json::to_value(&second.status).unwrap();
        let third = evaluate(&job(base(json!({})), status), &[pod("a", "Succeeded", None, false)], now());
        assert_eq!(third.status.succeeded, Some(1));
    }

    #[test]
    fn completes_after_the_last_pod_ended() {
        let owned = [pod("c", "Succeeded", None, true)];
        let done = evaluate(&job(base(json!({})), json!({"succeeded": 2})), &owned, now());
        assert_eq!(done.ended.unwrap().reason, "CompletionsReached");
        let kinds: Vec<_> = done.status.conditions.unwrap().into_iter().map(|it| it.type_).collect();
        assert_eq!(kinds, ["SuccessCriteriaMet", "Complete"]);
    }

    #[test]
    fn too_many_failures_fail_the_job_but_running_pods_go_first() {
        let owned = [pod("a", "Failed", None, true), pod("b", "Running", None, true)];
        let failing = evaluate(&job(base(json!({"backoffLimit": 0})), json!({})), &owned, now());
        assert!(failing.ended.is_none());
        assert_eq!(failing.delete.len(), 1);
        assert!(failing.status.conditions.iter().flatten().any(|it| it.type_ == "FailureTarget"));
        let status = serde_json::to_value(&failing.status).unwrap();
        let failed =
            evaluate(&job(base(json!({"backoffLimit": 0})), status), &[pod("a", "Failed", None, false)], now());
        assert_eq!(failed.ended.unwrap().reason, "BackoffLimitExceeded");
        assert_eq!(failed.status.failed, Some(1));
    }

    #[test]
    fn indexed_jobs_fill_gaps() {
        let spec = base(json!({"completionMode": "Indexed", "parallelism": 3}));
        let outcome = evaluate(
            &job(spec, json!({})),
            &[pod("a", "Succeeded", Some(1), true), pod("b", "Running", Some(0), true)],
            now(),
        );
        assert_eq!(outcome.create, [Some(2)]);
        assert_eq!((outcome.status.completed_indexes.as_deref(), outcome.status.succeeded), (Some("1"), Some(1)));
    }

    #[test]
    fn policies() {
        let spec = base(
            json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}}),
        );
        let mut disrupted = pod("a", "Failed", None, true).as_ref().clone();
        disrupted
            .status
            .as_mut()
            .unwrap()
            .conditions
            .as_mut()
            .unwrap()
            .push(serde_json::from_value(json!({"type": "DisruptionTarget", "status": "True"})).unwrap());
        let outcome = evaluate(&job(spec, json!({})), &[Arc::new(disrupted)], now());
        assert_eq!((outcome.newly_failed, outcome.release.len()), (0, 1));
        let spec = base(
            json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededCount": 1, "succeededIndexes": "0-1"}]}}),
        );
        let outcome = evaluate(&job(spec, json!({})), &[pod("a", "Succeeded", Some(1), true)], now());
        assert_eq!(outcome.ended.unwrap().reason, "SuccessPolicy");
    }

    #[test]
    fn deadline_and_suspension() {
        let late = evaluate(
            &job(base(json!({"activeDeadlineSeconds": 10})), json!({"startTime": "1970-01-01T00:00:00Z"})),
            &[],
            now(),
        );
        assert_eq!(late.ended.unwrap().reason, "DeadlineExceeded");
        let suspended =
            evaluate(&job(base(json!({"suspend": true})), json!({})), &[pod("a", "Running", None, true)], now());
        assert_eq!((suspended.suspended, suspended.delete.len(), suspended.create.len()), (Some(true), 1, 0));
    }
}
