//! Affinity and anti-affinity between pods, counted for each value of a topology key
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Node, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::cluster::{Cluster, PodInfo};
use crate::cycle::{Plugin, Rejection};
use crate::selectors::{Labels, labels_of, matches_labels};

/// Numbers for each (topology key, value).
#[derive(Debug, Clone, Default)]
pub struct TopologyCounts(HashMap<String, HashMap<String, i64>>);

impl TopologyCounts {
    /// Adds to the domain of the node; a node without the key belongs to none.
    pub fn add(&mut self, key: &str, node: &Node, amount: i64) {
        let Some(value) = labels_of(node).get(key) else { return };
        let values = match self.0.get_mut(key) {
            Some(values) => values,
            None => self.0.entry(key.to_owned()).or_default(),
        };
        match values.get_mut(value) {
            Some(count) => *count += amount,
            None => {
                values.insert(value.clone(), amount);
            }
        }
    }

    pub fn get(&self, key: &str, node: &Node) -> i64 {
        let value = labels_of(node).get(key);
        value.and_then(|value| self.0.get(key)?.get(value)).copied().unwrap_or(0)
    }

    fn all_zero(&self) -> bool {
        self.0.values().flat_map(HashMap::values).all(|count| *count == 0)
    }

    /// The sum over all keys of the node's domains.
    pub fn sum_at(&self, node: &Node) -> i64 {
        self.0.keys().map(|key| self.get(key, node)).sum()
    }

    fn any_at(&self, node: &Node) -> bool {
        self.0.keys().any(|key| self.get(key, node) > 0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Does `target` match `term`, which stands in `owner`'s spec?
pub fn term_matches(term: &PodAffinityTerm, owner: &PodInfo, target: &PodInfo, cluster: &Cluster) -> bool {
    in_namespaces(term, owner, target, cluster)
        && matches_labels(term.label_selector.as_ref(), target.labels())
        && keys_match(term.match_label_keys.as_deref(), owner.labels(), target.labels(), true)
        && keys_match(term.mismatch_label_keys.as_deref(), owner.labels(), target.labels(), false)
}

fn in_namespaces(term: &PodAffinityTerm, owner: &PodInfo, target: &PodInfo, cluster: &Cluster) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    match &term.namespace_selector {
        None if named.is_empty() => owner.namespace == target.namespace,
        selector => {
            named.contains(&target.namespace) || namespace_selected(selector.as_ref(), &target.namespace, cluster)
        }
    }
}

fn namespace_selected(selector: Option<&LabelSelector>, namespace: &str, cluster: &Cluster) -> bool {
    cluster.namespaces.get(namespace).is_some_and(|namespace| matches_labels(selector, labels_of(&**namespace)))
}

/// `matchLabelKeys` and `mismatchLabelKeys` (KEP-3633): compared only where the owner has the label.
pub fn keys_match(keys: Option<&[String]>, owner: &Labels, target: &Labels, equal: bool) -> bool {
    keys.unwrap_or_default()
        .iter()
        .filter_map(|key| Some((owner.get(key)?, target.get(key))))
        .all(|(wanted, found)| (found == Some(wanted)) == equal)
}

/// What the placed pods mean for the incoming one.
#[derive(Debug, Clone, Default)]
pub struct InterPod {
    /// Placed pods whose required anti-affinity refuses the incoming pod.
    refused_by: TopologyCounts,
    /// Placed pods that match all of the incoming pod's required affinity terms.
    wanted: TopologyCounts,
    /// Placed pods that match any of its required anti-affinity terms.
    unwanted: TopologyCounts,
    matches_itself: bool,
}

impl InterPod {
    pub fn prepare(incoming: &PodInfo, cluster: &Cluster) -> Self {
        let terms = incoming.required_affinity();
        let matches_itself = terms.iter().all(|term| term_matches(term, incoming, incoming, cluster));
        let mut state = Self { matches_itself, ..Self::default() };
        for candidate in cluster.candidates() {
            if !incoming.has_affinity() && candidate.info.with_affinity == 0 {
                continue;
            }
            for pod in candidate.info.pods.values() {
                state.count(incoming, candidate.node, pod, 1, cluster);
            }
        }
        state
    }

    /// Counts a pod on a node in (+1) or out (−1).
    pub fn count(&mut self, incoming: &PodInfo, node: &Node, placed: &PodInfo, amount: i64, cluster: &Cluster) {
        for term in placed.required_anti_affinity() {
            if term_matches(term, placed, incoming, cluster) {
                self.refused_by.add(&term.topology_key, node, amount);
            }
        }
        let affinity = incoming.required_affinity();
        if !affinity.is_empty() && affinity.iter().all(|term| term_matches(term, incoming, placed, cluster)) {
            for term in affinity {
                self.wanted.add(&term.topology_key, node, amount);
            }
        }
        for term in incoming.required_anti_affinity() {
            if term_matches(term, incoming, placed, cluster) {
                self.unwanted.add(&term.topology_key, node, amount);
            }
        }
    }

    pub fn filter(&self, incoming: &PodInfo, node: &Node) -> Result<(), Rejection> {
        if !self.affinity_holds(incoming, node) {
            return Err(Rejection::fixed(Plugin::InterPodAffinity, "node(s) didn't match pod affinity rules", false));
        }
        if incoming.required_anti_affinity().iter().any(|term| self.unwanted.get(&term.topology_key, node) > 0) {
            return Err(Rejection::fixed(
                Plugin::InterPodAffinity,
                "node(s) didn't match pod anti-affinity rules",
                true,
            ));
        }
        if self.refused_by.any_at(node) {
            return Err(Rejection::fixed(
                Plugin::InterPodAffinity,
                "node(s) didn't satisfy existing pods anti-affinity rules",
                true,
            ));
        }
        Ok(())
    }

    fn affinity_holds(&self, incoming: &PodInfo, node: &Node) -> bool {
        let terms = incoming.required_affinity();
        if !terms.iter().all(|term| labels_of(node).contains_key(&term.topology_key)) {
            return false;
        }
        // The first pod of a group whose members want each other may go anywhere.
        terms.iter().all(|term| self.wanted.get(&term.topology_key, node) > 0)
            || self.wanted.all_zero() && self.matches_itself
    }
}

/// The sum of preferred terms, of the incoming pod and of placed ones about it.
pub fn preferences(incoming: &PodInfo, cluster: &Cluster) -> TopologyCounts {
    let mut scores = TopologyCounts::default();
    for candidate in cluster.candidates() {
        if !incoming.has_affinity() && candidate.info.with_affinity == 0 {
            continue;
        }
        for placed in candidate.info.pods.values() {
            let mut add = |term: &PodAffinityTerm, owner: &PodInfo, target: &PodInfo, weight: i64| {
                if term_matches(term, owner, target, cluster) {
                    scores.add(&term.topology_key, candidate.node, weight);
                }
            };
            for (owner, target) in [(incoming, &**placed), (placed, incoming)] {
                for term in owner.preferred_affinity() {
                    add(&term.pod_affinity_term, owner, target, term.weight.into());
                }
                for term in owner.preferred_anti_affinity() {
                    add(&term.pod_affinity_term, owner, target, -i64::from(term.weight));
                }
            }
            for term in placed.required_affinity() {
                add(term, placed, incoming, 1);
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::testing::{cluster, node, place, pod, with_labels};
    use serde_json::{Value, json};

    fn term(key: &str, app: &str) -> Value {
        json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
    }

    fn affine(name: &str, kind: &str, key: &str, app: &str) -> k8s_openapi::api::core::v1::Pod {
        pod(name, json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term(key, app)]}}}))
    }

