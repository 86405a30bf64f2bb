//! May this pod run on this node? One function for each question, asked in upstream's order; the first refusal ends it.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::cluster::{Candidate, Cluster, NodeInfo, PodInfo};
use crate::cycle::{Cycle, Plugin, Rejection};
use crate::resources::{allocatable, allocatable_pods};
use crate::selectors::{HARD_EFFECTS, pod_accepts_node, tolerates, untolerated};

/// Asks everything, with the pods that were nominated to the node counted in: others were evicted for them.
pub fn check(cycle: &Cycle, cluster: &Cluster, candidate: Candidate<'_>) -> Result<(), Rejection> {
    let incoming = &cycle.incoming;
    let mut nominated = cluster
        .nominated_to(candidate.name())
        .filter(|pod| pod.uid != incoming.uid && pod.priority() >= incoming.priority())
        .peekable();
    if nominated.peek().is_some() {
        let mut with_nominated = candidate.info.clone();
        let mut cycle_with_nominated = cycle.clone();
        for pod in nominated {
            with_nominated.add(std::sync::Arc::clone(pod));
            cycle_with_nominated.count(candidate.node, pod, 1, cluster);
        }
        check_as_is(&cycle_with_nominated, cluster, Candidate { node: candidate.node, info: &with_nominated })?;
    }
    check_as_is(cycle, cluster, candidate)
}

/// Asks everything about exactly this state of the node.
pub fn check_as_is(cycle: &Cycle, cluster: &Cluster, candidate: Candidate<'_>) -> Result<(), Rejection> {
    let Candidate { node, info } = candidate;
    let incoming = &cycle.incoming;
    schedulable(&incoming.pod, node)?;
    taints(&incoming.pod, node)?;
    affinity(&incoming.pod, node)?;
    ports(incoming, info)?;
    fit(incoming, node, info)?;
    cycle.volumes.filter(cluster, node)?;
    cycle.spread.filter(node)?;
    cycle.inter_pod.filter(incoming, node)
}

fn schedulable(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    if !node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        return Ok(());
    }
    let taint = k8s_openapi::api::core::v1::Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Default::default()
    };
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    if tolerations.iter().any(|toleration| tolerates(toleration, &taint)) {
        return Ok(());
    }
    Err(Rejection::fixed(Plugin::NodeUnschedulable, "node(s) were unschedulable", false))
}

fn taints(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    match untolerated(pod, node, HARD_EFFECTS).next() {
        None => Ok(()),
        Some(_) => Err(Rejection::fixed(Plugin::TaintToleration, "node(s) had untolerated taint(s)", false)),
    }
}

fn affinity(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    if pod_accepts_node(pod, node) {
        return Ok(());
    }
    Err(Rejection::fixed(Plugin::NodeAffinity, "node(s) didn't match Pod's node affinity/selector", false))
}

fn ports(incoming: &PodInfo, info: &NodeInfo) -> Result<(), Rejection> {
    if incoming.host_ports.is_empty() {
        return Ok(());
    }
    let mut taken = info.pods.values().flat_map(|pod| &pod.host_ports);
    if !taken.any(|taken| incoming.host_ports.iter().any(|wanted| wanted.conflicts_with(taken))) {
        return Ok(());
    }
    Err(Rejection::fixed(Plugin::NodePorts, "node(s) didn't have free ports for the requested pod ports", true))
}

