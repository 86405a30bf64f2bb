//! Removes pods nobody will: those of nodes that no longer exist, terminating ones that were never bound, those on nodes
//! declared out of service, and finished ones beyond a limit (upstream: pkg/controller/podgc).

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use crate::core::context::NODE;
use crate::core::{Ctx, Key, WorkQueue, affinity, meta, pods};

const NAME: &str = "pod-garbage-collector";
const TERMINATED_LIMIT: usize = 12500;
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// A node may reappear: its kubelet registers again after a restart.
const QUARANTINE: std::time::Duration = std::time::Duration::from_secs(40);

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let (to, all) = (queue.clone(), ctx.informers.pods.clone());
    ctx.informers.nodes.on_change(move |old, new| {
        let Some(node) = new.or(old) else { return };
        let wait = if new.is_none() {
            QUARANTINE
        } else if is_out_of_service(node) {
            std::time::Duration::ZERO
        } else {
            return;
        };
        all.by(NODE, meta::name(&node.metadata)).iter().for_each(|it| to.add_after(Key::of(it.as_ref()), wait));
    });
    let (to, nodes) = (queue.clone(), ctx.informers.nodes.clone());
    ctx.informers.pods.on_change(move |_, new| {
        let Some(pod) = new else { return };
        match pods::node_name(pod) {
            None if pods::is_terminating(pod) => to.add(Key::of(pod.as_ref())),
            Some(node) if nodes.get("", node).is_none() => to.add_after(Key::of(pod.as_ref()), QUARANTINE),
            Some(_) if pods::is_terminating(pod) || pods::is_terminal(pod) => to.add(Key::of(pod.as_ref())),
            _ => {}
        }
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.nodes.wait_synced().await;
        informers.pods.wait_synced().await;
    };
    let ctx = Arc::new(ctx.clone());
    queue.work(tasks, NAME, 2, ready, move |key| {
        let ctx = ctx.clone();
        async move { sync(&ctx, &key).await }
    });
}

fn is_out_of_service(node: &Node) -> bool {
    let ready = node
        .status
        .iter()
        .flat_map(|it| it.conditions.iter().flatten())
        .any(|it| it.type_ == "Ready" && it.status == "True");
    !ready && affinity::taints(node).iter().any(|it| it.key == OUT_OF_SERVICE)
}

async fn sync(ctx: &Ctx, key: &Key) -> anyhow::Result<()> {
    let Some(pod) = ctx.informers.pods.get_key(key) else { return Ok(()) };
    match pods::node_name(&pod) {
        None if pods::is_terminating(&pod) => remove(ctx, &pod, None).await,
        None => Ok(()),
        Some(node) => match ctx.informers.nodes.get("", node) {
            // The cache says so; only the API server can be believed.
            None => match ctx
                .cluster_api::<Node>()
                .get_metadata_opt(node)
                .await
                .with_context(|| format!("cannot look up node {node}"))?
            {
                Some(_) => Ok(()),
                None => remove(ctx, &pod, Some("PodGC: node no longer exists")).await,
            },
            Some(node) if is_out_of_service(&node) && pods::is_terminating(&pod) => remove(ctx, &pod, None).await,
            Some(_) if pods::is_terminal(&pod) && too_many(ctx, &pod) => remove(ctx, &pod, None).await,
            Some(_) => Ok(()),
        },
    }
}

/// Is this pod among the oldest finished ones beyond the limit?
fn too_many(ctx: &Ctx, pod: &Pod) -> bool {
    let finished: Vec<_> = ctx.informers.pods.list().into_iter().filter(|it| pods::is_terminal(it)).collect();
    let older = finished.iter().filter(|it| it.metadata.creation_timestamp < pod.metadata.creation_timestamp).count();
    older < finished.len().saturating_sub(TERMINATED_LIMIT)
}

async fn remove(ctx: &Ctx, pod: &Pod, disrupted: Option<&str>) -> anyhow::Result<()> {
    let (ns, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
    let api = ctx.api::<Pod>(ns);
    if !pods::is_terminal(pod) {
        let condition = disrupted.map(|message| json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": message, "lastTransitionTime": meta::now_time()}));
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed", "conditions": condition.into_iter().collect::<Vec<_>>()}});
        meta::ignore_gone(api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await)
            .with_context(|| format!("cannot mark pod {ns}/{name} failed"))?;
    }
    let now = meta::delete_exactly(&pod.metadata).grace_period(0);
    meta::ignore_gone(api.delete(name, &now).await).map(drop).with_context(|| format!("cannot remove pod {ns}/{name}"))
}
