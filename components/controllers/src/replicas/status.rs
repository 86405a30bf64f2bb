//! What a set's status says of its pods: pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::core::meta;
use crate::core::pods::{self, Availability};

/// The status that describes these pods, and when it will change by itself.
pub fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<String>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let spec = set.spec.clone();
    let template_labels = spec.template.and_then(|it| it.metadata).and_then(|it| it.labels).unwrap_or_default();
    let fully_labelled =
        |pod: &&Arc<Pod>| template_labels.iter().all(|(key, value)| meta::label(&pod.metadata, key) == Some(value));
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let states: Vec<Availability> = active.iter().map(|pod| pods::availability(pod, min_ready, now)).collect();
    let count = |test: fn(&Availability) -> bool| states.iter().filter(|state| test(state)).count() as i32;
    let old = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: Some(active.iter().filter(fully_labelled).count() as i32),
        ready_replicas: Some(count(|it| *it != Availability::NotReady)),
        available_replicas: Some(count(|it| *it == Availability::Available)),
        terminating_replicas: Some(terminating as i32),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure),
    };
    let status = if same_numbers(set.status.as_ref(), &status) { set.status.clone().unwrap_or(status) } else { status };
    let wait =
        states.iter().filter_map(|state| if let Availability::In(wait) = state { Some(*wait) } else { None }).min();
    (status, wait)
}

/// Zero and absent are the same number; rewriting one as the other would be a write without a change.
fn same_numbers(old: Option<&ReplicaSetStatus>, new: &ReplicaSetStatus) -> bool {
    let numbers = |it: &ReplicaSetStatus| {
        [
            Some(it.replicas),
            it.fully_labeled_replicas,
            it.ready_replicas,
            it.available_replicas,
            it.terminating_replicas,
        ]
        .map(|number| number.unwrap_or(0))
    };
    let none = Vec::new();
    old.is_some_and(|old| {
        numbers(old) == numbers(new)
            && old.observed_generation == new.observed_generation
            && old.conditions.as_ref().unwrap_or(&none) == new.conditions.as_ref().unwrap_or(&none)
    })
}

/// Only ReplicaFailure is ours; other conditions stay as they are.
fn conditions(old: Option<Vec<ReplicaSetCondition>>, failure: Option<String>) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let position = conditions.iter().position(|it| it.type_.as_deref() == Some("ReplicaFailure"));
    match (failure, position) {
        (Some(_), Some(_)) => {}
        (Some(message), None) => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".into()),
            status: Some("True".into()),
            reason: Some(if message.starts_with("cannot delete") { "FailedDelete" } else { "FailedCreate" }.into()),
            message: Some(message),
            last_transition_time: Some(meta::now_time()),
        }),
        (None, Some(position)) => {
            conditions.remove(position);
        }
        (None, None) => {}
    }
    Some(conditions).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::pods::testing::pod;

    fn set() -> ReplicaSet {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "namespace": "ns", "generation": 3},
            "spec": {"replicas": 2, "minReadySeconds": 10, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}},
        }))
        .unwrap()
    }

    #[test]
    fn status_counts_and_tells_when_it_changes() {
        let pods = [pod("a", Some("n"), "Running", true), pod("b", Some("n"), "Running", false)].map(Arc::new);
        let (counted, wait) = status(&set(), &pods, 1, None, Timestamp::from_second(4).unwrap());
        assert_eq!((counted.replicas, counted.ready_replicas, counted.available_replicas), (2, Some(1), Some(0)));
        assert_eq!((counted.terminating_replicas, counted.fully_labeled_replicas), (Some(1), Some(0)));
        assert_eq!(wait, Some(Duration::from_secs(6)));
        assert_eq!(counted.observed_generation, Some(3));
        let (counted, wait) = status(&set(), &pods, 1, None, Timestamp::from_second(10).unwrap());
        assert_eq!((counted.available_replicas, wait), (Some(1), None));
    }

    #[test]
    fn failure_condition_comes_and_goes_and_others_stay() {
        let other =
            ReplicaSetCondition { type_: Some("Mine".into()), status: Some("True".into()), ..Default::default() };
        let failed = conditions(Some(vec![other.clone()]), Some("cannot create pods: quota".into())).unwrap();
        assert_eq!(failed[1].reason.as_deref(), Some("FailedCreate"));
        assert_eq!(conditions(Some(failed), None), Some(vec![other]));
    }
}