fn fit(incoming: &PodInfo, node: &Node, info: &NodeInfo) -> Result<(), Rejection> {
    let has = allocatable(node);
    let wants = &incoming.requests;
    let used = &info.requested;
    let mut reasons = Vec::new();
    // More than the node has in total: evicting others would not help.
    let mut resolvable = true;
    if i64::try_from(info.pods.len()).unwrap_or(i64::MAX) >= allocatable_pods(node) {
        reasons.push("Too many pods".into());
    }
    let fixed = [
        ("cpu", wants.cpu, used.cpu, has.cpu),
        ("memory", wants.memory, used.memory, has.memory),
        ("ephemeral-storage", wants.ephemeral_storage, used.ephemeral_storage, has.ephemeral_storage),
    ];
    let amount = |map: &std::collections::BTreeMap<String, i64>, name: &str| map.get(name).copied().unwrap_or(0);
    let other = wants
        .other
        .iter()
        .map(|(name, wanted)| (name.as_str(), *wanted, amount(&used.other, name), amount(&has.other, name)));
    for (name, wanted, used, total) in fixed.into_iter().chain(other) {
        if wanted > 0 && wanted > total - used {
            reasons.push(format!("Insufficient {name}").into());
            resolvable &= wanted <= total;
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(Rejection { plugin: Plugin::NodeResourcesFit, reasons, resolvable }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use super::*;
    use crate::testing::{cluster, node, place, pod, requesting};
    use serde_json::json;

    fn reasons(cluster: &Cluster, pod: Pod) -> Vec<String> {
        let incoming = Arc::new(PodInfo::new(pod.into()));
        let cycle = Cycle::prepare(cluster, &incoming).unwrap();
        let refused = cluster.candidates().filter_map(|candidate| check(&cycle, cluster, candidate).err());
        refused.flat_map(|rejection| rejection.reasons).map(String::from).collect()
    }

    #[test]
    fn resources() {
        let mut cluster =
            cluster([node("n", json!({"status": {"allocatable": {"example.com/gpu": "1", "pods": "2"}}}))]);
        assert!(reasons(&cluster, requesting("p", json!({"cpu": "4", "example.com/gpu": "1"}), json!({}))).is_empty());
        place(&mut cluster, requesting("a", json!({"cpu": "3", "example.com/gpu": "1"}), json!({})), "n");
        assert_eq!(
            reasons(&cluster, requesting("p", json!({"cpu": "2", "memory": "9Gi", "example.com/gpu": "1"}), json!({}))),
            ["Insufficient cpu", "Insufficient memory", "Insufficient example.com/gpu"]
        );
        place(&mut cluster, pod("b", json!({})), "n");
        assert_eq!(reasons(&cluster, pod("p", json!({}))), ["Too many pods"]);
    }

    #[test]
    fn unschedulable_taints_and_selectors() {
        let cordoned = node("n", json!({"spec": {"unschedulable": true}}));
        assert_eq!(reasons(&cluster([cordoned.clone()]), pod("p", json!({}))), ["node(s) were unschedulable"]);
        let tolerating =
            pod("p", json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}));
        assert!(reasons(&cluster([cordoned]), tolerating).is_empty());

        let tainted = node(
            "n",
            json!({"spec": {"taints": [
            {"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "PreferNoSchedule"}]}}),
        );
        assert_eq!(reasons(&cluster([tainted.clone()]), pod("p", json!({}))), ["node(s) had untolerated taint(s)"]);
        assert!(
            reasons(&cluster([tainted]), pod("p", json!({"tolerations": [{"key": "a", "operator": "Exists"}]})))
                .is_empty()
        );
        assert_eq!(
            reasons(&cluster([node("n", json!({}))]), pod("p", json!({"nodeSelector": {"disk": "ssd"}}))),
            ["node(s) didn't match Pod's node affinity/selector"]
        );
    }

    #[test]
    fn host_ports() {
        let with_port = |name: &str, address: &str, protocol: &str| {
            pod(
                name,
                json!({"containers": [{"name": "c", "ports": [
                {"containerPort": 80, "hostPort": 8080, "hostIP": address, "protocol": protocol}]}]}),
            )
        };
        let mut cluster = cluster([node("n", json!({}))]);
        place(&mut cluster, with_port("a", "127.0.0.1", "TCP"), "n");
        assert!(reasons(&cluster, with_port("b", "127.0.0.2", "TCP")).is_empty());
        assert!(reasons(&cluster, with_port("b", "127.0.0.1", "UDP")).is_empty());
        assert_eq!(
            reasons(&cluster, with_port("b", "", "TCP")),
            ["node(s) didn't have free ports for the requested pod ports"]
        );
    }

    #[test]
    fn nominated_pods_hold_their_place() {
        let mut cluster = cluster([node("n", json!({}))]);
        let prio = |name: &str, priority: i32| requesting(name, json!({"cpu": "3"}), json!({"priority": priority}));
        cluster.nominate(Arc::new(PodInfo::new(prio("waiting", 10).into())), "n");
        assert_eq!(reasons(&cluster, prio("low", 1)), ["Insufficient cpu"]);
        assert!(reasons(&cluster, prio("high", 11)).is_empty());
        assert!(reasons(&cluster, prio("waiting", 10)).is_empty(), "not against itself");
    }

    #[test]
    fn a_node_that_is_too_small_is_not_worth_evictions() {
        let incoming = Arc::new(PodInfo::new(requesting("p", json!({"cpu": "5"}), json!({})).into()));
        let cluster = cluster([node("n", json!({}))]);
        let cycle = Cycle::prepare(&cluster, &incoming).unwrap();
        let rejection = check(&cycle, &cluster, cluster.candidate("n").unwrap()).unwrap_err();
        assert!(!rejection.resolvable, "evicting cannot help when the node is too small");
    }
}
