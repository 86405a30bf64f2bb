//! The arithmetic of a rollout: pure functions from a Deployment and its ReplicaSets to sizes (upstream:
//! pkg/controller/deployment, util/deployment_util.go).

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::core::meta;

pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const HASH_LABEL: &str = "pod-template-hash";

pub type Sets = [Arc<ReplicaSet>];

pub fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

pub fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|it| it.type_.as_deref()) == Some("Recreate")
}

pub fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.paused.unwrap_or(false)
}

/// (maxSurge, maxUnavailable) as counts. Both zero would stop the rollout, so then one may be unavailable.
fn limits(deployment: &Deployment) -> (i32, i32) {
    if is_recreate(deployment) || replicas(deployment) == 0 {
        return (0, 0);
    }
    let default = IntOrString::String("25%".into());
    let rolling = deployment.spec.strategy.as_ref().and_then(|it| it.rolling_update.as_ref());
    let surge =
        meta::scaled(rolling.and_then(|it| it.max_surge.as_ref()).unwrap_or(&default), replicas(deployment), true);
    let unavailable = meta::scaled(
        rolling.and_then(|it| it.max_unavailable.as_ref()).unwrap_or(&default),
        replicas(deployment),
        false,
    );
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    (surge, unavailable.min(replicas(deployment)))
}

pub fn max_surge(deployment: &Deployment) -> i32 {
    limits(deployment).0
}

pub fn max_unavailable(deployment: &Deployment) -> i32 {
    limits(deployment).1
}

pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

pub fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub fn sum(sets: &Sets, of: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.iter().map(|set| of(set)).sum()
}

