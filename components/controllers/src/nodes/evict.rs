//! The taint evictor: deletes pods that do not tolerate a NoExecute taint of their node, at once or after the shortest
//! `tolerationSeconds`; the taint's removal cancels (upstream: pkg/controller/tainteviction).

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use crate::core::context::NODE;
use crate::core::{Ctx, Key, WorkQueue, affinity, meta, pods};

const NAME: &str = "taint-eviction-controller";

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let (to, all) = (queue.clone(), ctx.informers.pods.clone());
    ctx.informers.nodes.on_change(move |old, new| {
        let Some(node) = new else { return };
        if old.is_none_or(|old| affinity::taints(old) != affinity::taints(node)) {
            all.by(NODE, meta::name(&node.metadata)).iter().for_each(|it| to.add(Key::of(it.as_ref())));
        }
    });
    let to = queue.clone();
    ctx.informers.pods.on_change(move |old, new| {
        let Some(pod) = new else { return };
        let placed = |pod: &Pod| {
            (pods::node_name(pod).map(str::to_owned), pod.spec.as_ref().and_then(|it| it.tolerations.clone()))
        };
        if pods::node_name(pod).is_some() && old.is_none_or(|old| placed(old) != placed(pod)) {
            to.add(Key::of(pod.as_ref()));
        }
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.nodes.wait_synced().await;
        informers.pods.wait_synced().await;
    };
    let (ctx, again) = (Arc::new(ctx.clone()), queue.clone());
    queue.work(tasks, NAME, 4, ready, move |key| {
        let (ctx, again) = (ctx.clone(), again.clone());
        async move { sync(&ctx, &again, &key).await }
    });
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stays,
    Evict,
    EvictIn(Duration),
}

/// Every NoExecute taint must be tolerated; each is for the shortest time its tolerations allow.
fn judge(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Verdict {
    let mut verdict = Verdict::Stays;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let used: Vec<_> = tolerations.iter().filter(|it| affinity::tolerates(it, taint)).collect();
        if used.is_empty() {
            return Verdict::Evict;
        }
        let Some(seconds) = used.iter().filter_map(|it| it.toleration_seconds).min() else { continue };
        let since = taint.time_added.as_ref().map_or(now, |at| at.0);
        let wait = meta::until(since, seconds.max(0), now);
        if wait.is_zero() {
            return Verdict::Evict;
        }
        verdict = match verdict {
            Verdict::EvictIn(other) => Verdict::EvictIn(other.min(wait)),
            _ => Verdict::EvictIn(wait),
        };
    }
    verdict
}

async fn sync(ctx: &Ctx, queue: &WorkQueue, key: &Key) -> anyhow::Result<()> {
    let Some(pod) = ctx.informers.pods.get_key(key) else { return Ok(()) };
    let Some(node) = pods::node_name(&pod).and_then(|it| ctx.informers.nodes.get("", it)) else { return Ok(()) };
    if pods::is_terminating(&pod) {
        return Ok(());
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut verdict = judge(affinity::taints(&node), tolerations, meta::now());
    if verdict == Verdict::Evict {
        // The cache may still show the taint of a node that has come back, and a pod that was placed there since.
        let name = meta::name(&node.metadata);
        let live = ctx.cluster_api::<Node>().get_opt(name).await;
        let Some(live) = live.with_context(|| format!("cannot look up node {name}"))? else { return Ok(()) };
        verdict = judge(affinity::taints(&live), tolerations, meta::now());
    }
    match verdict {
        Verdict::Stays => Ok(()),
        Verdict::EvictIn(wait) => {
            queue.add_after(key.clone(), wait);
            Ok(())
        }
        Verdict::Evict => evict(ctx, &pod).await,
    }
}

async fn evict(ctx: &Ctx, pod: &Pod) -> anyhow::Result<()> {
    let (ns, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
    let api = ctx.api::<Pod>(ns);
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": meta::now_time()});
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
    meta::ignore_gone(api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await)
        .with_context(|| format!("cannot mark pod {ns}/{name} for eviction"))?;
    ctx.events.normal(NAME, pod, "TaintManagerEviction", format!("Marking for deletion Pod {ns}/{name}"));
    meta::ignore_gone(api.delete(name, &meta::delete_exactly(&pod.metadata)).await)
        .map(drop)
        .with_context(|| format!("cannot evict pod {ns}/{name}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_shortest_toleration_decides() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let taint: Taint =
            serde_json::from_value(json!({"key": "k", "effect": "NoExecute", "timeAdded": "1970-01-01T00:00:00Z"}))
                .unwrap();
        let tolerate = |seconds: Option<i64>| Toleration {
            key: Some("k".into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Default::default()
        };
        assert_eq!(judge(std::slice::from_ref(&taint), &[], at(0)), Verdict::Evict);
        assert_eq!(judge(std::slice::from_ref(&taint), &[tolerate(None)], at(0)), Verdict::Stays);
        assert_eq!(
            judge(std::slice::from_ref(&taint), &[tolerate(Some(300)), tolerate(Some(30))], at(10)),
            Verdict::EvictIn(Duration::from_secs(20))
        );
        assert_eq!(judge(std::slice::from_ref(&taint), &[tolerate(Some(30))], at(30)), Verdict::Evict);
        let soft = Taint { effect: "NoSchedule".into(), ..taint };
        assert_eq!(judge(&[soft], &[], at(0)), Verdict::Stays);
    }
}
