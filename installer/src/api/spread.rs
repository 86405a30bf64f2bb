//! Cluster DNS on more than one node.
//!
//! Its pods are scheduled as soon as there is a node, so the first one gets all of them: the loss of that host would take every
//! name away until its pods are given up, minutes later. Nothing in Kubernetes moves them apart once there are more nodes.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, EvictParams, ListParams};
use kube::{Client, ResourceExt as _};

use super::wait::node_ready;

const DNS: &str = "k8s-app=kube-dns";
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Evicts one of the pods if all are on one node and another one could take it. Gives the node that had all.
pub async fn dns(client: &Client) -> anyhow::Result<Option<String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let found = pods.list(&ListParams::default().labels(DNS)).await.context("cannot ask for cluster DNS's pods")?.items;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.context("cannot ask for nodes")?;
    let Some((node, pod)) = crowded(&found, &nodes.items) else { return Ok(None) };
    pods.evict(&pod.name_any(), &EvictParams::default()).await.context("cannot evict one of cluster DNS's pods")?;
    Ok(Some(node.to_owned()))
}

/// The node that has all of several pods although another could have some, and the pod that goes.
fn crowded<'p>(pods: &'p [Pod], nodes: &[Node]) -> Option<(&'p str, &'p Pod)> {
    let mut placed = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|pod| (node_of(pod), pod));
    let (node, _) = placed.next()?;
    let node = node?;
    let rest: Vec<_> = placed.collect();
    let all_there = rest.iter().all(|(its, _)| *its == Some(node));
    let last = rest.last()?.1;
    let elsewhere = nodes.iter().any(|other| other.name_any() != node && takes(other));
    (all_there && elsewhere).then_some((node, last))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Ready, and without a taint that cluster DNS does not tolerate.
fn takes(node: &Node) -> bool {
    let spec = node.spec.clone().unwrap_or_default();
    let repels = |effect: &str, key: &str| effect != "PreferNoSchedule" && key != CONTROL_PLANE;
    node_ready(node)
        && !spec.unschedulable.unwrap_or(false)
        && !spec.taints.unwrap_or_default().iter().any(|taint| repels(&taint.effect, &taint.key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, spec: Value) -> Node {
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": status})).unwrap()
    }

    fn pods(nodes: &[Option<&str>]) -> Vec<Pod> {
        let pod = |(number, node): (usize, &Option<&str>)| {
            let metadata = json!({"name": format!("dns-{number}")});
            serde_json::from_value(json!({"metadata": metadata, "spec": {"nodeName": node, "containers": []}})).unwrap()
        };
        nodes.iter().enumerate().map(pod).collect()
    }

    #[test]
    fn one_of_two_on_the_same_node_goes_if_there_is_another_for_it() {
        let (one, two) = (node("h1", json!({})), node("h2", json!({})));
        let together = pods(&[Some("h1"), Some("h1")]);
        let goes =
            |pods: &[Pod], nodes: &[Node]| crowded(pods, nodes).map(|(node, pod)| (node.to_owned(), pod.name_any()));
        assert_eq!(goes(&together, &[one.clone(), two.clone()]), Some(("h1".to_owned(), "dns-1".to_owned())));
        assert_eq!(goes(&together, std::slice::from_ref(&one)), None, "nobody else is there");
        for apart in [&[Some("h1"), Some("h2")][..], &[Some("h1")], &[Some("h1"), None], &[]] {
            assert_eq!(goes(&pods(apart), &[one.clone(), two.clone()]), None, "{apart:?}");
        }
        let control_plane = node("h2", json!({"taints": [{"key": CONTROL_PLANE, "effect": "NoSchedule"}]}));
        assert!(goes(&together, &[one.clone(), control_plane]).is_some());
        for full in [json!({"unschedulable": true}), json!({"taints": [{"key": "db", "effect": "NoSchedule"}]})] {
            assert_eq!(goes(&together, &[one.clone(), node("h2", full)]), None);
        }
    }
}
