//! DaemonSet: one pod on every node that fits (upstream: pkg/controller/daemon). Pods are bound by the scheduler, through a
//! required node affinity on `metadata.name`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::core::context::OWNER;
use crate::core::expectations::Expectations;
use crate::core::pods::{self, Availability};
use crate::core::spawn::{create_pods, observe};
use crate::core::{Ctx, Key, WorkQueue, affinity, claim, history, meta};

const NAME: &str = "daemonset-controller";
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(900);

/// Taints of a node's own state, which daemons are there to bear.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

struct Controller {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
    expectations: Arc<Expectations>,
    /// When a failed pod of (set uid/node) may be replaced, and how long the next wait will be.
    failures: Mutex<BTreeMap<String, (tokio::time::Instant, Duration)>>,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let expectations = Arc::new(Expectations::default());
    register(ctx, &queue, &expectations);
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.daemon_sets.wait_synced().await;
        informers.pods.wait_synced().await;
        informers.nodes.wait_synced().await;
        informers.revisions.wait_synced().await;
    };
    let controller =
        Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone(), expectations, failures: Mutex::default() });
    queue.work(tasks, NAME, 4, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

fn register(ctx: &Ctx, queue: &Arc<WorkQueue>, expectations: &Arc<Expectations>) {
    let (to, forget) = (queue.clone(), expectations.clone());
    ctx.informers.daemon_sets.on_change(move |old, new| {
        if let (Some(old), None) = (old, new) {
            forget.forget(meta::uid(&old.metadata));
        }
        new.or(old).into_iter().for_each(|it| to.add(Key::of(it.as_ref())));
    });
    let (to, sets, seen) = (queue.clone(), ctx.informers.daemon_sets.clone(), expectations.clone());
    ctx.informers.pods.on_change(move |old, new| {
        observe(&seen, old, new, "DaemonSet");
        for pod in [old, new].into_iter().flatten() {
            let ns = meta::namespace(&pod.metadata);
            match meta::controller_of(&pod.metadata) {
                Some(owner) if owner.kind == "DaemonSet" => to.add(Key::new(ns, &owner.name)),
                Some(_) => {}
                None => sets.in_namespace(ns).iter().for_each(|it| to.add(Key::of(it.as_ref()))),
            }
        }
    });
    let (to, sets) = (queue.clone(), ctx.informers.daemon_sets.clone());
    ctx.informers.nodes.on_change(move |old, new| {
        let placement = |node: &Arc<Node>| {
            (node.metadata.labels.clone(), node.spec.clone().map(|it| (it.taints, it.unschedulable)))
        };
        if old.map(placement) != new.map(placement) {
            sets.list().iter().for_each(|it| to.add(Key::of(it.as_ref())));
        }
    });
}

/// What one pass does.
#[derive(Default)]
struct Plan {
    create: Vec<String>,
    delete: Vec<Arc<Pod>>,
    failed: Vec<(String, Arc<Pod>)>,
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(set) = self.ctx.informers.daemon_sets.get_key(key) else { return Ok(()) };
        let spec = &set.spec;
        let uid = meta::uid(&set.metadata);
        let satisfied = self.expectations.satisfied(uid);
        let selector = meta::selector(&spec.selector).context("selector does not parse")?;
        let informer = &self.ctx.informers.pods;
        let candidates =
            informer.by(OWNER, uid).into_iter().chain(informer.by(OWNER, &meta::orphan_index(&key.ns))).collect();
        let owned = claim::claim(&self.ctx.client, set.as_ref(), &selector, candidates, None).await?;
        if set.metadata.deletion_timestamp.is_some() {
            // what it has is the garbage collector's now: no history is begun
            return Ok(());
        }
        let collisions = set.status.as_ref().and_then(|it| it.collision_count);
        let (history, update) =
            history::sync(&self.ctx, set.as_ref(), &spec.selector, &spec.template, collisions).await?;
        let hash = history::hash_label(&update).to_owned();
        let nodes = self.ctx.informers.nodes.list();
        let by_node = by_node(&owned);
        let mut outcome = Ok(());
        if satisfied {
            let mut plan = place(&set, &nodes, &by_node);
            if plan.create.is_empty() && plan.delete.is_empty() && plan.failed.is_empty() {
                plan = roll(&set, &nodes, &by_node, &hash, meta::now());
            }
            outcome = self.act(key, &set, plan, &hash).await;
        }
        let (status, wait) = status(&set, &nodes, &by_node, &hash, meta::now());
        self.write_status(&set, status).await?;
        if let Some(wait) = wait {
            self.queue.add_after(key.clone(), wait);
        }
        outcome?;
        let live = |it: &ControllerRevision| {
            let hash_of = history::hash_label(it);
            hash_of == hash
                || owned.iter().any(|pod| meta::label(&pod.metadata, history::REVISION_LABEL) == Some(hash_of))
        };
        history::prune(&self.ctx, &key.ns, &history, live, spec.revision_history_limit).await
    }

    async fn act(&self, key: &Key, set: &Arc<DaemonSet>, mut plan: Plan, hash: &str) -> anyhow::Result<()> {
        for (node, pod) in std::mem::take(&mut plan.failed) {
            match self.backoff(meta::uid(&set.metadata), &node) {
                None => {
                    let name = meta::name(&pod.metadata);
                    self.ctx.events.warning(
                        NAME,
                        set.as_ref(),
                        "FailedDaemonPod",
                        format!("Found failed daemon pod {}/{name} on node {node}, will try to kill it", key.ns),
                    );
                    plan.delete.push(pod);
                }
                Some(wait) => self.queue.add_after(key.clone(), wait),
            }
        }
        self.delete(set, plan.delete).await?;
        self.create(set, plan.create, hash).await
    }

    /// `None`: act now. A quiet time of twice the wait starts afresh.
    fn backoff(&self, uid: &str, node: &str) -> Option<Duration> {
        let mut failures = self.failures.lock();
        let now = tokio::time::Instant::now();
        failures.retain(|_, (at, wait)| now < *at + *wait * 2);
        let (at, wait) = failures.entry(format!("{uid}/{node}")).or_insert((now, FIRST_BACKOFF));
        if now < *at {
            return Some(*at - now);
        }
        *at = now + *wait;
        *wait = (*wait * 2).min(LAST_BACKOFF);
        None
    }

    async fn create(&self, set: &Arc<DaemonSet>, nodes: Vec<String>, hash: &str) -> anyhow::Result<()> {
        let make = |number: usize| new_pod(set, &nodes[number], hash);
        let error = create_pods(&self.ctx, NAME, set, &self.expectations, nodes.len(), make).await;
        error.map_or(Ok(()), |error| Err(error).context("cannot create daemon pods"))
    }

    async fn delete(&self, set: &Arc<DaemonSet>, excess: Vec<Arc<Pod>>) -> anyhow::Result<()> {
        let uid = meta::uid(&set.metadata);
        let api = self.ctx.api::<Pod>(meta::namespace(&set.metadata));
        for pod in excess {
            let name = meta::name(&pod.metadata);
            self.expectations.expect_delete(uid, meta::uid(&pod.metadata));
            let result = api.delete(name, &meta::delete_exactly(&pod.metadata)).await;
            match &result {
                Ok(_) => self.ctx.events.normal(NAME, set.as_ref(), "SuccessfulDelete", format!("Deleted pod: {name}")),
                Err(_) => self.expectations.deleted(uid, meta::uid(&pod.metadata)),
            }
            meta::ignore_gone(result).with_context(|| format!("cannot delete daemon pod {name}"))?;
        }
        Ok(())
    }

    async fn write_status(&self, set: &DaemonSet, status: DaemonSetStatus) -> anyhow::Result<()> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = set.clone();
        changed.status = Some(status);
        let name = meta::name(&set.metadata);
        match self
            .ctx
            .api::<DaemonSet>(meta::namespace(&set.metadata))
            .replace_status(name, &PostParams::default(), &changed)
            .await
        {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot write the status of DaemonSet {name}"))
            }
            _ => Ok(()),
        }
    }
}

