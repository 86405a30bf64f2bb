//! Node health: a node whose Lease and Ready condition both went stale is Unknown; taints follow the Ready condition and
//! `spec.unschedulable`; pods of a node that is not Ready are marked so (upstream: pkg/controller/nodelifecycle).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::core::context::NODE;
use crate::core::{Ctx, Key, WorkQueue, meta, pods};

const NAME: &str = "node-controller";
const GRACE: Duration = Duration::from_secs(40);
/// A node that never reported has longer to start.
const STARTUP_GRACE: Duration = Duration::from_secs(60);
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that taint a node while they hold.
const PRESSURES: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// When a sign of life was last seen, by our own clock: the node's clock may differ.
struct Seen {
    sign: String,
    at: Instant,
}

struct Controller {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
    seen: Mutex<HashMap<String, Seen>>,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.nodes.on_change(move |old, new| new.or(old).into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let to = queue.clone();
    ctx.informers
        .leases
        .on_change(move |_, new| new.into_iter().for_each(|it| to.add(Key::new("", meta::name(&it.metadata)))));
    // A pod that turns up Ready on a node already known to be dead is marked too.
    let (to, nodes) = (queue.clone(), ctx.informers.nodes.clone());
    ctx.informers.pods.on_change(move |_, new| {
        if let Some(node) = new.filter(|pod| pods::is_ready(pod)).and_then(|pod| pods::node_name(pod))
            && nodes.get("", node).is_some_and(|it| ready(&it) != "True")
        {
            to.add(Key::new("", node));
        }
    });
    let informers = ctx.informers.clone();
    let synced = async move {
        informers.nodes.wait_synced().await;
        informers.leases.wait_synced().await;
        informers.pods.wait_synced().await;
    };
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone(), seen: Mutex::default() });
    queue.work(tasks, NAME, 4, synced, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|it| it.type_ == kind)
}

/// "True", "False" or "Unknown"; a node that never reported counts as Unknown.
fn ready(node: &Node) -> &str {
    condition(node, "Ready").map_or("Unknown", |it| it.status.as_str())
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(node) = self.ctx.informers.nodes.get_key(key) else {
            self.seen.lock().remove(&key.name);
            return Ok(());
        };
        let node = match self.stale_in(key, &node) {
            Some(wait) => {
                self.queue.add_after(key.clone(), wait);
                node
            }
            None if stale_conditions(&node).is_empty() => node,
            None => self.mark_unknown(key, &node).await?,
        };
        self.write_taints(&node).await?;
        if ready(&node) == "True" { Ok(()) } else { self.mark_pods(&node).await }
    }

    /// How long until the node counts as stale if nothing more is heard; `None` if it is.
    fn stale_in(&self, key: &Key, node: &Node) -> Option<Duration> {
        let renewed = self
            .ctx
            .informers
            .leases
            .get(crate::core::context::NODE_LEASES, &key.name)
            .and_then(|it| it.spec.as_ref()?.renew_time.as_ref().map(|at| at.0));
        let heartbeat = condition(node, "Ready")
            .filter(|it| it.reason.as_deref() != Some(STOPPED))
            .and_then(|it| it.last_heartbeat_time.as_ref())
            .map(|at| at.0);
        let sign = format!("{}/{renewed:?}/{heartbeat:?}", meta::uid(&node.metadata));
        let now = Instant::now();
        let mut seen = self.seen.lock();
        let entry = seen.entry(key.name.clone()).or_insert_with(|| Seen { sign: sign.clone(), at: now });
        if entry.sign != sign {
            *entry = Seen { sign, at: now };
        }
        let grace = if renewed.is_none() && heartbeat.is_none() { STARTUP_GRACE } else { GRACE };
        Some((entry.at + grace).saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    async fn mark_unknown(&self, key: &Key, node: &Node) -> anyhow::Result<Arc<Node>> {
        let patch = json!({"metadata": {"uid": node.metadata.uid}, "status": {"conditions": stale_conditions(node)}});
        let api = self.ctx.cluster_api::<Node>();
        let written = api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        let node = written.with_context(|| format!("cannot mark node {key} Unknown"))?;
        self.ctx.events.normal(NAME, &node, "NodeNotReady", format!("Node {key} status is now: NodeNotReady"));
        Ok(Arc::new(node))
    }

    async fn write_taints(&self, node: &Node) -> anyhow::Result<()> {
        let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let wanted = taints(node);
        if current == wanted {
            return Ok(());
        }
        let name = meta::name(&node.metadata);
        let patch = json!({"metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version}, "spec": {"taints": wanted}});
        match self.ctx.cluster_api::<Node>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot write the taints of node {name}"))
            }
            _ => Ok(()),
        }
    }

    /// Takes the node's pods out of their Services.
    async fn mark_pods(&self, node: &Node) -> anyhow::Result<()> {
        for pod in self.ctx.informers.pods.by(NODE, meta::name(&node.metadata)) {
            if !pods::is_ready(&pod) {
                continue;
            }
            let (ns, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
            let condition = json!({"type": "Ready", "status": "False", "reason": "NodeNotReady", "lastTransitionTime": meta::now_time()});
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
            let result =
                self.ctx.api::<Pod>(ns).patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
            if meta::ignore_gone(result).with_context(|| format!("cannot mark pod {ns}/{name} not ready"))?.is_some() {
                self.ctx.events.warning(NAME, pod.as_ref(), "NodeNotReady", "Node is not ready");
            }
        }
        Ok(())
    }
}

const STOPPED: &str = "NodeStatusUnknown";

/// The conditions a silent node must have and does not have yet.
fn stale_conditions(node: &Node) -> Vec<NodeCondition> {
    let at = meta::now_time();
    let mut result = Vec::new();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let unknown = |old: Option<&NodeCondition>| NodeCondition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: Some(if old.is_some() { STOPPED } else { "NodeStatusNeverUpdated" }.into()),
            message: Some(
                if old.is_some() {
                    "Kubelet stopped posting node status."
                } else {
                    "Kubelet never posted node status."
                }
                .into(),
            ),
            last_heartbeat_time: old
                .map_or_else(|| node.metadata.creation_timestamp.clone(), |it| it.last_heartbeat_time.clone()),
            last_transition_time: Some(at.clone()),
        };
        match condition(node, kind) {
            Some(old) if old.status == "Unknown" => {}
            old => result.push(unknown(old)),
        }
    }
    result
}

