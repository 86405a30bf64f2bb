//! Which of the nodes that can take a pod is best: a weighted sum of marks from 0 to 100, weights as upstream's default profile.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::affinity::preferences;
use crate::cluster::{Candidate, Cluster, PodInfo};
use crate::resources::{Resources, allocatable};
use crate::selectors::{matches_node_term, untolerated};
use crate::spread;

/// The sum of marks of each candidate.
pub fn rate(incoming: &PodInfo, cluster: &Cluster, candidates: &[Candidate<'_>]) -> Vec<f64> {
    let marks = [
        (1.0, each(candidates, |candidate| least_allocated(incoming, candidate))),
        (1.0, each(candidates, |candidate| balanced(incoming, candidate))),
        (1.0, image_locality(&incoming.pod, cluster, candidates)),
        (
            3.0,
            fewest(each(candidates, |candidate| {
                untolerated(&incoming.pod, candidate.node, &["PreferNoSchedule"]).count() as f64
            })),
        ),
        (2.0, most(each(candidates, |candidate| node_preference(&incoming.pod, candidate.node)))),
        (2.0, topology_spread(incoming, cluster, candidates)),
        (2.0, inter_pod(incoming, cluster, candidates)),
    ];
    let mut total = vec![0.0; candidates.len()];
    for (weight, marks) in marks {
        for (sum, mark) in total.iter_mut().zip(marks) {
            *sum += weight * mark;
        }
    }
    total
}

/// One of the best candidates; ties are broken by `choose`, which gets the number of equals.
pub fn best<'a>(
    rated: &[f64],
    candidates: &[Candidate<'a>],
    choose: impl FnOnce(usize) -> usize,
) -> Option<Candidate<'a>> {
    let top = rated.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let equals: Vec<usize> = (0..rated.len()).filter(|index| top - rated[*index] < 0.5).collect();
    if equals.is_empty() {
        return None;
    }
    candidates.get(equals[choose(equals.len()) % equals.len()]).copied()
}

fn each(candidates: &[Candidate<'_>], mark: impl Fn(Candidate<'_>) -> f64) -> Vec<f64> {
    candidates.iter().map(|candidate| mark(*candidate)).collect()
}

fn usage(incoming: &PodInfo, candidate: Candidate<'_>) -> (Resources, Resources) {
    let mut used = candidate.info.scoring_requested.clone();
    used.add(&incoming.scoring_requests);
    (used, allocatable(candidate.node))
}

/// The free share of cpu and memory after placing the pod.
fn least_allocated(incoming: &PodInfo, candidate: Candidate<'_>) -> f64 {
    let (used, has) = usage(incoming, candidate);
    let free = |used: i64, has: i64| if has <= 0 || used > has { 0.0 } else { (has - used) as f64 / has as f64 };
    100.0 * (free(used.cpu, has.cpu) + free(used.memory, has.memory)) / 2.0
}

/// Cpu and memory should run out together.
fn balanced(incoming: &PodInfo, candidate: Candidate<'_>) -> f64 {
    let (used, has) = usage(incoming, candidate);
    let share = |used: i64, has: i64| if has <= 0 { 1.0 } else { (used as f64 / has as f64).min(1.0) };
    100.0 * (1.0 - (share(used.cpu, has.cpu) - share(used.memory, has.memory)).abs() / 2.0)
}

/// Nodes that have the images already; an image counts by its size and by how widely it is spread, so that no node attracts everything.
fn image_locality(pod: &Pod, cluster: &Cluster, candidates: &[Candidate<'_>]) -> Vec<f64> {
    const MIB: f64 = 1024.0 * 1024.0;
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let images: Vec<&str> = containers.filter_map(|container| container.image.as_deref()).collect();
    let size_on = |node: &Node, image: &str| {
        let known = node.status.as_ref().and_then(|status| status.images.as_deref()).unwrap_or_default();
        let named = |name: &String| name == image || name.strip_suffix(":latest") == Some(image);
        known
            .iter()
            .find(|known| known.names.iter().flatten().any(named))
            .map(|known| known.size_bytes.unwrap_or(0) as f64)
    };
    let nodes = cluster.candidates().count().max(1) as f64;
    let spread: Vec<f64> = images
        .iter()
        .map(|image| {
            cluster.candidates().filter(|candidate| size_on(candidate.node, image).is_some()).count() as f64 / nodes
        })
        .collect();
    let low = 23.0 * MIB;
    let high = 1000.0 * MIB * images.len().max(1) as f64;
    each(candidates, |candidate| {
        let sum: f64 =
            images.iter().zip(&spread).filter_map(|(image, share)| Some(size_on(candidate.node, image)? * share)).sum();
        100.0 * (sum.clamp(low, high) - low) / (high - low)
    })
}

fn node_preference(pod: &Pod, node: &Node) -> f64 {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let preferred =
        affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref());
    let matching = preferred.unwrap_or_default().iter().filter(|term| matches_node_term(&term.preference, node));
    matching.map(|term| f64::from(term.weight)).sum()
}

