//! The loop: changes of the cluster in, decisions out.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::Config;
use crate::cluster::{Candidate, Cluster, PodInfo, Uid};
use crate::cycle::{Cycle, Plugin, Plugins, Rejection, summary};
use crate::filters::check;
use crate::preemption::{Outcome, preempt};
use crate::queue::Queue;
use crate::scores;
use crate::selectors::labels_of;
use crate::table::{Delta, Table};
use crate::volumes::ClaimDecision;
use crate::writer::{Bound, Writer};

const GATED: &str = "Scheduling is blocked due to non-empty scheduling gates";
/// An unchanged `FailedScheduling` message is told again after this long.
const REPEAT_EVENT: Duration = Duration::from_secs(300);

const NODE_CHANGED: Plugins = Plugins::ALL;
const POD_LEFT: Plugins = Plugins::of(&[
    Plugin::NodeResourcesFit,
    Plugin::NodePorts,
    Plugin::VolumeRestrictions,
    Plugin::PodTopologySpread,
    Plugin::InterPodAffinity,
]);
const POD_PLACED: Plugins = Plugins::of(&[Plugin::PodTopologySpread, Plugin::InterPodAffinity]);
const STORAGE_CHANGED: Plugins = Plugins::of(&[Plugin::VolumeBinding]);
const NAMESPACE_CHANGED: Plugins = Plugins::of(&[Plugin::InterPodAffinity]);

enum Change {
    Pod(Box<Event<Pod>>),
    Node(Box<Event<Node>>),
    Namespace(Event<Namespace>),
    Claim(Box<Event<PersistentVolumeClaim>>),
    Volume(Box<Event<PersistentVolume>>),
    Class(Event<StorageClass>),
    Budget(Event<PodDisruptionBudget>),
}

/// A binding under way.
struct Flight {
    task: AbortHandle,
    decisions: Vec<ClaimDecision>,
}

pub struct Engine {
    client: Client,
    config: Config,
    pods: Table<Pod>,
    nodes: Table<Node>,
    cluster: Cluster,
    queue: Queue,
    flights: HashMap<Uid, Flight>,
    told: HashMap<Uid, (String, Instant)>,
    writer: Writer,
    bound: mpsc::UnboundedReceiver<Bound>,
}

impl Engine {
    pub fn new(client: Client, config: Config) -> Self {
        let (writer, bound) = Writer::new(client.clone(), config.clone());
        Self {
            client,
            pods: Table::default(),
            nodes: Table::default(),
            cluster: Cluster::default(),
            queue: Queue::new(config.backoff()),
            flights: HashMap::new(),
            told: HashMap::new(),
            config,
            writer,
            bound,
        }
    }

