//! Whom to evict so that a more important pod finds a place
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::cluster::{Candidate, Cluster, PodInfo};
use crate::cycle::{Cycle, Rejection, tally};
use crate::filters::check_as_is;
use crate::selectors::{labels_of, matches_labels};

/// What the attempt came to.
#[derive(Debug)]
pub enum Outcome {
    /// Evict these pods and nominate the pod to the node.
    Evict { node: String, victims: Vec<Arc<PodInfo>> },
    /// Nothing to do; the text ends the pod's `FailedScheduling` message.
    Refused(String),
}

/// Looks for the cheapest eviction among the nodes that refused the pod.
pub fn preempt(cycle: &Cycle, cluster: &Cluster, rejections: &[(String, Rejection)]) -> Outcome {
    if let Err(reason) = eligible(&cycle.incoming, cluster) {
        return Outcome::Refused(format!("preemption: {reason}"));
    }
    let mut reasons = Vec::with_capacity(rejections.len());
    let mut best: Option<Eviction> = None;
    for (name, rejection) in rejections {
        let option = cluster
            .candidate(name)
            .filter(|_| rejection.resolvable)
            .map(|candidate| victims_on(cycle, cluster, candidate));
        match option {
            None => reasons.push("Preemption is not helpful for scheduling"),
            Some(None) => reasons.push("No preemption victims found for incoming pod"),
            Some(Some(option)) if best.as_ref().is_none_or(|best| option.cost() < best.cost()) => best = Some(option),
            Some(Some(_)) => {}
        }
    }
    match best {
        Some(option) => Outcome::Evict { node: option.node, victims: option.victims },
        None => Outcome::Refused(format!(
            "preemption: 0/{} nodes are available: {}.",
            rejections.len(),
            tally(reasons.into_iter())
        )),
    }
}

fn eligible(incoming: &PodInfo, cluster: &Cluster) -> Result<(), &'static str> {
    let policy = incoming.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = cluster.nominated_node(&incoming.uid).and_then(|name| cluster.candidate(name));
    let leaving = |pod: &Arc<PodInfo>| pod.is_terminating() && pod.priority() < incoming.priority();
    if nominated.is_some_and(|candidate| candidate.info.pods.values().any(leaving)) {
        return Err("not eligible due to a terminating pod on the nominated node.");
    }
    Ok(())
}

struct Eviction {
    node: String,
    /// Most important first.
    victims: Vec<Arc<PodInfo>>,
    budget_violations: usize,
}

impl Eviction {
    /// Less is better, in upstream's order: broken budgets, the highest victim's priority, their sum, their number, then the node whose
    /// most important victims started last.
    fn cost(&self) -> (usize, i64, i64, usize, Reverse<Timestamp>) {
        let highest = self.victims.iter().map(|pod| pod.priority()).max().unwrap_or(i32::MIN);
        let sum = self.victims.iter().map(|pod| i64::from(pod.priority()) + i64::from(i32::MAX) + 1).sum();
        let earliest = self.victims.iter().filter(|pod| pod.priority() == highest).map(|pod| started(pod)).min();
        (self.budget_violations, highest.into(), sum, self.victims.len(), Reverse(earliest.unwrap_or(Timestamp::MAX)))
    }
}

fn started(pod: &PodInfo) -> Timestamp {
    let started = pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    started.or(pod.pod.metadata.creation_timestamp.as_ref()).map_or(Timestamp::MAX, |time| time.0)
}

/// Takes every less important pod away; if the incoming one fits then, gives back as many as possible, the most important first.
fn victims_on(cycle: &Cycle, cluster: &Cluster, candidate: Candidate<'_>) -> Option<Eviction> {
    let node = candidate.node;
    let mut cycle = cycle.clone();
    let mut info = candidate.info.clone();
    for nominated in cluster.nominated_to(candidate.name()) {
        if nominated.uid != cycle.incoming.uid && nominated.priority() >= cycle.incoming.priority() {
            info.add(Arc::clone(nominated));
            cycle.count(node, nominated, 1, cluster);
        }
    }
    let mut lower: Vec<_> =
        candidate.info.pods.values().filter(|pod| pod.priority() < cycle.incoming.priority()).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    for pod in &lower {
        info.remove(&pod.uid);
        cycle.count(node, pod, -1, cluster);
    }
    check_as_is(&cycle, cluster, Candidate { node, info: &info }).ok()?;

    lower.sort_by_key(|pod| (Reverse(pod.priority()), started(pod)));
    let (violating, harmless) = split_by_budget(lower, cluster);
    let mut victims = Vec::new();
    let mut budget_violations = 0;
    for (pod, violates) in
        violating.into_iter().map(|pod| (pod, true)).chain(harmless.into_iter().map(|pod| (pod, false)))
    {
        info.add(Arc::clone(&pod));
        cycle.count(node, &pod, 1, cluster);
        if check_as_is(&cycle, cluster, Candidate { node, info: &info }).is_err() {
            info.remove(&pod.uid);
            cycle.count(node, &pod, -1, cluster);
            budget_violations += usize::from(violates);
            victims.push(pod);
        }
    }
    victims.sort_by_key(|pod| (Reverse(pod.priority()), started(pod)));
    (!victims.is_empty()).then(|| Eviction { node: candidate.name().to_owned(), victims, budget_violations })
}

