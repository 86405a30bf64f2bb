//! Gives every node a range of the cluster CIDR (`spec.podCIDR`), as kube-controller-manager's RangeAllocator does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use crate::core::{Ctx, Key, WorkQueue, meta};

const NAME: &str = "node-ipam-controller";

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    let nodes = ctx.informers.nodes.clone();
    ctx.informers.nodes.on_change(move |_, new| match new {
        Some(node) => to.add(Key::of(node.as_ref())),
        // A range became free: a node that found none may have it.
        None => nodes.list().iter().filter(|it| range_of(it).is_none()).for_each(|it| to.add(Key::of(it.as_ref()))),
    });
    let informers = ctx.informers.clone();
    let ready = async move { informers.nodes.wait_synced().await };
    let (ctx, given) = (Arc::new(ctx.clone()), Arc::new(Mutex::new(Given::default())));
    // One worker: two at once could give out the same range.
    queue.work(tasks, NAME, 1, ready, move |key| {
        let (ctx, given) = (ctx.clone(), given.clone());
        async move { sync(&ctx, &given, &key).await }
    });
}

fn range_of(node: &Node) -> Option<IpNet> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|it| !it.is_empty())?.parse().ok()
}

/// The first range of `mask` bits in `cluster` that overlaps none of `used`.
fn free_range(cluster: IpNet, mask: u8, used: &BTreeSet<IpNet>) -> Option<IpNet> {
    let overlaps = |range: &IpNet| used.iter().any(|it| it.contains(range) || range.contains(it));
    cluster.subnets(mask).ok()?.find(|range| !overlaps(range))
}

/// What was given to whom, by uid, from the moment before it is asked for: the answer may be lost, though the node has its range, and
/// what the watch tells may be from before.
#[derive(Default)]
struct Given(BTreeMap<String, IpNet>);

impl Given {
    /// The range of a node without one: a free one, or that which was asked for already.
    fn range(&mut self, node: &Node, nodes: &[Arc<Node>], cluster: IpNet, mask: u8) -> Option<IpNet> {
        self.0.retain(|uid, _| nodes.iter().any(|it| meta::uid(&it.metadata) == uid));
        let uid = meta::uid(&node.metadata);
        if let Some(range) = self.0.get(uid) {
            return Some(*range);
        }
        let used = nodes.iter().filter_map(|it| range_of(it)).chain(self.0.values().copied()).collect();
        let range = free_range(cluster, mask, &used)?;
        self.0.insert(uid.to_owned(), range);
        Some(range)
    }
}

async fn sync(ctx: &Ctx, given: &Mutex<Given>, key: &Key) -> anyhow::Result<()> {
    let Some(node) = ctx.informers.nodes.get_key(key) else { return Ok(()) };
    if range_of(&node).is_some() {
        return Ok(());
    }
    let nodes = ctx.informers.nodes.list();
    let range = given.lock().range(&node, &nodes, ctx.config.cluster_cidr, ctx.config.node_cidr_mask_size);
    let Some(range) = range else {
        ctx.events.warning(
            NAME,
            node.as_ref(),
            "CIDRNotAvailable",
            format!("Node {key} status is now: CIDRNotAvailable"),
        );
        return Ok(());
    };
    let text = range.to_string();
    let patch = json!({"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": text, "podCIDRs": [text]}});
    match ctx.cluster_api::<Node>().patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(node) => ctx.informers.nodes.note(node),
        Err(error) if meta::not_found(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot give node {key} the range {range}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn gives_the_first_free_range() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let used = BTreeSet::from([net("10.244.0.0/24"), net("10.244.2.0/23")]);
        assert_eq!(free_range(net("10.244.0.0/16"), 24, &used), Some(net("10.244.1.0/24")));
        let used = BTreeSet::from([net("10.244.0.0/24"), net("10.244.1.0/24"), net("10.244.2.0/23")]);
        assert_eq!(free_range(net("10.244.0.0/16"), 24, &used), Some(net("10.244.4.0/24")));
        assert_eq!(free_range(net("10.244.0.0/22"), 24, &used), None);
    }

    #[test]
    fn a_range_is_given_once_whatever_is_heard_of_it() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let node = |uid: &str, range: Option<&str>| {
            let node = json!({"metadata": {"name": uid, "uid": uid}, "spec": {"podCIDR": range}});
            Arc::new(serde_json::from_value::<Node>(node).unwrap())
        };
        let mut given = Given::default();
        let mut range = |of: &str, nodes: &[Arc<Node>]| {
            let node = nodes.iter().find(|it| meta::uid(&it.metadata) == of).unwrap();
            given.range(node, nodes, net("10.244.0.0/22"), 24)
        };
        // a has its range, or will have: its write was not answered, or the watch is late
        let nodes = [node("a", None), node("b", None), node("c", Some("10.244.2.0/24"))];
        assert_eq!(range("a", &nodes), Some(net("10.244.0.0/24")));
        assert_eq!(range("b", &nodes), Some(net("10.244.1.0/24")));
        assert_eq!(range("a", &nodes), Some(net("10.244.0.0/24")), "what was asked for once");
        // a is gone, and so is what it had
        let nodes = [node("b", None), node("c", Some("10.244.2.0/24")), node("d", None)];
        assert_eq!(range("d", &nodes), Some(net("10.244.0.0/24")));
    }
}