    /// What is being bound when it ends stays unbound, unless the server has it already: whoever schedules next decides anew.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let result = self.schedule_until(shutdown).await;
        self.flights.values().for_each(|flight| flight.task.abort());
        result
    }

    async fn schedule_until(&mut self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut changes = changes(&self.client);
        let mut shutdown = pin!(shutdown);
        loop {
            let due = self.queue.next_due();
            let sleep = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let ready = self.synced() && self.queue.has_ready();
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                Some(change) = changes.next() => self.apply(change),
                Some(bound) = self.bound.recv() => self.finished(bound),
                () = sleep => self.queue.tick(Instant::now()),
                () = std::future::ready(()), if ready => self.schedule_next(),
            }
        }
    }

    fn synced(&self) -> bool {
        self.pods.synced()
            && self.nodes.synced()
            && self.cluster.namespaces.synced()
            && self.cluster.claims.synced()
            && self.cluster.volumes.synced()
            && self.cluster.classes.synced()
            && self.cluster.budgets.synced()
    }

    fn apply(&mut self, change: Change) {
        let now = Instant::now();
        match change {
            Change::Pod(event) => self.pods.apply(*event).into_iter().for_each(|delta| self.pod_changed(delta, now)),
            Change::Node(event) => self.nodes.apply(*event).into_iter().for_each(|delta| self.node_changed(delta, now)),
            Change::Namespace(event) => {
                wake_if(&mut self.queue, !self.cluster.namespaces.apply(event).is_empty(), NAMESPACE_CHANGED, now)
            }
            Change::Claim(event) => {
                wake_if(&mut self.queue, !self.cluster.claims.apply(*event).is_empty(), STORAGE_CHANGED, now)
            }
            Change::Volume(event) => {
                wake_if(&mut self.queue, !self.cluster.volumes.apply(*event).is_empty(), STORAGE_CHANGED, now)
            }
            Change::Class(event) => {
                wake_if(&mut self.queue, !self.cluster.classes.apply(event).is_empty(), STORAGE_CHANGED, now)
            }
            Change::Budget(event) => {
                self.cluster.budgets.apply(event);
            }
        }
    }

    fn node_changed(&mut self, delta: Delta<Node>, now: Instant) {
        match delta {
            Delta::Added(node) => {
                self.cluster.set_node(node);
                self.queue.wake(NODE_CHANGED, now);
            }
            Delta::Updated { old, new } => {
                let matters = matters(&old, &new);
                self.cluster.set_node(new);
                wake_if(&mut self.queue, matters, NODE_CHANGED, now);
            }
            Delta::Deleted(node) => {
                self.cluster.remove_node(&node.name_any());
                // A claim's earlier decision for this node no longer binds anyone.
                self.queue.wake(STORAGE_CHANGED, now);
            }
        }
    }

    fn pod_changed(&mut self, delta: Delta<Pod>, now: Instant) {
        match delta {
            Delta::Deleted(pod) => self.pod_gone(&uid_of(&pod), now),
            Delta::Added(pod) => self.pod_seen(None, pod, now),
            Delta::Updated { old, new } => self.pod_seen(Some(&old), new, now),
        }
    }

    fn pod_gone(&mut self, uid: &str, now: Instant) {
        self.queue.remove(uid);
        self.told.remove(uid);
        if let Some(flight) = self.flights.remove(uid) {
            flight.task.abort();
            self.cluster.reserved.release(&flight.decisions);
        }
        let had_nomination = self.cluster.nominated_node(uid).is_some();
        if self.cluster.remove_pod(uid) || had_nomination {
            self.queue.wake(POD_LEFT, now);
        }
    }

    fn pod_seen(&mut self, old: Option<&Pod>, pod: Arc<Pod>, now: Instant) {
        let info = Arc::new(PodInfo::new(Arc::clone(&pod)));
        if info.is_terminal() {
            self.pod_gone(&info.uid, now);
        } else if info.node_name().is_some() {
            let relabelled = old.is_none_or(|old| {
                labels_of(old) != labels_of(&*pod) || old.metadata.deletion_timestamp != pod.metadata.deletion_timestamp
            });
            let placed = old.is_none_or(|old| old.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()));
            let resized = old.is_some_and(|old| crate::resources::requests(old) != info.requests);
            self.queue.remove(&info.uid);
            self.told.remove(&info.uid);
            self.cluster.set_pod(pod);
            wake_if(&mut self.queue, relabelled || placed, POD_PLACED, now);
            wake_if(&mut self.queue, resized, POD_LEFT, now);
        } else if self.is_ours(&info) {
            self.pending_seen(old, info, now);
        }
    }

    fn is_ours(&self, info: &PodInfo) -> bool {
        let name = info.pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.unwrap_or("default-scheduler") == self.config.scheduler_name && !info.is_terminating()
    }

    fn pending_seen(&mut self, old: Option<&Pod>, info: Arc<PodInfo>, now: Instant) {
        if info
            .pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()))
        {
            self.queue.remove(&info.uid);
            self.writer.not_scheduled(&info, "SchedulingGated", GATED);
            return;
        }
        let changed = old.is_some_and(|old| old.spec != info.pod.spec || labels_of(old) != info.labels());
        let uid = info.uid.clone();
        if old.is_none() {
            // Another instance of the scheduler may have made room for it.
            let nominated = info.pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
            if let Some(node) = nominated.filter(|node| !node.is_empty()) {
                self.cluster.nominate(Arc::clone(&info), &node);
            }
        }
        self.queue.add(info);
        if changed {
            self.queue.wake_one(&uid, now);
        }
    }

    fn schedule_next(&mut self) {
        let Some(pod) = self.queue.pop() else { return };
        let cycle = match Cycle::prepare(&self.cluster, &pod) {
            Ok(cycle) => cycle,
            Err(rejection) => return self.refused_everywhere(&pod, &rejection),
        };
        let (feasible, rejections) = self.sift(&cycle);
        let choice = self.choose(&cycle, &feasible);
        match choice.map(|candidate| {
            (candidate.name().to_owned(), cycle.volumes.decide(&self.cluster, candidate.node).unwrap_or_default())
        }) {
            Some((node, decisions)) => self.place(pod, node, decisions),
            None => self.refused(&cycle, &rejections),
        }
    }

    fn sift(&self, cycle: &Cycle) -> (Vec<Candidate<'_>>, Vec<(String, Rejection)>) {
        // A nominated node has been made free for this pod: if it fits there, the others need not be asked.
        let nominated = self.cluster.nominated_node(&cycle.incoming.uid).and_then(|name| self.cluster.candidate(name));
        if let Some(candidate) = nominated.filter(|candidate| check(cycle, &self.cluster, *candidate).is_ok()) {
            return (vec![candidate], Vec::new());
        }
        let mut feasible = Vec::new();
        let mut rejections = Vec::new();
        for candidate in self.cluster.candidates() {
            match check(cycle, &self.cluster, candidate) {
                Ok(()) => feasible.push(candidate),
                Err(rejection) => rejections.push((candidate.name().to_owned(), rejection)),
            }
        }
        (feasible, rejections)
    }

    fn choose<'a>(&self, cycle: &Cycle, feasible: &[Candidate<'a>]) -> Option<Candidate<'a>> {
        if let [only] = feasible {
            return Some(*only);
        }
        let rated = scores::rate(&cycle.incoming, &self.cluster, feasible);
        scores::best(&rated, feasible, |count| rand::random_range(0..count))
    }

    /// The capacity is taken from this moment on; a failed binding gives it back.
    fn place(&mut self, pod: Arc<PodInfo>, node: String, decisions: Vec<ClaimDecision>) {
        tracing::debug!(pod = %pod.name, namespace = %pod.namespace, node, "placing");
        self.cluster.assume(Arc::clone(&pod), &node);
        self.cluster.reserved.reserve(&decisions, &node);
        let uid = pod.uid.clone();
        let task = self.writer.bind(pod, node, decisions.clone());
        self.flights.insert(uid, Flight { task, decisions });
    }

    fn finished(&mut self, bound: Bound) {
        let Bound { pod, node, decisions, result } = bound;
        if self.flights.remove(&pod.uid).is_none() {
            return;
        }
        self.cluster.reserved.release(&decisions);
        match result {
            Ok(()) => {
                self.told.remove(&pod.uid);
                self.queue.remove(&pod.uid);
                self.writer.scheduled(&pod, &node);
            }
            Err(error) => {
                let now = Instant::now();
                let message = format!("{error:#}");
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, node, error = message, "cannot bind; trying again");
                self.cluster.forget(&pod.uid);
                self.queue.retry(&pod.uid, now);
                self.queue.wake(POD_LEFT, now);
                if let Some(pod) = self.queue.get(&pod.uid).cloned() {
                    self.tell(&pod, "SchedulerError", message, now);
                }
            }
        }
    }

    fn refused_everywhere(&mut self, pod: &Arc<PodInfo>, rejection: &Rejection) {
        let now = Instant::now();
        let nodes = self.cluster.candidates().count();
        let message = match nodes {
            0 => summary(0, std::iter::empty()),
            _ => format!(
                "0/{nodes} nodes are available: {}. preemption: 0/{nodes} nodes are available: {nodes} Preemption is not helpful for scheduling.",
                rejection.reasons.join(", ")
            ),
        };
        self.queue.park(&pod.uid, Plugins::of(&[rejection.plugin]), now);
        self.tell(pod, "Unschedulable", message, now);
    }

    fn refused(&mut self, cycle: &Cycle, rejections: &[(String, Rejection)]) {
        let now = Instant::now();
        let pod = &cycle.incoming;
        let mut plugins = Plugins::default();
        rejections.iter().for_each(|(_, rejection)| plugins.insert(rejection.plugin));
        if rejections.is_empty() {
            plugins = Plugins::ALL;
        }
        let mut message = summary(rejections.len(), rejections.iter().map(|(_, rejection)| rejection));
        let mut room_made = false;
        match preempt(cycle, &self.cluster, rejections) {
            Outcome::Evict { node, victims } => {
                room_made = self.make_room(pod, &node, &victims);
                // The victims' departure frees room of whatever kind.
                plugins = Plugins::ALL;
            }
            Outcome::Refused(reason) if !rejections.is_empty() => message = format!("{message} {reason}"),
            Outcome::Refused(_) => {}
        }
        self.queue.park(&pod.uid, plugins, now);
        if room_made {
            self.queue.wake_one(&pod.uid, now);
        }
        self.tell(pod, "Unschedulable", message, now);
    }

    /// Evicts the victims. True when some of them were only placed, not yet bound: their room is free at once.
    fn make_room(&mut self, pod: &Arc<PodInfo>, node: &str, victims: &[Arc<PodInfo>]) -> bool {
        let mut free_at_once = false;
        tracing::info!(pod = %pod.name, namespace = %pod.namespace, node, victims = victims.len(), "preempting");
        let displaced: Vec<_> =
            self.cluster.nominated_to(node).filter(|other| other.priority() < pod.priority()).cloned().collect();
        for other in displaced {
            self.cluster.withdraw_nomination(&other.uid);
            self.writer.nominate(&other, None);
            self.queue.wake_one(&other.uid, Instant::now());
        }
        self.cluster.nominate(Arc::clone(pod), node);
        self.writer.nominate(pod, Some(node));
        for victim in victims {
            if let Some(flight) = self.flights.remove(&victim.uid) {
                // Decided but not yet bound: it gives up its place and queues again.
                flight.task.abort();
                self.cluster.reserved.release(&flight.decisions);
                self.cluster.forget(&victim.uid);
                self.queue.retry(&victim.uid, Instant::now());
                free_at_once = true;
            }
            if !victim.is_terminating() && victim.node_name().is_some() {
                self.writer.evict(victim, pod, node);
            }
        }
        free_at_once
    }

    fn tell(&mut self, pod: &Arc<PodInfo>, reason: &str, message: String, now: Instant) {
        self.writer.not_scheduled(pod, reason, &message);
        let repeated =
            self.told.get(&pod.uid).is_some_and(|(old, at)| *old == message && now.duration_since(*at) < REPEAT_EVENT);
        if !repeated {
            self.told.insert(pod.uid.clone(), (message.clone(), now));
            self.writer.failed(pod, message);
        }
    }
}

