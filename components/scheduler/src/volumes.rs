//! Claims and volumes: where bound volumes can be reached, and which claims wait for this decision
//! (<https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode>).

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;

use crate::cluster::{Cluster, PodInfo};
use crate::cycle::{Plugin, Rejection};
use crate::quantity::value;
use crate::selectors::{labels_of, matches_labels, matches_node_selector};

/// Set on a claim to tell its provisioner the node.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Decisions that the API does not show yet.
#[derive(Debug, Default)]
pub struct Reservations {
    /// Volume name → uid of the claim it was chosen for.
    volumes: HashMap<String, String>,
    /// Claim uid → node.
    nodes: HashMap<String, String>,
}

impl Reservations {
    pub fn reserve(&mut self, decisions: &[ClaimDecision], node: &str) {
        for decision in decisions {
            let uid = decision.claim().uid().unwrap_or_default();
            if let ClaimDecision::Bind { volume, .. } = decision {
                self.volumes.insert(volume.name_any(), uid.clone());
            }
            self.nodes.insert(uid, node.to_owned());
        }
    }

    pub fn release(&mut self, decisions: &[ClaimDecision]) {
        for decision in decisions {
            let uid = decision.claim().uid().unwrap_or_default();
            self.nodes.remove(&uid);
            self.volumes.retain(|_, claim| *claim != uid);
        }
    }
}

/// What becomes of a claim that waited for its first consumer.
#[derive(Debug, Clone)]
pub enum ClaimDecision {
    /// An existing volume is bound to it.
    Bind { claim: Arc<PersistentVolumeClaim>, volume: Arc<PersistentVolume> },
    /// Its provisioner makes one for the node.
    Provision { claim: Arc<PersistentVolumeClaim> },
}

impl ClaimDecision {
    pub fn claim(&self) -> &Arc<PersistentVolumeClaim> {
        match self {
            Self::Bind { claim, .. } | Self::Provision { claim } => claim,
        }
    }
}

#[derive(Debug, Clone)]
struct Waiting {
    claim: Arc<PersistentVolumeClaim>,
    class: Arc<StorageClass>,
}

/// The claims of the incoming pod.
#[derive(Debug, Clone, Default)]
pub struct VolumePlan {
    bound: Vec<Arc<PersistentVolume>>,
    waiting: Vec<Waiting>,
    volume_missing: bool,
    /// `ReadWriteOncePod` claims, and how often other pods use them.
    exclusive: HashMap<String, i64>,
}

impl VolumePlan {
    pub fn prepare(incoming: &PodInfo, cluster: &Cluster) -> Result<Self, Rejection> {
        let mut plan = Self::default();
        for key in &incoming.claims {
            let claim = cluster.claims.get(key).ok_or_else(|| not_found(key))?;
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(refuse(format!("persistentvolumeclaim \"{}\" is being deleted", claim.name_any())));
            }
            plan.sort_in(claim, cluster)?;
            if access_modes(claim).contains(&"ReadWriteOncePod".to_owned()) {
                plan.exclusive.insert(key.clone(), 0);
            }
        }
        if !plan.exclusive.is_empty() {
            for placed in cluster.candidates().flat_map(|candidate| candidate.info.pods.values()) {
                plan.count(placed, 1);
            }
        }
        Ok(plan)
    }

    fn sort_in(&mut self, claim: &Arc<PersistentVolumeClaim>, cluster: &Cluster) -> Result<(), Rejection> {
        if is_bound(claim) {
            match volume_name(claim).and_then(|name| cluster.volumes.get(name)) {
                Some(volume) => self.bound.push(Arc::clone(volume)),
                None => self.volume_missing = true,
            }
            return Ok(());
        }
        let class = class_name(claim).and_then(|name| cluster.classes.get(name));
        match class.filter(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")) {
            Some(class) if volume_name(claim).is_none() => {
                self.waiting.push(Waiting { claim: Arc::clone(claim), class: Arc::clone(class) });
                Ok(())
            }
            _ => {
                Err(Rejection::fixed(Plugin::VolumeBinding, "pod has unbound immediate PersistentVolumeClaims", false))
            }
        }
    }

    /// Counts a pod's use of exclusive claims in (+1) or out (−1).
    pub fn count(&mut self, placed: &PodInfo, amount: i64) {
        for claim in &placed.claims {
            if let Some(uses) = self.exclusive.get_mut(claim) {
                *uses += amount;
            }
        }
    }

    pub fn filter(&self, cluster: &Cluster, node: &Node) -> Result<(), Rejection> {
        let refuse = |reason| Err(Rejection::fixed(Plugin::VolumeBinding, reason, false));
        if self.exclusive.values().any(|uses| *uses > 0) {
            let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
            return Err(Rejection::fixed(Plugin::VolumeRestrictions, reason, true));
        }
        if self.volume_missing {
            return refuse("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
        }
        if !self.bound.iter().all(|volume| reaches(volume, node)) {
            return refuse("node(s) didn't match PersistentVolume's node affinity");
        }
        match self.decide(cluster, node) {
            Some(_) => Ok(()),
            None => refuse("node(s) didn't find available persistent volumes to bind"),
        }
    }

    /// What to do with each waiting claim if the pod goes to this node; `None` when one cannot be served there.
    pub fn decide(&self, cluster: &Cluster, node: &Node) -> Option<Vec<ClaimDecision>> {
        let mut taken = Vec::new();
        let mut decisions = Vec::with_capacity(self.waiting.len());
        for Waiting { claim, class } in &self.waiting {
            if already_elsewhere(claim, cluster, node) {
                return None;
            }
            if let Some(volume) = smallest_match(claim, cluster, node, &taken) {
                taken.push(volume.name_any());
                decisions.push(ClaimDecision::Bind { claim: Arc::clone(claim), volume: Arc::clone(volume) });
            } else if class.provisioner != NO_PROVISIONER && allowed_topology(class, node) {
                decisions.push(ClaimDecision::Provision { claim: Arc::clone(claim) });
            } else {
                return None;
            }
        }
        Some(decisions)
    }
}