/// The node a daemon pod is for: where it is bound, or where its affinity sends it.
fn target_node(pod: &Pod) -> Option<String> {
    if let Some(node) = pods::node_name(pod) {
        return Some(node.to_owned());
    }
    let required = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields.into_iter().find(|it| it.key == "metadata.name" && it.operator == "In")?.values.as_ref()?.first().cloned()
}

type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

fn by_node(owned: &[Arc<Pod>]) -> ByNode {
    let mut result = ByNode::new();
    for pod in owned {
        if let Some(node) = target_node(pod) {
            result.entry(node).or_default().push(pod.clone());
        }
    }
    // The oldest scheduled pod is the one to keep.
    for pods in result.values_mut() {
        pods.sort_by_key(|pod| {
            (pods::node_name(pod).is_none(), pod.metadata.creation_timestamp.as_ref().map(|at| at.0))
        });
    }
    result
}

fn pod_spec(set: &DaemonSet) -> PodSpec {
    let mut spec = set.spec.template.spec.clone().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    let network = host_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.iter().copied().chain(network) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Default::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec
}

/// (may start here, may stay here)
fn fits(spec: &PodSpec, node: &Node) -> (bool, bool) {
    let named = spec.node_name.as_deref().is_none_or(|name| name.is_empty() || name == meta::name(&node.metadata));
    if !named || !affinity::matches_node(spec, node) {
        return (false, false);
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let hard = affinity::taints(node).iter().filter(|taint| taint.effect != "PreferNoSchedule");
    let start = affinity::tolerates_all(tolerations, hard);
    let stay =
        affinity::tolerates_all(tolerations, affinity::taints(node).iter().filter(|taint| taint.effect == "NoExecute"));
    (start, stay)
}

/// Starts missing pods and stops those on nodes that no longer fit.
fn place(set: &DaemonSet, nodes: &[Arc<Node>], by_node: &ByNode) -> Plan {
    let spec = pod_spec(set);
    let mut plan = Plan::default();
    for node in nodes {
        let name = meta::name(&node.metadata);
        let here = by_node.get(name).map(Vec::as_slice).unwrap_or_default();
        let (start, stay) = fits(&spec, node);
        if start && here.is_empty() {
            plan.create.push(name.to_owned());
        } else if !stay {
            plan.delete.extend(here.iter().filter(|pod| !pods::is_terminating(pod)).cloned());
        } else {
            let (failed, rest): (Vec<_>, Vec<_>) =
                here.iter().filter(|pod| !pods::is_terminating(pod)).cloned().partition(|pod| pods::is_terminal(pod));
            plan.failed.extend(failed.into_iter().map(|pod| (name.to_owned(), pod)));
            let surge = max_surge(set, nodes.len()) > 0;
            let current = |pod: &&Arc<Pod>| pods::is_ready(pod);
            // With surge an old and a new pod share the node until the new one is ready.
            let allowed = if surge && rest.iter().filter(current).count() < rest.len() { 2 } else { 1 };
            if surge && rest.len() == 2 && rest.iter().all(|pod| pods::is_ready(pod)) {
                plan.delete.extend(rest.first().cloned());
            } else {
                plan.delete.extend(rest.into_iter().skip(allowed));
            }
        }
    }
    let known = |name: &String| nodes.iter().any(|node| meta::name(&node.metadata) == name);
    // Pods that wait for a node that is gone can never start.
    plan.delete.extend(
        by_node
            .iter()
            .filter(|(node, _)| !known(node))
            .flat_map(|(_, pods)| pods)
            .filter(|pod| pods::node_name(pod).is_none() && !pods::is_terminating(pod))
            .cloned(),
    );
    plan
}

fn rolling(
    set: &DaemonSet,
    of: fn(&k8s_openapi::api::apps::v1::RollingUpdateDaemonSet) -> Option<&IntOrString>,
    default: i32,
    nodes: usize,
) -> i32 {
    let rolling = set.spec.update_strategy.as_ref().and_then(|it| it.rolling_update.as_ref());
    rolling.and_then(of).map_or(default, |value| meta::scaled(value, nodes as i32, true))
}

fn max_surge(set: &DaemonSet, nodes: usize) -> i32 {
    rolling(set, |it| it.max_surge.as_ref(), 0, nodes)
}

/// Replaces outdated pods within maxUnavailable, or adds new ones beside them within maxSurge.
fn roll(set: &DaemonSet, nodes: &[Arc<Node>], by_node: &ByNode, hash: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let on_delete = set.spec.update_strategy.as_ref().and_then(|it| it.type_.as_deref()) == Some("OnDelete");
    if on_delete {
        return plan;
    }
    let spec = pod_spec(set);
    let wanted: Vec<&Arc<Node>> = nodes.iter().filter(|node| fits(&spec, node).0).collect();
    let surge = max_surge(set, wanted.len());
    let unavailable_allowed =
        rolling(set, |it| it.max_unavailable.as_ref(), 1, wanted.len()).max(i32::from(surge == 0));
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let available =
        |pod: &Pod| !pods::is_terminating(pod) && pods::availability(pod, min_ready, now) == Availability::Available;
    let current = |pod: &Pod| meta::label(&pod.metadata, history::REVISION_LABEL) == Some(hash);
    let (mut unavailable, mut surging, mut candidates) = (0, 0, Vec::new());
    for node in wanted {
        let name = meta::name(&node.metadata);
        let here = by_node.get(name).map(Vec::as_slice).unwrap_or_default();
        let old = here.iter().find(|pod| !current(pod) && !pods::is_terminating(pod));
        let new = here.iter().find(|pod| current(pod));
        if surge > 0 && new.is_some() && old.is_some() {
            surging += 1;
        }
        match old {
            // An outdated pod that does not work costs nothing to replace.
            Some(old) if !available(old) && new.is_none() => {
                unavailable += 1;
                plan.delete.push(old.clone());
            }
            Some(old) if new.is_none() => candidates.push((name.to_owned(), old.clone())),
            _ if !here.iter().any(|pod| available(pod)) => unavailable += 1,
            _ => {}
        }
    }
    for (node, pod) in candidates {
        if surge > 0 {
            if surging < surge {
                surging += 1;
                plan.create.push(node);
            }
        } else if unavailable < unavailable_allowed {
            unavailable += 1;
            plan.delete.push(pod);
        }
    }
    plan
}

fn status(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    by_node: &ByNode,
    hash: &str,
    now: Timestamp,
) -> (DaemonSetStatus, Option<Duration>) {
    let spec = pod_spec(set);
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let old = set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
        ..Default::default()
    };
    let (mut available, mut updated, mut wait) = (0, 0, None::<Duration>);
    for node in nodes {
        let here = by_node.get(meta::name(&node.metadata)).map(Vec::as_slice).unwrap_or_default();
        let wanted = fits(&spec, node).0;
        status.desired_number_scheduled += i32::from(wanted);
        if here.is_empty() {
            continue;
        }
        if !wanted {
            status.number_misscheduled += 1;
            continue;
        }
        status.current_number_scheduled += 1;
        let first = &here[0];
        status.number_ready += i32::from(pods::is_ready(first));
        match pods::availability(first, min_ready, now) {
            Availability::Available => available += 1,
            Availability::In(soon) => wait = Some(wait.map_or(soon, |it| it.min(soon))),
            Availability::NotReady => {}
        }
        updated += i32::from(here.iter().any(|pod| meta::label(&pod.metadata, history::REVISION_LABEL) == Some(hash)));
    }
    let number = |value: i32, old: Option<i32>| if value == 0 && old.is_none() { None } else { Some(value) };
    status.number_available = number(available, old.number_available);
    status.number_unavailable = number(status.desired_number_scheduled - available, old.number_unavailable);
    status.updated_number_scheduled = number(updated, old.updated_number_scheduled);
    (status, wait)
}

