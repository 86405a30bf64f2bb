#![allow(clippy::unwrap_used)]
use super::{super::indexes, *};
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
    assert_eq!((failing.delete.len(), failing.deletes_count), (1, true));
    assert!(failing.status.conditions.iter().flatten().any(|it| it.type_ == "FailureTarget"));
    let status = serde_json::to_value(&failing.status).unwrap();
    let failed = evaluate(&job(base(json!({"backoffLimit": 0})), status), &[pod("a", "Failed", None, false)], now());
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
    assert!(!suspended.deletes_count);
}

#[test]
fn a_job_that_ends_while_it_is_suspended_has_a_start() {
    let spec = base(json!({"suspend": true, "backoffLimit": 0}));
    let ended = evaluate(&job(spec, json!({"failed": 1})), &[], now());
    assert_eq!(ended.ended.unwrap().reason, "BackoffLimitExceeded");
    assert_eq!(ended.status.start_time, Some(meta::whole_second(now())));
}