fn not_found(key: &str) -> Rejection {
    refuse(format!("persistentvolumeclaim \"{}\" not found", key.rsplit('/').next().unwrap_or(key)))
}

fn refuse(reason: String) -> Rejection {
    Rejection::told(Plugin::VolumeBinding, reason, false)
}

/// Whether the claim has its volume for good.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    volume_name(claim).is_some() && (claim.annotations().contains_key(BIND_COMPLETED) || phase == Some("Bound"))
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn class_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated = claim.annotations().get("volume.beta.kubernetes.io/storage-class").map(String::as_str);
    annotated.or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

fn access_modes(claim: &PersistentVolumeClaim) -> &[String] {
    claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    affinity.is_none_or(|selector| matches_node_selector(selector, node))
}

/// An earlier decision holds as long as its node exists: the volume may be half-made there.
fn already_elsewhere(claim: &PersistentVolumeClaim, cluster: &Cluster, node: &Node) -> bool {
    let reserved = cluster.reserved.nodes.get(&claim.uid().unwrap_or_default());
    let chosen = reserved.or_else(|| claim.annotations().get(SELECTED_NODE));
    chosen.is_some_and(|chosen| Some(chosen) != node.metadata.name.as_ref() && cluster.candidate(chosen).is_some())
}

fn allowed_topology(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let labels = labels_of(node);
    terms.is_empty()
        || terms.iter().any(|term| {
            let mut expressions = term.match_label_expressions.iter().flatten();
            expressions
                .all(|expression| labels.get(&expression.key).is_some_and(|value| expression.values.contains(value)))
        })
}

fn smallest_match<'a>(
    claim: &PersistentVolumeClaim,
    cluster: &'a Cluster,
    node: &Node,
    taken: &[String],
) -> Option<&'a Arc<PersistentVolume>> {
    let fits = cluster.volumes.values().filter(|volume| !taken.contains(&volume.name_any()));
    fits.filter(|volume| could_bind(volume, claim, cluster) && reaches(volume, node))
        .min_by_key(|volume| (capacity(volume), volume.name_any()))
}

fn capacity(volume: &PersistentVolume) -> i64 {
    volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage")).map_or(0, value)
}