fn new_pod(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.template.clone();
    let generate = format!("{}-", meta::name(&set.metadata));
    let mut pod = pods::from_template(&template, meta::namespace(&set.metadata), &generate, meta::controller_ref(set));
    pod.metadata.labels.get_or_insert_default().insert(history::REVISION_LABEL.into(), hash.to_owned());
    let mut spec = pod_spec(set);
    pin(&mut spec, node);
    pod.spec = Some(spec);
    pod
}

/// Every term of the required affinity, or a new one, names the node.
fn pin(spec: &mut PodSpec, node: &str) {
    let only = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector { node_selector_terms: Vec::new() });
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![only.clone()]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn set() -> DaemonSet {
        serde_json::from_value(json!({"metadata": {"name": "ds", "namespace": "ns", "uid": "u"}, "spec": {"selector": {}, "template": {"spec": {"containers": [], "nodeSelector": {"os": "linux"}}}}})).unwrap()
    }

    fn node(name: &str, os: &str, taint: Option<(&str, &str)>) -> Arc<Node> {
        let taints: Vec<_> = taint.iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name, "labels": {"os": os}}, "spec": {"taints": taints}}),
            )
            .unwrap(),
        )
    }

    fn pod_on(node: &str, hash: &str, ready: bool) -> Arc<Pod> {
        let mut pod = new_pod(&set(), node, hash);
        let made = crate::core::pods::testing::pod(&format!("ds-{node}-{hash}"), Some(node), "Running", ready);
        pod.metadata.name = made.metadata.name;
        pod.metadata.uid = made.metadata.uid;
        pod.status = made.status;
        Arc::new(pod)
    }

    #[test]
    fn places_on_fitting_nodes_only() {
        let nodes = [
            node("a", "linux", Some(("node.kubernetes.io/unschedulable", "NoSchedule"))),
            node("b", "windows", None),
            node("c", "linux", Some(("mine", "NoSchedule"))),
            node("d", "linux", None),
        ];
        let owned = by_node(&[pod_on("b", "h", true), pod_on("d", "h", true)]);
        let plan = place(&set(), &nodes, &owned);
        assert_eq!(plan.create, ["a"]);
        assert_eq!(plan.delete.len(), 1);
        let (status, _) = status(&set(), &nodes, &owned, "h", meta::now());
        assert_eq!(
            (
                status.desired_number_scheduled,
                status.current_number_scheduled,
                status.number_misscheduled,
                status.number_ready
            ),
            (2, 1, 1, 1)
        );
    }

    #[test]
    fn a_pod_is_pinned_and_found_by_its_affinity() {
        let pod = new_pod(&set(), "n7", "h");
        assert_eq!(target_node(&pod).as_deref(), Some("n7"));
        assert_eq!(pod.spec.unwrap().tolerations.unwrap().len(), 6);
    }

    #[test]
    fn rolls_one_node_at_a_time_but_broken_pods_at_once() {
        let nodes = [node("a", "linux", None), node("b", "linux", None), node("c", "linux", None)];
        let plan = roll(
            &set(),
            &nodes,
            &by_node(&[pod_on("a", "old", true), pod_on("b", "old", true), pod_on("c", "old", true)]),
            "new",
            meta::now(),
        );
        assert_eq!(plan.delete.len(), 1);
        let plan = roll(
            &set(),
            &nodes,
            &by_node(&[pod_on("a", "new", false), pod_on("b", "old", true), pod_on("c", "old", true)]),
            "new",
            meta::now(),
        );
        assert!(plan.delete.is_empty());
        let plan = roll(
            &set(),
            &nodes,
            &by_node(&[pod_on("a", "old", false), pod_on("b", "old", true), pod_on("c", "old", false)]),
            "new",
            meta::now(),
        );
        assert_eq!(plan.delete.len(), 2);
    }
}