fn topology_spread(incoming: &PodInfo, cluster: &Cluster, candidates: &[Candidate<'_>]) -> Vec<f64> {
    let Some(costs) = spread::costs(incoming, cluster, candidates) else { return vec![0.0; candidates.len()] };
    let known = || costs.iter().flatten().copied();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
    let mark = |cost: f64| if high == 0.0 { 100.0 } else { 100.0 * (high + low - cost) / high };
    costs.iter().map(|cost| cost.map_or(0.0, mark)).collect()
}

fn inter_pod(incoming: &PodInfo, cluster: &Cluster, candidates: &[Candidate<'_>]) -> Vec<f64> {
    let scores = preferences(incoming, cluster);
    if scores.is_empty() {
        return vec![0.0; candidates.len()];
    }
    let sums = each(candidates, |candidate| scores.sum_at(candidate.node) as f64);
    let low = sums.iter().copied().fold(f64::INFINITY, f64::min);
    let high = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    sums.iter().map(|sum| if high > low { 100.0 * (sum - low) / (high - low) } else { 0.0 }).collect()
}

/// The highest value gets 100, nothing gets 0.
fn most(values: Vec<f64>) -> Vec<f64> {
    let high = values.iter().copied().fold(0.0, f64::max);
    values.iter().map(|value| if high > 0.0 { 100.0 * value / high } else { 0.0 }).collect()
}

/// Nothing gets 100, the highest value gets 0.
fn fewest(values: Vec<f64>) -> Vec<f64> {
    most(values).iter().map(|mark| 100.0 - mark).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::testing::{cluster, node, place, pod, requesting, with_labels};
    use serde_json::json;

    fn winner(cluster: &Cluster, pod: Pod) -> String {
        let incoming = PodInfo::new(pod.into());
        let candidates: Vec<_> = cluster.candidates().collect();
        let rated = rate(&incoming, cluster, &candidates);
        best(&rated, &candidates, |_| 0).unwrap().name().to_owned()
    }

    #[test]
    fn the_emptier_node_wins() {
        let mut cluster = cluster([node("a", json!({})), node("b", json!({}))]);
        place(&mut cluster, requesting("x", json!({"cpu": "2", "memory": "4Gi"}), json!({})), "a");
        assert_eq!(winner(&cluster, pod("p", json!({}))), "b");
    }

    #[test]
    fn preferences_outweigh_load() {
        let mut cluster = cluster([node("a", json!({"metadata": {"labels": {"disk": "ssd"}}})), node("b", json!({}))]);
        place(
            &mut cluster,
            with_labels(requesting("x", json!({"cpu": "1", "memory": "2Gi"}), json!({})), json!({"app": "db"})),
            "a",
        );
        let preferred = |affinity| pod("p", json!({"affinity": affinity}));
        assert_eq!(
            winner(
                &cluster,
                preferred(json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}))
            ),
            "a"
        );
        let term = json!({"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}});
        assert_eq!(
            winner(
                &cluster,
                preferred(json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}))
            ),
            "a"
        );
    }

    #[test]
    fn soft_taints_repel_and_siblings_spread() {
        let tainted = node("a", json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}}));
        assert_eq!(winner(&cluster([tainted, node("b", json!({}))]), pod("p", json!({}))), "b");

        let mut two = cluster([node("a", json!({})), node("b", json!({"status": {"allocatable": {"cpu": "2"}}}))]);
        let owned = |name: &str| {
            let mut pod = pod(name, json!({}));
            pod.metadata.owner_references = serde_json::from_value(
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]),
            )
            .unwrap();
            pod
        };
        place(&mut two, owned("x"), "a");
        assert_eq!(winner(&two, owned("p")), "b", "though b is smaller");
    }

    #[test]
    fn ties_are_left_to_chance() {
        let cluster = cluster([node("a", json!({})), node("b", json!({}))]);
        let candidates: Vec<_> = cluster.candidates().collect();
        assert_eq!(
            best(&[5.0, 5.0], &candidates, |count| {
                assert_eq!(count, 2);
                1
            })
            .unwrap()
            .name(),
            "b"
        );
    }
}
