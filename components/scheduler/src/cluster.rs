//! What the scheduler knows: nodes with the pods on them (also those it has just decided for), claims, volumes, namespaces, budgets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodAffinityTerm, PodSpec, WeightedPodAffinityTerm,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;

use crate::resources::{self, Resources};
use crate::selectors::{Labels, labels_of};
use crate::table::{Table, key};

pub type Uid = String;

/// A port of the node's that a pod takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// The same port and protocol on overlapping addresses.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let any = |address: &str| address == "0.0.0.0" || address == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || any(&self.address) || any(&other.address))
    }
}

/// A pod with everything derived from it that is asked for again and again.
#[derive(Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub uid: Uid,
    pub namespace: String,
    pub name: String,
    pub requests: Resources,
    pub scoring_requests: Resources,
    pub host_ports: Vec<HostPort>,
    /// `namespace/name` of its claims.
    pub claims: Vec<String>,
    has_affinity: bool,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_else(|| key(&namespace, &name)),
            requests: resources::requests(&pod),
            scoring_requests: resources::requests_for_scoring(&pod),
            host_ports: host_ports(&pod),
            claims: claim_keys(&pod, &namespace, &name),
            has_affinity: affinity
                .is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some()),
            namespace,
            name,
            pod,
        }
    }

    pub fn labels(&self) -> &Labels {
        labels_of(&*self.pod)
    }

    pub fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
    }

    pub fn node_name(&self) -> Option<&str> {
        self.pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    pub fn is_terminal(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// The uid of the controller that made this pod.
    pub fn controller(&self) -> Option<&str> {
        let owners = self.pod.metadata.owner_references.as_deref().unwrap_or_default();
        owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
    }

    pub fn has_affinity(&self) -> bool {
        self.has_affinity
    }

    pub fn required_affinity(&self) -> &[PodAffinityTerm] {
        self.terms(|spec| {
            spec.affinity
                .as_ref()?
                .pod_affinity
                .as_ref()?
                .required_during_scheduling_ignored_during_execution
                .as_deref()
        })
    }

    pub fn required_anti_affinity(&self) -> &[PodAffinityTerm] {
        self.terms(|spec| {
            spec.affinity
                .as_ref()?
                .pod_anti_affinity
                .as_ref()?
                .required_during_scheduling_ignored_during_execution
                .as_deref()
        })
    }

    pub fn preferred_affinity(&self) -> &[WeightedPodAffinityTerm] {
        self.terms(|spec| {
            spec.affinity
                .as_ref()?
                .pod_affinity
                .as_ref()?
                .preferred_during_scheduling_ignored_during_execution
                .as_deref()
        })
    }

    pub fn preferred_anti_affinity(&self) -> &[WeightedPodAffinityTerm] {
        self.terms(|spec| {
            spec.affinity
                .as_ref()?
                .pod_anti_affinity
                .as_ref()?
                .preferred_during_scheduling_ignored_during_execution
                .as_deref()
        })
    }

    fn terms<T>(&self, path: impl Fn(&PodSpec) -> Option<&[T]>) -> &[T] {
        self.pod.spec.as_ref().and_then(path).unwrap_or_default()
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars =
        spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.as_deref().filter(|address| !address.is_empty()).unwrap_or("0.0.0.0");
            let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
            Some(HostPort { address: address.into(), protocol: protocol.into(), port: number })
        })
        .collect()
}

fn claim_keys(pod: &Pod, namespace: &str, name: &str) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes
        .iter()
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(key(namespace, &claim.claim_name)),
            (None, Some(_)) => Some(key(namespace, &format!("{name}-{}", volume.name))),
            _ => None,
        })
        .collect()
}

/// A node and the pods on it. Cheap to clone: preemption tries variants.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// `None` while only pods of it were seen.
    pub node: Option<Arc<Node>>,
    pub pods: BTreeMap<Uid, Arc<PodInfo>>,
    pub requested: Resources,
    pub scoring_requested: Resources,
    /// How many of the pods have affinity or anti-affinity terms.
    pub with_affinity: usize,
}

impl NodeInfo {
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.remove(&pod.uid);
        self.requested.add(&pod.requests);
        self.scoring_requested.add(&pod.scoring_requests);
        self.with_affinity += usize::from(pod.has_affinity());
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested.subtract(&pod.requests);
        self.scoring_requested.subtract(&pod.scoring_requests);
        self.with_affinity -= usize::from(pod.has_affinity());
        Some(pod)
    }
}

/// A node that exists, with its state.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    pub node: &'a Node,
    pub info: &'a NodeInfo,
}

impl<'a> Candidate<'a> {
    pub fn name(&self) -> &'a str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }
}

/// Everything that decisions are made from.
#[derive(Default)]
pub struct Cluster {
    nodes: BTreeMap<String, NodeInfo>,
    /// The node of each pod that has one, by decision or by the API.
    placed: HashMap<Uid, Placement>,
    /// Pods that wait for victims to leave a node.
    nominated: HashMap<Uid, (String, Arc<PodInfo>)>,
    pub namespaces: Table<Namespace>,
    pub claims: Table<PersistentVolumeClaim>,
    pub volumes: Table<PersistentVolume>,
    pub classes: Table<StorageClass>,
    pub budgets: Table<PodDisruptionBudget>,
    /// Decisions about volumes that the API does not show yet.
    pub reserved: crate::volumes::Reservations,
}