fn could_bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim, cluster: &Cluster) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let claim_uid = claim.uid().unwrap_or_default();
    let free = match (&has.claim_ref, cluster.reserved.volumes.get(&volume.name_any())) {
        (Some(claimed), _) => {
            claimed.name == claim.metadata.name
                && claimed.namespace == claim.metadata.namespace
                && claimed.uid.as_ref().is_none_or(|uid| uid.is_empty() || *uid == claim_uid)
        }
        (None, Some(reserved_for)) => *reserved_for == claim_uid,
        (None, None) => volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available"),
    };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let wanted_size =
        wants.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage")).map_or(0, value);
    free && volume.metadata.deletion_timestamp.is_none()
        && has.storage_class_name.as_deref().unwrap_or_default() == class_name(claim).unwrap_or_default()
        && mode(&has.volume_mode) == mode(&wants.volume_mode)
        && access_modes(claim).iter().all(|wanted| modes.contains(wanted))
        && capacity(volume) >= wanted_size
        && wants.selector.as_ref().is_none_or(|selector| matches_labels(Some(selector), labels_of(volume)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::testing::{cluster, node, place, pod};
    use kube::runtime::watcher::Event;
    use serde_json::{Value, from_value, json};

    fn setup(class: Value, claim: Value, volumes: Vec<Value>) -> Cluster {
        let mut cluster = cluster([node("a", json!({})), node("b", json!({}))]);
        let mut full_class =
            json!({"metadata": {"name": "local"}, "provisioner": "x/y", "volumeBindingMode": "WaitForFirstConsumer"});
        full_class.as_object_mut().unwrap().extend(class.as_object().unwrap().clone());
        cluster.classes.apply(Event::Apply(from_value(full_class).unwrap()));
        let mut full_claim = json!({"metadata": {"name": "data", "namespace": "default", "uid": "claim"},
            "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        for (key, value) in claim.as_object().unwrap() {
            full_claim[key].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        }
        cluster.claims.apply(Event::Apply(from_value(full_claim).unwrap()));
        for volume in volumes {
            cluster.volumes.apply(Event::Apply(from_value(volume).unwrap()));
        }
        cluster
    }

    fn user(name: &str) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(
            pod(name, json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]})).into(),
        ))
    }

    fn volume(name: &str, size: &str, on: &str) -> Value {
        json!({"metadata": {"name": name}, "status": {"phase": "Available"},
            "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}]}]}}}})
    }

    fn allowed(cluster: &Cluster) -> Vec<&str> {
        let plan = VolumePlan::prepare(&user("p"), cluster).unwrap();
        cluster.candidates().filter(|c| plan.filter(cluster, c.node).is_ok()).map(|c| c.name()).collect()
    }

    #[test]
    fn a_bound_volume_decides_the_node() {
        let cluster = setup(
            json!({}),
            json!({"spec": {"volumeName": "pv"}, "metadata": {"annotations": {BIND_COMPLETED: "yes"}}}),
            vec![volume("pv", "1Gi", "b")],
        );
        assert_eq!(allowed(&cluster), ["b"]);
    }

    #[test]
    fn immediate_claims_must_be_bound_first() {
        let cluster = setup(json!({"volumeBindingMode": "Immediate"}), json!({}), vec![]);
        let rejection = VolumePlan::prepare(&user("p"), &cluster).unwrap_err();
        assert_eq!(rejection.reasons, ["pod has unbound immediate PersistentVolumeClaims"]);
        let none = VolumePlan::prepare(&user("p"), &Cluster::default()).unwrap_err();
        assert_eq!(none.reasons, ["persistentvolumeclaim \"data\" not found"]);
    }

    #[test]
    fn waiting_claims_take_the_smallest_volume_or_are_provisioned() {
        let mut cluster = setup(
            json!({}),
            json!({}),
            vec![volume("big", "9Gi", "a"), volume("fit", "2Gi", "a"), volume("small", "1Mi", "a")],
        );
        assert_eq!(allowed(&cluster), ["a", "b"]);
        let plan = VolumePlan::prepare(&user("p"), &cluster).unwrap();
        let on_a = plan.decide(&cluster, cluster.candidate("a").unwrap().node).unwrap();
        assert!(matches!(&on_a[..], [ClaimDecision::Bind { volume, .. }] if volume.name_any() == "fit"));
        let on_b = plan.decide(&cluster, cluster.candidate("b").unwrap().node).unwrap();
        assert!(matches!(&on_b[..], [ClaimDecision::Provision { .. }]));
        // The decision holds for a second pod with the same claim until it is released.
        cluster.reserved.reserve(&on_b, "b");
        assert_eq!(allowed(&cluster), ["b"]);
        cluster.reserved.release(&on_b);
        assert_eq!(allowed(&cluster), ["a", "b"]);
    }

    #[test]
    fn without_a_provisioner_only_existing_volumes_serve() {
        let cluster = setup(json!({"provisioner": NO_PROVISIONER}), json!({}), vec![volume("pv", "1Gi", "b")]);
        assert_eq!(allowed(&cluster), ["b"]);
    }

    #[test]
    fn a_selected_node_holds_while_it_exists() {
        let select = |node: &str| setup(json!({}), json!({"metadata": {"annotations": {SELECTED_NODE: node}}}), vec![]);
        assert_eq!(allowed(&select("b")), ["b"]);
        assert_eq!(allowed(&select("gone")), ["a", "b"]);
    }

    #[test]
    fn read_write_once_pod_is_exclusive() {
        let mut cluster = setup(json!({}), json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}), vec![]);
        assert_eq!(allowed(&cluster).len(), 2);
        place(&mut cluster, (*user("other").pod).clone(), "a");
        assert_eq!(allowed(&cluster).len(), 0);
    }
}
