//! Gives every node a range of the cluster CIDR (`spec.podCIDR`), as kube-controller-manager's RangeAllocator does.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
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
    let ctx = Arc::new(ctx.clone());
    // One worker: two at once could give out the same range.
    queue.work(tasks, NAME, 1, ready, move |key| {
        let ctx = ctx.clone();
        async move { sync(&ctx, &key).await }
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

async fn sync(ctx: &Ctx, key: &Key) -> anyhow::Result<()> {
    let Some(node) = ctx.informers.nodes.get_key(key) else { return Ok(()) };
    if range_of(&node).is_some() {
        return Ok(());
    }
    let used = ctx.informers.nodes.list().iter().filter_map(|it| range_of(it)).collect();
    let Some(range) = free_range(ctx.config.cluster_cidr, ctx.config.node_cidr_mask_size, &used) else {
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
        // Known at once, so that the next node is not given the same range before the watch delivers this one.
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
}