struct Placement {
    node: String,
    assumed: bool,
}

impl Cluster {
    pub fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.nodes.values().filter_map(|info| Some(Candidate { node: info.node.as_deref()?, info }))
    }

    pub fn candidate(&self, name: &str) -> Option<Candidate<'_>> {
        let info = self.nodes.get(name)?;
        Some(Candidate { node: info.node.as_deref()?, info })
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.nodes.entry(name).or_default().node = Some(node);
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.node = None;
        }
        self.drop_if_unused(name);
    }

    /// Takes over what the API shows. An unassigned pod leaves an assumption about it standing; a finished one frees its node.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        let info = PodInfo::new(pod);
        if info.is_terminal() {
            self.remove_pod(&info.uid);
        } else if let Some(node) = info.node_name().map(str::to_owned) {
            self.put(Arc::new(info), node, false);
        }
    }

    /// Returns whether the pod was on a node.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        self.nominated.remove(uid);
        let Some(placement) = self.placed.remove(uid) else { return false };
        if let Some(info) = self.nodes.get_mut(&placement.node) {
            info.remove(uid);
        }
        self.drop_if_unused(&placement.node);
        true
    }

    /// Counts the pod as being on the node from now on, before the API knows.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.nominated.remove(&pod.uid);
        self.put(pod, node.to_owned(), true);
    }

    /// Takes an assumption back; what the API has confirmed stays.
    pub fn forget(&mut self, uid: &str) {
        if self.placed.get(uid).is_some_and(|placement| placement.assumed) {
            self.remove_pod(uid);
        }
    }

    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.nominated.insert(pod.uid.clone(), (node.to_owned(), pod));
    }

    pub fn nominated_node(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(|(node, _)| node.as_str())
    }

    pub fn withdraw_nomination(&mut self, uid: &str) {
        self.nominated.remove(uid);
    }

    /// Pods that other pods were evicted from this node for.
    pub fn nominated_to<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        self.nominated.values().filter(move |(wanted, _)| wanted == node).map(|(_, pod)| pod)
    }

    fn put(&mut self, pod: Arc<PodInfo>, node: String, assumed: bool) {
        self.remove_pod(&pod.uid);
        self.placed.insert(pod.uid.clone(), Placement { node: node.clone(), assumed });
        self.nodes.entry(node).or_default().add(pod);
    }

    fn drop_if_unused(&mut self, name: &str) {
        if self.nodes.get(name).is_some_and(|info| info.node.is_none() && info.pods.is_empty()) {
            self.nodes.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::testing::{cluster, node, place, pod, requesting};
    use serde_json::json;

    #[test]
    fn capacity_is_reserved_and_freed() {
        let mut cluster = cluster([node("n", json!({}))]);
        let waiting = Arc::new(PodInfo::new(requesting("p", json!({"cpu": "1"}), json!({})).into()));
        cluster.assume(Arc::clone(&waiting), "n");
        assert_eq!(cluster.candidate("n").unwrap().info.requested.cpu, 1000);
        // An update of the still unassigned pod must not free it, and what the API confirmed is not forgotten.
        cluster.set_pod(Arc::clone(&waiting.pod));
        assert_eq!(cluster.candidate("n").unwrap().info.requested.cpu, 1000);
        cluster.forget("p");
        assert_eq!(cluster.candidate("n").unwrap().info.requested.cpu, 0);
        place(&mut cluster, requesting("p", json!({"cpu": "1"}), json!({})), "n");
        cluster.forget("p");
        assert_eq!(cluster.candidate("n").unwrap().info.requested.cpu, 1000);
    }

    #[test]
    fn finished_pods_use_nothing() {
        let mut cluster = cluster([node("n", json!({}))]);
        let mut done = requesting("p", json!({"cpu": "1"}), json!({}));
        place(&mut cluster, done.clone(), "n");
        done.spec.as_mut().unwrap().node_name = Some("n".into());
        done.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
        cluster.set_pod(done.into());
        assert!(cluster.candidate("n").unwrap().info.pods.is_empty());
    }

    #[test]
    fn pods_may_be_seen_before_their_node() {
        let mut cluster = Cluster::default();
        place(&mut cluster, pod("p", json!({})), "n");
        assert_eq!(cluster.candidates().count(), 0);
        cluster.set_node(node("n", json!({})).into());
        assert_eq!(cluster.candidate("n").unwrap().info.pods.len(), 1);
    }

    #[test]
    fn host_ports_overlap_by_address() {
        let port =
            |address: &str, protocol: &str| HostPort { address: address.into(), protocol: protocol.into(), port: 80 };
        assert!(port("0.0.0.0", "TCP").conflicts_with(&port("127.0.0.1", "TCP")));
        assert!(!port("10.0.0.1", "TCP").conflicts_with(&port("127.0.0.1", "TCP")));
        assert!(!port("0.0.0.0", "TCP").conflicts_with(&port("0.0.0.0", "UDP")));
    }
}