fn wake_if(queue: &mut Queue, condition: bool, plugins: Plugins, now: Instant) {
    if condition {
        queue.wake(plugins, now);
    }
}

/// Heartbeats change nothing that a decision looks at.
fn matters(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let rules = |node: &Node| node.spec.as_ref().map(|spec| (spec.unschedulable.unwrap_or(false), spec.taints.clone()));
    labels_of(old) != labels_of(new) || rules(old) != rules(new) || allocatable(old) != allocatable(new)
}

fn uid_of(pod: &Arc<Pod>) -> Uid {
    PodInfo::new(Arc::clone(pod)).uid
}

fn changes(client: &Client) -> SelectAll<BoxStream<'static, Change>> {
    futures::stream::select_all([
        follow(Api::all(client.clone()), |event| Change::Pod(Box::new(event))).boxed(),
        follow(Api::all(client.clone()), |event| Change::Node(Box::new(event))).boxed(),
        follow(Api::all(client.clone()), Change::Namespace).boxed(),
        follow(Api::all(client.clone()), |event| Change::Claim(Box::new(event))).boxed(),
        follow(Api::all(client.clone()), |event| Change::Volume(Box::new(event))).boxed(),
        follow(Api::all(client.clone()), Change::Class).boxed(),
        follow(Api::all(client.clone()), Change::Budget).boxed(),
    ])
}

/// One resource's events; errors are logged and the watch starts again by itself, with back-off.
fn follow<K>(api: Api<K>, wrap: impl Fn(Event<K>) -> Change + Send + 'static) -> impl Stream<Item = Change> + Send
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    watch(api, watcher::Config::default())
        .modify(|object| object.meta_mut().managed_fields = None)
        .default_backoff()
        .filter_map(move |event| {
            let change = match event {
                Ok(event) => Some(wrap(event)),
                Err(error) => {
                    tracing::warn!(resource = %K::plural(&()), %error, "watch failed; trying again");
                    None
                }
            };
            std::future::ready(change)
        })
}

#[cfg(test)]
mod tests;
