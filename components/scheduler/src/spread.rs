//! Topology spread constraints
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Node, Pod, TopologySpreadConstraint};

use crate::affinity::keys_match;
use crate::cluster::{Candidate, Cluster, PodInfo};
use crate::cycle::{Plugin, Rejection};
use crate::selectors::{HARD_EFFECTS, labels_of, matches_labels, pod_accepts_node, untolerated};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// One hard constraint with how many matching pods each domain has.
#[derive(Debug, Clone)]
struct Constraint {
    rule: TopologySpreadConstraint,
    domains: HashMap<String, i64>,
    counts_itself: bool,
}

/// The hard constraints of the incoming pod.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    constraints: Vec<Constraint>,
}

impl Spread {
    pub fn prepare(incoming: &PodInfo, cluster: &Cluster) -> Self {
        let rules: Vec<_> =
            rules(&incoming.pod).filter(|rule| rule.when_unsatisfiable == "DoNotSchedule").cloned().collect();
        let mut constraints: Vec<_> = rules
            .into_iter()
            .map(|rule| Constraint { counts_itself: counts(&rule, incoming, incoming), domains: HashMap::new(), rule })
            .collect();
        if constraints.is_empty() {
            return Self::default();
        }
        for candidate in cluster.candidates() {
            // A node outside of one constraint's topology is outside of all.
            if !constraints
                .iter()
                .all(|constraint| labels_of(candidate.node).contains_key(&constraint.rule.topology_key))
            {
                continue;
            }
            for constraint in &mut constraints {
                constraint.count_node(incoming, candidate);
            }
        }
        Self { constraints }
    }

    /// Counts a pod on a node in (+1) or out (−1).
    pub fn count(&mut self, incoming: &PodInfo, node: &Node, placed: &PodInfo, amount: i64) {
        for constraint in &mut self.constraints {
            if !counts(&constraint.rule, incoming, placed) {
                continue;
            }
            let value = labels_of(node).get(&constraint.rule.topology_key);
            if let Some(count) = value.and_then(|value| constraint.domains.get_mut(value)) {
                *count += amount;
            }
        }
    }

    pub fn filter(&self, node: &Node) -> Result<(), Rejection> {
        for constraint in &self.constraints {
            let Some(value) = labels_of(node).get(&constraint.rule.topology_key) else {
                let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Rejection::fixed(Plugin::PodTopologySpread, reason, false));
            };
            let here = constraint.domains.get(value).copied().unwrap_or(0) + i64::from(constraint.counts_itself);
            if here - constraint.smallest() > i64::from(constraint.rule.max_skew) {
                let reason = "node(s) didn't match pod topology spread constraints";
                return Err(Rejection::fixed(Plugin::PodTopologySpread, reason, true));
            }
        }
        Ok(())
    }
}

impl Constraint {
    fn count_node(&mut self, incoming: &PodInfo, candidate: Candidate<'_>) {
        let Some(value) = labels_of(candidate.node).get(&self.rule.topology_key) else { return };
        if !takes_part(&self.rule, &incoming.pod, candidate.node) {
            return;
        }
        let matching = candidate.info.pods.values().filter(|pod| counts(&self.rule, incoming, pod)).count();
        *self.domains.entry(value.clone()).or_default() += i64::try_from(matching).unwrap_or(i64::MAX);
    }

    fn smallest(&self) -> i64 {
        let domains = i32::try_from(self.domains.len()).unwrap_or(i32::MAX);
        if self.rule.min_domains.is_some_and(|wanted| domains < wanted) {
            return 0;
        }
        self.domains.values().copied().min().unwrap_or(0)
    }
}

fn rules(pod: &Pod) -> impl Iterator<Item = &TopologySpreadConstraint> {
    pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten())
}

fn takes_part(rule: &TopologySpreadConstraint, pod: &Pod, node: &Node) -> bool {
    let affinity = rule.node_affinity_policy.as_deref() == Some("Ignore") || pod_accepts_node(pod, node);
    let taints =
        rule.node_taints_policy.as_deref() != Some("Honor") || untolerated(pod, node, HARD_EFFECTS).next().is_none();
    affinity && taints
}

fn counts(rule: &TopologySpreadConstraint, incoming: &PodInfo, placed: &PodInfo) -> bool {
    placed.namespace == incoming.namespace
        && !placed.is_terminating()
        && matches_labels(rule.label_selector.as_ref(), placed.labels())
        && keys_match(rule.match_label_keys.as_deref(), incoming.labels(), placed.labels(), true)
}