pub fn revision(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> i64 {
    meta::annotation(meta, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn annotated(set: &ReplicaSet, key: &str) -> Option<i32> {
    meta::annotation(&set.metadata, key)?.parse().ok()
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(metadata) = template.metadata.as_mut() {
        if let Some(labels) = metadata.labels.as_mut() {
            labels.remove(HASH_LABEL);
        }
        metadata.labels = metadata.labels.take().filter(|it| !it.is_empty());
        metadata.creation_timestamp = None;
    }
    template
}

/// The oldest set whose template equals the Deployment's, so that a rollback finds its set again.
pub fn find_new(deployment: &Deployment, sets: &Sets) -> Option<Arc<ReplicaSet>> {
    let wanted = without_hash(&deployment.spec.template);
    let equal = |set: &&Arc<ReplicaSet>| set.spec.template.as_ref().is_some_and(|it| without_hash(it) == wanted);
    oldest_first(sets).iter().find(equal).cloned()
}

pub fn oldest_first(sets: &Sets) -> Vec<Arc<ReplicaSet>> {
    let mut sorted = sets.to_vec();
    sorted.sort_by(|a, b| {
        let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|at| at.0);
        created(a).cmp(&created(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    sorted
}

pub fn active(sets: &Sets) -> Vec<Arc<ReplicaSet>> {
    sets.iter().filter(|set| size(set) > 0).cloned().collect()
}

/// The size the new set should have now. `current` is its present size, `total` the sum over all sets.
pub fn new_size(deployment: &Deployment, current: i32, total: i32) -> i32 {
    let wanted = replicas(deployment);
    if is_recreate(deployment) || current > wanted {
        return wanted;
    }
    let room = (wanted + max_surge(deployment) - total).max(0);
    current + room.min(wanted - current)
}

/// Sizes for the old sets during a rolling update: unhealthy pods go first, then as many as availability allows.
pub fn shrink_old(deployment: &Deployment, new: &ReplicaSet, old: &Sets) -> Vec<(Arc<ReplicaSet>, i32)> {
    let old = oldest_first(old);
    let total = sum(&old, size) + size(new);
    let minimum = replicas(deployment) - max_unavailable(deployment);
    let new_unavailable = size(new) - available(new);
    let budget = total - minimum - new_unavailable;
    if sum(&old, size) == 0 || budget <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<i32> = old.iter().map(|set| size(set)).collect();
    let mut removed = 0;
    for (index, set) in old.iter().enumerate() {
        let unhealthy = (sizes[index] - available(set)).max(0).min(budget - removed);
        sizes[index] -= unhealthy;
        removed += unhealthy;
    }
    let mut spare = sum(&old, available) + available(new) - minimum;
    for current in &mut sizes {
        let less = (*current).min(spare.max(0));
        *current -= less;
        spare -= less;
    }
    old.into_iter().zip(sizes).filter(|(set, to)| size(set) != *to).collect()
}

/// Was `spec.replicas` changed since the sets were last sized?
pub fn is_scaling(deployment: &Deployment, sets: &Sets) -> bool {
    active(sets).iter().any(|set| annotated(set, DESIRED).is_some_and(|desired| desired != replicas(deployment)))
}

/// Sizes for a change of `spec.replicas` while the rollout may be half-way or paused.
pub fn rescale(deployment: &Deployment, new: Option<&Arc<ReplicaSet>>, old: &Sets) -> Vec<(Arc<ReplicaSet>, i32)> {
    let all: Vec<_> = old.iter().chain(new).cloned().collect();
    let growing = active(&all);
    let only = match growing.len() {
        0 => new.cloned().or_else(|| oldest_first(old).pop()),
        1 => growing.first().cloned(),
        _ => None,
    };
    if let Some(only) = only {
        return vec![(only, replicas(deployment))];
    }
    if new.is_some_and(|new| is_saturated(deployment, new)) {
        return active(old).into_iter().map(|set| (set, 0)).collect();
    }
    if is_recreate(deployment) { Vec::new() } else { proportional(deployment, growing) }
}

fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = replicas(deployment);
    size(new) == wanted && annotated(new, DESIRED) == Some(wanted) && available(new) == wanted
}

/// Shares the difference between the sets by size; the biggest takes what rounding leaves.
fn proportional(deployment: &Deployment, mut sets: Vec<Arc<ReplicaSet>>) -> Vec<(Arc<ReplicaSet>, i32)> {
    let allowed = if replicas(deployment) > 0 { replicas(deployment) + max_surge(deployment) } else { 0 };
    let missing = allowed - sum(&sets, size);
    sets = oldest_first(&sets);
    if missing > 0 {
        sets.reverse();
    }
    sets.sort_by_key(|set| std::cmp::Reverse(size(set)));
    let mut added = 0;
    let mut sized: Vec<(Arc<ReplicaSet>, i32)> = Vec::new();
    for set in sets {
        let part = share(deployment, &set, missing, added);
        added += part;
        let to = size(&set) + part;
        sized.push((set, to));
    }
    if let Some((_, first)) = sized.first_mut() {
        *first = (*first + missing - added).max(0);
    }
    sized
}

fn share(deployment: &Deployment, set: &ReplicaSet, missing: i32, added: i32) -> i32 {
    if size(set) == 0 || missing == 0 || missing == added {
        return 0;
    }
    let (part, left) = (fraction(deployment, set), missing - added);
    if missing > 0 { part.min(left) } else { part.max(left) }
}

fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    if replicas(deployment) == 0 {
        return -size(set);
    }
    let before =
        annotated(set, MAX).filter(|it| *it != 0).or_else(|| deployment.status.as_ref()?.replicas).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let scaled = f64::from(size(set)) * f64::from(replicas(deployment) + max_surge(deployment)) / f64::from(before);
    scaled.round() as i32 - size(set)
}

/// Old sets beyond the history limit that hold nothing any more.
pub fn superfluous(deployment: &Deployment, old: &Sets) -> Vec<Arc<ReplicaSet>> {
    let limit = deployment.spec.revision_history_limit.unwrap_or(10).max(0) as usize;
    let mut alive: Vec<_> = old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).cloned().collect();
    alive.sort_by_key(|set| revision(&set.metadata));
    let excess = alive.len().saturating_sub(limit);
    let idle = |set: &Arc<ReplicaSet>| {
        let observed = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
        size(set) == 0 && actual(set) == 0 && set.metadata.generation.unwrap_or(0) <= observed
    };
    alive.into_iter().take(excess).filter(idle).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    pub fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "d"},
            "spec": {"replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}},
        }))
        .unwrap()
    }

    fn set(name: &str, size: i32, available: i32, max: i32) -> Arc<ReplicaSet> {
        Arc::new(serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {(MAX): max.to_string(), (DESIRED): "10"}},
            "spec": {"replicas": size, "selector": {}}, "status": {"replicas": size, "availableReplicas": available},
        }))
        .unwrap())
    }

    fn sizes(result: Vec<(Arc<ReplicaSet>, i32)>) -> Vec<(String, i32)> {
        let mut sizes: Vec<_> = result.into_iter().map(|(set, to)| (set.metadata.name.clone().unwrap(), to)).collect();
        sizes.sort();
        sizes
    }

    #[test]
    fn grows_within_surge() {
        let d = deployment(10, 3, 2);
        assert_eq!(new_size(&d, 0, 10), 3);
        assert_eq!(new_size(&d, 3, 13), 3);
        assert_eq!(new_size(&d, 9, 10), 10);
        assert_eq!(new_size(&d, 12, 12), 10);
    }

    #[test]
    fn shrinks_old_only_as_far_as_availability_allows() {
        let d = deployment(10, 3, 2);
        assert_eq!(sizes(shrink_old(&d, &set("new", 3, 0, 13), &[set("old", 10, 10, 13)])), [("old".into(), 8)]);
        assert!(shrink_old(&d, &set("new", 5, 0, 13), &[set("old", 8, 8, 13)]).is_empty());
        assert_eq!(sizes(shrink_old(&d, &set("new", 5, 5, 13), &[set("old", 8, 8, 13)])), [("old".into(), 3)]);
    }

    #[test]
    fn unhealthy_old_pods_go_first() {
        let d = deployment(10, 3, 2);
        let result = shrink_old(&d, &set("new", 3, 3, 13), &[set("a", 8, 8, 13), set("b", 2, 0, 13)]);
        assert_eq!(sizes(result), [("a".into(), 5), ("b".into(), 0)]);
    }

    #[test]
    fn scales_in_proportion() {
        let d = deployment(30, 3, 2);
        let result = rescale(&d, Some(&set("new", 5, 0, 13)), &[set("old", 8, 8, 13)]);
        assert_eq!(sizes(result), [("new".into(), 13), ("old".into(), 20)]);
        assert!(is_scaling(&d, &[set("old", 8, 8, 13)]));
        let d = deployment(0, 3, 2);
        assert_eq!(
            sizes(rescale(&d, Some(&set("new", 5, 0, 13)), &[set("old", 8, 8, 13)])),
            [("new".into(), 0), ("old".into(), 0)]
        );
    }

    #[test]
    fn both_limits_zero_still_move() {
        assert_eq!(max_unavailable(&deployment(4, 0, 0)), 1);
    }
}