/// All taints the node should have: foreign ones as they are, ours by its state. A taint that stays keeps its time.
fn taints(node: &Node) -> Vec<Taint> {
    let spec = node.spec.clone().unwrap_or_default();
    let current = spec.taints.unwrap_or_default();
    let mut own: Vec<(&str, &str)> = Vec::new();
    match ready(node) {
        "True" => {}
        "False" => own.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        _ => own.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
    }
    if spec.unschedulable == Some(true) {
        own.push((UNSCHEDULABLE, "NoSchedule"));
    }
    own.extend(
        PRESSURES
            .iter()
            .filter(|(kind, _)| condition(node, kind).is_some_and(|it| it.status == "True"))
            .map(|(_, key)| (*key, "NoSchedule")),
    );
    // A node that never reported was just registered: the kubelet's own not-ready taint stays until it does.
    let new = condition(node, "Ready").is_none();
    let managed = |taint: &Taint| {
        let ours = [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, key)| *key == taint.key);
        ours && !(new && taint.key == NOT_READY)
    };
    let mut result: Vec<Taint> = current
        .iter()
        .filter(|it| !managed(it) || own.contains(&(it.key.as_str(), it.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in own {
        let never_reported = new && key == UNREACHABLE;
        if !never_reported && !result.iter().any(|it| it.key == key && it.effect == effect) {
            result.push(Taint {
                key: key.into(),
                effect: effect.into(),
                value: None,
                time_added: Some(meta::now_time()),
            });
        }
    }
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(ready: Option<&str>, taints: serde_json::Value, unschedulable: bool) -> Node {
        let conditions: Vec<_> = ready.iter().map(|it| json!({"type": "Ready", "status": it})).collect();
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints, "unschedulable": unschedulable}, "status": {"conditions": conditions}})).unwrap()
    }

    fn keys(node: &Node) -> Vec<String> {
        taints(node).iter().map(|it| format!("{}:{}", it.key.rsplit('/').next().unwrap(), it.effect)).collect()
    }

    #[test]
    fn taints_follow_the_ready_condition_and_foreign_ones_stay() {
        let mine = json!({"key": "mine", "effect": "NoExecute"});
        assert_eq!(
            keys(&node(Some("False"), json!([mine]), false)),
            ["mine:NoExecute", "not-ready:NoSchedule", "not-ready:NoExecute"]
        );
        assert_eq!(
            keys(&node(Some("Unknown"), json!([{"key": NOT_READY, "effect": "NoExecute"}]), false)),
            ["unreachable:NoSchedule", "unreachable:NoExecute"]
        );
        assert_eq!(
            keys(&node(Some("True"), json!([mine, {"key": UNREACHABLE, "effect": "NoExecute"}]), true)),
            ["mine:NoExecute", "unschedulable:NoSchedule"]
        );
        assert_eq!(
            keys(&node(None, json!([{"key": NOT_READY, "effect": "NoSchedule"}]), false)),
            ["not-ready:NoSchedule"]
        );
    }

    #[test]
    fn unknown_is_written_once() {
        let silent = node(Some("True"), json!([]), false);
        assert_eq!(stale_conditions(&silent).len(), 4);
        let mut marked = silent.clone();
        marked.status.as_mut().unwrap().conditions = Some(stale_conditions(&silent));
        assert!(stale_conditions(&marked).is_empty());
    }
}