/// Pods whose eviction would break a disruption budget, and the others; order is kept.
fn split_by_budget(pods: Vec<Arc<PodInfo>>, cluster: &Cluster) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut left: HashMap<String, i32> = HashMap::new();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for budget in cluster.budgets.values() {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let concerned =
                budget.namespace().as_deref() == Some(&pod.namespace) && matches_labels(selector, labels_of(&*pod.pod));
            let status = budget.status.as_ref();
            let counted = status
                .and_then(|status| status.disrupted_pods.as_ref())
                .is_some_and(|pods| pods.contains_key(&pod.name));
            if !concerned || counted {
                continue;
            }
            let allowed = status.and_then(|status| status.disruptions_allowed).unwrap_or(0);
            let left = left.entry(budget.uid().unwrap_or_else(|| budget.name_any())).or_insert(allowed);
            *left -= 1;
            violates |= *left < 0;
        }
        violates
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::filters::check;
    use crate::testing::{cluster, node, place, pod, requesting, with_labels};
    use kube::runtime::watcher::Event;
    use serde_json::json;

    fn sized(name: &str, cpu: &str, priority: i32) -> k8s_openapi::api::core::v1::Pod {
        requesting(name, json!({"cpu": cpu}), json!({"priority": priority}))
    }

    fn attempt(cluster: &Cluster, pod: k8s_openapi::api::core::v1::Pod) -> Outcome {
        let cycle = Cycle::prepare(cluster, &Arc::new(PodInfo::new(pod.into()))).unwrap();
        let refused =
            |candidate: Candidate<'_>| Some((candidate.name().to_owned(), check(&cycle, cluster, candidate).err()?));
        let rejections: Vec<_> = cluster.candidates().filter_map(refused).collect();
        preempt(&cycle, cluster, &rejections)
    }

    fn evicted(outcome: Outcome) -> (String, Vec<String>) {
        match outcome {
            Outcome::Evict { node, victims } => (node, victims.iter().map(|pod| pod.name.clone()).collect()),
            Outcome::Refused(text) => panic!("{text}"),
        }
    }

    #[test]
    fn the_fewest_and_least_important_victims() {
        let mut cluster = cluster([node("a", json!({})), node("b", json!({}))]);
        place(&mut cluster, sized("a-mid", "2", 5), "a");
        place(&mut cluster, sized("a-low", "2", 1), "a");
        place(&mut cluster, sized("b-mid", "4", 5), "b");
        assert_eq!(evicted(attempt(&cluster, sized("p", "2", 10))), ("a".into(), vec!["a-low".into()]));
        assert_eq!(evicted(attempt(&cluster, sized("p", "4", 10))).0, "b", "one victim instead of two");
        assert_eq!(evicted(attempt(&cluster, sized("p", "2", 2))), ("a".into(), vec!["a-low".into()]));
    }

    #[test]
    fn refusals_are_told() {
        let mut cluster = cluster([node("a", json!({})), node("b", json!({"spec": {"unschedulable": true}}))]);
        place(&mut cluster, sized("same", "4", 5), "a");
        let told = |outcome| match outcome {
            Outcome::Refused(text) => text,
            Outcome::Evict { .. } => panic!("evicts"),
        };
        assert_eq!(
            told(attempt(&cluster, sized("p", "2", 5))),
            "preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        );
        let never = requesting("p", json!({"cpu": "2"}), json!({"priority": 10, "preemptionPolicy": "Never"}));
        assert_eq!(told(attempt(&cluster, never)), "preemption: not eligible due to preemptionPolicy=Never.");
    }

    #[test]
    fn budgets_are_respected_when_possible() {
        let mut cluster = cluster([node("a", json!({})), node("b", json!({}))]);
        cluster.budgets.apply(Event::Apply(
            serde_json::from_value(json!({"metadata": {"name": "pdb", "namespace": "default", "uid": "pdb"},
                "spec": {"selector": {"matchLabels": {"app": "db"}}}, "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}))
            .unwrap(),
        ));
        place(&mut cluster, with_labels(sized("db", "4", 1), json!({"app": "db"})), "a");
        place(&mut cluster, sized("web", "4", 3), "b");
        assert_eq!(evicted(attempt(&cluster, sized("p", "4", 10))), ("b".into(), vec!["web".into()]));
    }

    #[test]
    fn anti_affinity_is_resolved_by_eviction() {
        let mut cluster = cluster([node("a", json!({}))]);
        place(&mut cluster, with_labels(sized("db", "1", 1), json!({"app": "db"})), "a");
        let spec = json!({"priority": 10, "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]}}});
        assert_eq!(evicted(attempt(&cluster, pod("p", spec))), ("a".into(), vec!["db".into()]));
    }
}