/// The cost of each candidate by the soft constraints (fewer matching pods is better); `None` for nodes outside of the topology.
/// A pod without constraints is spread from its siblings over hosts and zones, as upstream's default constraints do.
pub fn costs(incoming: &PodInfo, cluster: &Cluster, candidates: &[Candidate<'_>]) -> Option<Vec<Option<f64>>> {
    let soft: Vec<_> = rules(&incoming.pod).filter(|rule| rule.when_unsatisfiable == "ScheduleAnyway").collect();
    if !soft.is_empty() {
        let mut total = vec![Some(0.0); candidates.len()];
        for rule in soft {
            let counted = |pod: &PodInfo| counts(rule, incoming, pod);
            let takes_part = |node: &Node| takes_part(rule, &incoming.pod, node);
            let costs = domain_costs(&rule.topology_key, rule.max_skew, cluster, candidates, takes_part, counted);
            add(&mut total, &costs, true);
        }
        return Some(total);
    }
    let controller = incoming.controller().filter(|_| rules(&incoming.pod).next().is_none())?;
    let sibling = |pod: &PodInfo| {
        pod.namespace == incoming.namespace && !pod.is_terminating() && pod.controller() == Some(controller)
    };
    let mut total = vec![Some(0.0); candidates.len()];
    for (key, max_skew) in [(HOSTNAME, 3), (ZONE, 5)] {
        let costs = domain_costs(key, max_skew, cluster, candidates, |_| true, sibling);
        add(&mut total, &costs, false);
    }
    Some(total)
}

fn add(total: &mut [Option<f64>], costs: &[Option<f64>], label_required: bool) {
    for (sum, cost) in total.iter_mut().zip(costs) {
        match (*sum, cost) {
            (Some(so_far), Some(cost)) => *sum = Some(so_far + cost),
            (_, None) if label_required => *sum = None,
            _ => {}
        }
    }
}

fn domain_costs(
    key: &str,
    max_skew: i32,
    cluster: &Cluster,
    candidates: &[Candidate<'_>],
    takes_part: impl Fn(&Node) -> bool,
    counted: impl Fn(&PodInfo) -> bool,
) -> Vec<Option<f64>> {
    let mut domains: HashMap<&str, f64> = HashMap::new();
    for candidate in cluster.candidates().filter(|candidate| takes_part(candidate.node)) {
        if let Some(value) = labels_of(candidate.node).get(key) {
            let matching = candidate.info.pods.values().filter(|pod| counted(pod)).count();
            *domains.entry(value).or_default() += matching as f64;
        }
    }
    // Many domains hold few pods each; the weight makes them count as much as few domains.
    let weight = (domains.len() as f64 + 2.0).ln();
    let cost = |candidate: &Candidate<'_>| {
        let count = domains.get(labels_of(candidate.node).get(key)?.as_str()).copied().unwrap_or(0.0);
        Some(count * weight + f64::from(max_skew - 1))
    };
    candidates.iter().map(cost).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::testing::{cluster, node, place, pod, with_labels};
    use serde_json::{Value, json};

    fn zones() -> Cluster {
        let mut nodes: Vec<_> = [("a1", "a"), ("a2", "a"), ("b1", "b")]
            .map(|(name, zone)| node(name, json!({"metadata": {"labels": {"zone": zone}}})))
            .into();
        nodes.push(node("lost", json!({})));
        cluster(nodes)
    }

    fn web(name: &str, extra: Value) -> k8s_openapi::api::core::v1::Pod {
        let mut rule = json!({"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}});
        rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        with_labels(pod(name, json!({"topologySpreadConstraints": [rule]})), json!({"app": "web"}))
    }

    fn allowed(cluster: &Cluster, extra: Value) -> Vec<&str> {
        let incoming = PodInfo::new(web("new", extra).into());
        let state = Spread::prepare(&incoming, cluster);
        cluster.candidates().filter(|c| state.filter(c.node).is_ok()).map(|c| c.name()).collect()
    }

    #[test]
    fn skew_is_bounded() {
        let mut cluster = zones();
        assert_eq!(allowed(&cluster, json!({})), ["a1", "a2", "b1"]);
        place(&mut cluster, web("w1", json!({})), "a1");
        assert_eq!(allowed(&cluster, json!({})), ["b1"]);
        assert_eq!(allowed(&cluster, json!({"maxSkew": 2})), ["a1", "a2", "b1"]);
        place(&mut cluster, web("w2", json!({})), "b1");
        assert_eq!(allowed(&cluster, json!({})), ["a1", "a2", "b1"]);
        assert_eq!(allowed(&cluster, json!({"minDomains": 3})), [""; 0]);
    }

    #[test]
    fn soft_constraints_prefer_empty_domains() {
        let mut cluster = zones();
        place(&mut cluster, web("w1", json!({})), "a1");
        let incoming = PodInfo::new(web("new", json!({"whenUnsatisfiable": "ScheduleAnyway"})).into());
        let candidates: Vec<_> = cluster.candidates().collect();
        let costs = costs(&incoming, &cluster, &candidates).unwrap();
        assert!(costs[0] > costs[2] && costs[0] == costs[1] && costs[3].is_none(), "{costs:?}");
    }
}