    fn zones() -> Cluster {
        cluster(
            [("a1", "a"), ("a2", "a"), ("b1", "b")]
                .map(|(name, zone)| node(name, json!({"metadata": {"labels": {"zone": zone}}}))),
        )
    }

    fn allowed(cluster: &Cluster, pod: k8s_openapi::api::core::v1::Pod) -> Vec<&str> {
        let incoming = PodInfo::new(pod.into());
        let state = InterPod::prepare(&incoming, cluster);
        cluster.candidates().filter(|c| state.filter(&incoming, c.node).is_ok()).map(|c| c.name()).collect()
    }

    #[test]
    fn affinity_follows_the_domain_not_the_node() {
        let mut cluster = zones();
        place(&mut cluster, with_labels(pod("db", json!({})), json!({"app": "db"})), "a1");
        assert_eq!(allowed(&cluster, affine("web", "podAffinity", "zone", "db")), ["a1", "a2"]);
        assert_eq!(allowed(&cluster, affine("web", "podAntiAffinity", "zone", "db")), ["b1"]);
        assert_eq!(allowed(&cluster, affine("web", "podAntiAffinity", "kubernetes.io/hostname", "db")), ["a2", "b1"]);
        assert_eq!(allowed(&cluster, affine("web", "podAffinity", "rack", "db")), [""; 0]);
    }

    #[test]
    fn existing_anti_affinity_counts_too() {
        let mut cluster = zones();
        place(&mut cluster, affine("hermit", "podAntiAffinity", "zone", "web"), "b1");
        assert_eq!(allowed(&cluster, with_labels(pod("web", json!({})), json!({"app": "web"}))), ["a1", "a2"]);
    }

    #[test]
    fn the_first_of_a_group_goes_anywhere() {
        let cluster = zones();
        assert_eq!(
            allowed(&cluster, with_labels(affine("web", "podAffinity", "zone", "web"), json!({"app": "web"}))).len(),
            3
        );
        assert_eq!(allowed(&cluster, affine("web", "podAffinity", "zone", "web")).len(), 0);
    }

    #[test]
    fn namespaces_by_selector() {
        let mut cluster = zones();
        cluster.namespaces.apply(kube::runtime::watcher::Event::Apply(
            serde_json::from_value(json!({"metadata": {"name": "other", "labels": {"team": "x"}}})).unwrap(),
        ));
        let mut db = with_labels(pod("db", json!({})), json!({"app": "db"}));
        db.metadata.namespace = Some("other".into());
        place(&mut cluster, db, "b1");
        let mut wanted = term("zone", "db");
        wanted["namespaceSelector"] = json!({"matchLabels": {"team": "x"}});
        let spec = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [wanted]}}});
        assert_eq!(allowed(&cluster, pod("web", spec)), ["b1"]);
        assert_eq!(allowed(&cluster, affine("web", "podAffinity", "zone", "db")).len(), 0, "own namespace only");
    }
}
