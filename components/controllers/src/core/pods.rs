//! What the controllers need to know of a pod: its state, how it is made from a template, and which pods go first when
//! there are too many.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;

use super::meta;

pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|at| at.0)
}

/// Ready for at least `min_ready_seconds`; otherwise how long until it will be, if it is ready at all.
pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !is_ready(pod) {
        return Availability::NotReady;
    }
    if min_ready_seconds <= 0 {
        return Availability::Available;
    }
    let Some(since) = ready_since(pod) else { return Availability::NotReady };
    match meta::until(since, i64::from(min_ready_seconds), now) {
        Duration::ZERO => Availability::Available,
        wait => Availability::In(wait),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    NotReady,
    In(Duration),
    Available,
}

pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Index: the node a pod is bound to.
pub fn node_index(pod: &Pod) -> Option<String> {
    node_name(pod).map(str::to_owned)
}

/// A pod of `owner` from a template. The caller sets the name, or leaves it to `generateName`.
pub fn from_template(template: &PodTemplateSpec, ns: &str, generate_name: &str, owner: OwnerReference) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(ns.to_owned()),
            generate_name: Some(generate_name.to_owned()),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Orders pods so that the first are deleted first (upstream: ActivePodsWithRanks). `related` are the pods of the same
/// workload, whose crowding on a node counts against a pod.
pub fn rank_for_deletion(pods: &mut [Arc<Pod>], related: &[Arc<Pod>]) {
    let mut crowd: HashMap<String, i32> = HashMap::new();
    for pod in related.iter().filter(|pod| is_active(pod)) {
        if let Some(node) = node_name(pod) {
            *crowd.entry(node.to_owned()).or_default() += 1;
        }
    }
    let rank = |pod: &Pod| node_name(pod).and_then(|node| crowd.get(node)).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        node_name(a)
            .is_some()
            .cmp(&node_name(b).is_some())
            .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
            .then_with(|| is_ready(a).cmp(&is_ready(b)))
            .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| rank(b).cmp(&rank(a)))
            .then_with(|| younger_first(ready_since(a), ready_since(b)))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| younger_first(created(a), created(b)))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    meta::annotation(&pod.metadata, DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|at| at.0)
}

fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    b.cmp(&a)
}

#[cfg(test)]
pub mod testing {
    //! Pods for the unit tests of every controller.
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    pub fn pod(name: &str, node: Option<&str>, phase: &str, ready: bool) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("ns".into()),
                uid: Some(format!("uid-{name}")),
                ..Default::default()
            },
            spec: Some(PodSpec { node_name: node.map(Into::into), ..Default::default() }),
            status: Some(PodStatus {
                phase: Some(phase.into()),
                conditions: Some(vec![PodCondition {
                    type_: "Ready".into(),
                    status: if ready { "True" } else { "False" }.into(),
                    last_transition_time: Some(Time(Timestamp::UNIX_EPOCH)),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::pod;
    use super::*;

    #[test]
    fn unready_crowded_and_cheap_pods_go_first() {
        let mut costly = pod("costly", Some("n1"), "Running", true);
        costly.metadata.annotations = Some([(DELETION_COST.to_owned(), "10".to_owned())].into());
        let all: Vec<Arc<Pod>> = [
            costly,
            pod("lonely", Some("n2"), "Running", true),
            pod("crowded", Some("n1"), "Running", true),
            pod("unready", Some("n2"), "Running", false),
            pod("pending", Some("n3"), "Pending", false),
            pod("unassigned", None, "Pending", false),
        ]
        .map(Arc::new)
        .into();
        let mut sorted = all.clone();
        rank_for_deletion(&mut sorted, &all[..3]);
        let names: Vec<&str> = sorted.iter().map(|pod| meta::name(&pod.metadata)).collect();
        assert_eq!(names, ["unassigned", "pending", "unready", "crowded", "lonely", "costly"]);
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let pod = pod("a", None, "Running", true);
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        assert_eq!(availability(&pod, 0, at(0)), Availability::Available);
        assert_eq!(availability(&pod, 10, at(4)), Availability::In(Duration::from_secs(6)));
        assert_eq!(availability(&pod, 10, at(10)), Availability::Available);
    }
}
