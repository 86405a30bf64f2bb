//! Node health: a node whose Lease and Ready condition both went stale is Unknown; taints follow the Ready condition and
//! `spec.unschedulable`; pods of a node that is not Ready are marked so (upstream: pkg/controller/nodelifecycle).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::core::context::{NODE, NODE_LEASES};
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
    /// What the caches showed when the API server had `sign` already: no news.
    outdated: Option<String>,
}

impl Seen {
    fn new(sign: String, outdated: Option<String>) -> Self {
        Self { sign, at: Instant::now(), outdated }
    }
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
        let lease = self.ctx.informers.leases.get(NODE_LEASES, &key.name);
        let node = match self.stale_in(key, &node, lease.as_deref(), false) {
            Some(wait) => {
                self.queue.add_after(key.clone(), wait);
                node
            }
            None if stale_conditions(&node).is_empty() => node,
            None => match self.mark_unknown(key).await? {
                Some(node) => Arc::new(node),
                None => return Ok(()),
            },
        };
        // the pods are marked even while the taints cannot be written: a cache that lags has them refused until it catches up
        let tainted = self.write_taints(&node).await;
        if ready(&node) != "True" {
            self.mark_pods(&node).await?;
        }
        tainted
    }

    /// How long until the node counts as stale if nothing more is heard; `None` if it is. `live` is what the API server
    /// said, not the caches.
    fn stale_in(&self, key: &Key, node: &Node, lease: Option<&Lease>, live: bool) -> Option<Duration> {
        let renewed = lease.and_then(|it| it.spec.as_ref()?.renew_time.as_ref().map(|at| at.0));
        let heartbeat = condition(node, "Ready")
            .filter(|it| it.reason.as_deref() != Some(STOPPED))
            .and_then(|it| it.last_heartbeat_time.as_ref())
            .map(|at| at.0);
        let sign = format!("{}/{renewed:?}/{heartbeat:?}", meta::uid(&node.metadata));
        let mut seen = self.seen.lock();
        let entry = seen.entry(key.name.clone()).or_insert_with(|| Seen::new(sign.clone(), None));
        if entry.sign != sign && (live || entry.outdated.as_ref() != Some(&sign)) {
            let outdated = live.then(|| entry.sign.clone());
            *entry = Seen::new(sign, outdated);
        }
        let grace = if renewed.is_none() && heartbeat.is_none() { STARTUP_GRACE } else { GRACE };
        Some((entry.at + grace).saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    async fn live(&self, name: &str) -> anyhow::Result<Option<Node>> {
        let live = self.ctx.cluster_api::<Node>().get_opt(name).await;
        live.with_context(|| format!("cannot look up node {name}"))
    }

    /// Marks the node, unless the API server has heard of it what the caches have not. The node as it is now; `None` if it
    /// is gone.
    async fn mark_unknown(&self, key: &Key) -> anyhow::Result<Option<Node>> {
        let lease = self.ctx.api::<Lease>(NODE_LEASES).get_opt(&key.name).await;
        let lease = lease.with_context(|| format!("cannot look up the lease of node {key}"))?;
        let Some(node) = self.live(&key.name).await? else { return Ok(None) };
        if let Some(wait) = self.stale_in(key, &node, lease.as_ref(), true) {
            self.queue.add_after(key.clone(), wait);
            return Ok(Some(node));
        }
        let conditions = stale_conditions(&node);
        if conditions.is_empty() {
            return Ok(Some(node));
        }
        let patch = json!({"metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version}, "status": {"conditions": conditions}});
        let api = self.ctx.cluster_api::<Node>();
        let written = api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        let node = written.with_context(|| format!("cannot mark node {key} Unknown"))?;
        self.ctx.events.normal(NAME, &node, "NodeNotReady", format!("Node {key} status is now: NodeNotReady"));
        Ok(Some(node))
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

    /// Takes the node's pods out of their Services, unless it has come back and only the cache does not know.
    async fn mark_pods(&self, node: &Node) -> anyhow::Result<()> {
        let name = meta::name(&node.metadata);
        let mut there = self.ctx.informers.pods.by(NODE, name);
        there.retain(|pod| pods::is_ready(pod));
        if there.is_empty() || self.live(name).await?.is_none_or(|node| ready(&node) == "True") {
            return Ok(());
        }
        for pod in there {
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

    /// What the API server has of the node, and the marks it was sent.
    struct Server {
        renewed: &'static str,
        ready: &'static str,
        /// Whether its node is newer than the caches'.
        newer: bool,
        marks: usize,
        marked_pods: usize,
    }

    impl Default for Server {
        fn default() -> Self {
            Self { renewed: "", ready: "True", newer: false, marks: 0, marked_pods: 0 }
        }
    }

    fn lease(renewed: &str) -> serde_json::Value {
        json!({"metadata": {"name": "n", "namespace": NODE_LEASES}, "spec": {"renewTime": renewed}})
    }

    fn ready_pod() -> serde_json::Value {
        json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "n", "containers": []}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn controller(server: Arc<Mutex<Server>>) -> Controller {
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let mut server = server.lock();
            let mut status = http::StatusCode::OK;
            let answer = match (request.method().as_str(), request.uri().path()) {
                ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n") => lease(server.renewed),
                ("PATCH", "/api/v1/nodes/n" | "/api/v1/nodes/n/status") if server.newer => {
                    status = http::StatusCode::CONFLICT;
                    json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "modified"})
                }
                (method, "/api/v1/nodes/n" | "/api/v1/nodes/n/status") => {
                    server.marks += usize::from(method == "PATCH");
                    serde_json::to_value(node(Some(server.ready), json!([]), false)).unwrap()
                }
                ("PATCH", "/api/v1/namespaces/default/pods/p/status") => {
                    server.marked_pods += 1;
                    ready_pod()
                }
                other => panic!("{other:?}"),
            };
            let mut answer = http::Response::new(kube::client::Body::from(answer.to_string().into_bytes()));
            *answer.status_mut() = status;
            async { Ok::<_, std::convert::Infallible>(answer) }
        });
        let client = kube::Client::new(service, "default");
        let config = json!({"clusterSigningCertFile": "", "clusterSigningKeyFile": "", "rootCaFile": ""});
        let ctx = Ctx {
            events: crate::core::events::Recorder::new(client.clone()).0,
            client,
            informers: Arc::new(crate::core::Informers::new()),
            config: Arc::new(serde_json::from_value(config).unwrap()),
        };
        ctx.informers.nodes.apply(node(Some("True"), json!([]), false));
        Controller { ctx, queue: WorkQueue::new(), seen: Mutex::default() }
    }

    #[tokio::test]
    async fn a_silent_node_is_marked_only_when_the_api_server_has_not_heard_of_it_either() {
        const OLD: &str = "2026-01-01T00:00:00.000000Z";
        const NEW: &str = "2026-01-01T00:00:30.000000Z";
        let server = Arc::new(Mutex::new(Server { renewed: NEW, ..Server::default() }));
        let it = controller(server.clone());
        it.ctx.informers.leases.apply(serde_json::from_value(lease(OLD)).unwrap());
        let key = Key::new("", "n");
        let silence = || it.seen.lock().get_mut("n").unwrap().at -= GRACE;
        it.sync(&key).await.unwrap();
        silence();
        it.sync(&key).await.unwrap();
        assert_eq!(server.lock().marks, 0, "renewed, though the watch has not told");
        // the cache's older lease is no sign of life
        it.sync(&key).await.unwrap();
        silence();
        it.sync(&key).await.unwrap();
        assert_eq!(server.lock().marks, 1);
    }

    #[tokio::test]
    async fn pods_of_a_dead_node_are_marked_while_its_taints_are_refused() {
        let server = Arc::new(Mutex::new(Server { ready: "False", newer: true, ..Server::default() }));
        let it = controller(server.clone());
        it.ctx.informers.nodes.apply(node(Some("False"), json!([]), false));
        it.ctx.informers.pods.apply(serde_json::from_value(ready_pod()).unwrap());
        let synced = it.sync(&Key::new("", "n")).await;
        assert!(synced.is_err(), "the taints are to be tried again");
        assert_eq!(server.lock().marked_pods, 1);
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
