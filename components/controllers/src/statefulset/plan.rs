//! What a StatefulSet does next, from what it has: pure (upstream: stateful_set_control.go).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::core::history::REVISION_LABEL;
use crate::core::meta;
use crate::core::pods::{self, Availability};

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the pod of this ordinal, of the update revision or the current one.
    Create { ordinal: i32, update: bool },
    /// Delete this pod: superfluous, outdated or failed.
    Delete { name: String, failed: bool },
}

pub struct Plan {
    pub actions: Vec<Action>,
    pub status: StatefulSetStatus,
    /// When a pod becomes available by time alone.
    pub wait: Option<Duration>,
}

struct Slot<'a> {
    ordinal: i32,
    pod: Option<&'a Arc<Pod>>,
}

pub struct Input<'a> {
    pub set: &'a StatefulSet,
    pub pods: &'a [Arc<Pod>],
    pub current: &'a str,
    pub update: &'a str,
    pub now: Timestamp,
}

pub fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let rest = pod.strip_prefix(set)?.strip_prefix('-')?;
    let canonical = rest == "0" || (!rest.starts_with('0') && rest.bytes().all(|it| it.is_ascii_digit()));
    if canonical { rest.parse().ok() } else { None }
}

pub fn first_ordinal(set: &StatefulSet) -> i32 {
    set.spec.ordinals.as_ref().and_then(|it| it.start).unwrap_or(0)
}

pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn revision(pod: &Pod) -> &str {
    meta::label(&pod.metadata, REVISION_LABEL).unwrap_or_default()
}

fn partition(set: &StatefulSet) -> i32 {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|it| it.rolling_update.as_ref()).and_then(|it| it.partition).unwrap_or(0)
}

fn max_unavailable(set: &StatefulSet) -> i32 {
    let strategy = set.spec.update_strategy.as_ref();
    let wanted = strategy.and_then(|it| it.rolling_update.as_ref()).and_then(|it| it.max_unavailable.as_ref());
    wanted.map_or(1, |it| meta::scaled(it, replicas(set), true)).max(1)
}

fn on_delete(set: &StatefulSet) -> bool {
    set.spec.update_strategy.as_ref().and_then(|it| it.type_.as_deref()) == Some("OnDelete")
}

fn parallel(set: &StatefulSet) -> bool {
    set.spec.pod_management_policy.as_deref() == Some("Parallel")
}

impl Input<'_> {
    fn min_ready(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    fn availability(&self, pod: &Pod) -> Availability {
        if pods::phase(pod) != "Running" {
            Availability::NotReady
        } else {
            pods::availability(pod, self.min_ready(), self.now)
        }
    }

    fn healthy(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Available && !pods::is_terminating(pod)
    }

    pub fn plan(&self) -> Plan {
        let name = meta::name(&self.set.metadata);
        let start = first_ordinal(self.set);
        let end = start + replicas(self.set).max(0);
        let mut by_ordinal: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
        for pod in self.pods {
            if let Some(ordinal) = ordinal(name, meta::name(&pod.metadata)) {
                by_ordinal.insert(ordinal, pod);
            }
        }
        let slots: Vec<Slot> =
            (start..end).map(|ordinal| Slot { ordinal, pod: by_ordinal.get(&ordinal).copied() }).collect();
        let condemned: Vec<&Arc<Pod>> =
            by_ordinal.iter().filter(|(it, _)| **it < start || **it >= end).map(|(_, pod)| *pod).rev().collect();
        let waits = self
            .pods
            .iter()
            .filter_map(|pod| if let Availability::In(wait) = self.availability(pod) { Some(wait) } else { None });
        let actions =
            if self.set.metadata.deletion_timestamp.is_some() { Vec::new() } else { self.actions(&slots, &condemned) };
        Plan { actions, status: self.status(&slots), wait: waits.min() }
    }

    fn actions(&self, slots: &[Slot], condemned: &[&Arc<Pod>]) -> Vec<Action> {
        let mut actions = Vec::new();
        let ordered = !parallel(self.set);
        if !self.fill(slots, ordered, &mut actions)
            || !self.shrink(slots, condemned, ordered, &mut actions)
            || on_delete(self.set)
            || !actions.is_empty()
        {
            return actions;
        }
        self.update(slots, &mut actions);
        actions
    }

    /// Makes missing pods; false if an ordered set has to wait for one.
    fn fill(&self, slots: &[Slot], ordered: bool, actions: &mut Vec<Action>) -> bool {
        for slot in slots {
            let done = match slot.pod {
                None => {
                    let update = slot.ordinal >= first_ordinal(self.set) + partition(self.set);
                    actions.push(Action::Create { ordinal: slot.ordinal, update });
                    false
                }
                Some(pod) if pods::is_terminating(pod) => false,
                Some(pod) if pods::is_terminal(pod) => {
                    actions.push(Action::Delete { name: meta::name(&pod.metadata).to_owned(), failed: true });
                    false
                }
                Some(pod) => self.healthy(pod),
            };
            if ordered && !done {
                return false;
            }
        }
        true
    }

    /// Removes superfluous pods, highest ordinal first; false if an ordered set has to wait.
    fn shrink(&self, slots: &[Slot], condemned: &[&Arc<Pod>], ordered: bool, actions: &mut Vec<Action>) -> bool {
        let unhealthy = |pod: &&Arc<Pod>| !self.healthy(pod);
        // The first unhealthy pod may go even if unhealthy; others wait for it.
        let first_unhealthy =
            slots.iter().filter_map(|slot| slot.pod).chain(condemned.iter().rev().copied()).find(unhealthy);
        for pod in condemned {
            if pods::is_terminating(pod) {
                if ordered {
                    return false;
                }
                continue;
            }
            let is_first = first_unhealthy.is_some_and(|it| it.metadata.uid == pod.metadata.uid);
            if ordered && !self.healthy(pod) && !is_first {
                return false;
            }
            actions.push(Action::Delete { name: meta::name(&pod.metadata).to_owned(), failed: false });
            if ordered {
                return false;
            }
        }
        true
    }

    /// Replaces outdated pods from the highest ordinal down to the partition, within maxUnavailable.
    fn update(&self, slots: &[Slot], actions: &mut Vec<Action>) {
        let lowest = first_ordinal(self.set) + partition(self.set);
        let mut budget = max_unavailable(self.set);
        for slot in slots.iter().rev().filter(|slot| slot.ordinal >= lowest) {
            let Some(pod) = slot.pod else { return };
            let outdated = revision(pod) != self.update;
            if outdated && !pods::is_terminating(pod) {
                actions.push(Action::Delete { name: meta::name(&pod.metadata).to_owned(), failed: false });
                budget -= 1;
            } else if !self.healthy(pod) {
                budget -= 1;
            }
            if budget <= 0 {
                return;
            }
        }
    }

    fn status(&self, slots: &[Slot]) -> StatefulSetStatus {
        let existing: Vec<&Arc<Pod>> = self.pods.iter().filter(|pod| !pods::phase(pod).is_empty()).collect();
        let count = |test: &dyn Fn(&Pod) -> bool| existing.iter().filter(|pod| test(pod)).count() as i32;
        let of = |wanted: &str| count(&|pod| revision(pod) == wanted && !pods::is_terminating(pod));
        let running_ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
        let old = self.set.status.clone().unwrap_or_default();
        let mut status = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas: existing.len() as i32,
            ready_replicas: Some(count(&running_ready)),
            available_replicas: Some(count(&|pod| self.availability(pod) == Availability::Available)),
            current_replicas: Some(of(self.current)),
            updated_replicas: Some(of(self.update)),
            current_revision: Some(self.current.to_owned()),
            update_revision: Some(self.update.to_owned()),
            collision_count: Some(old.collision_count.unwrap_or(0)),
            conditions: old.conditions,
        };
        let updated =
            slots.iter().all(|slot| slot.pod.is_some_and(|pod| revision(pod) == self.update && running_ready(pod)));
        if !on_delete(self.set) && updated && status.updated_replicas == Some(status.replicas) {
            status.current_revision = Some(self.update.to_owned());
            status.current_replicas = status.updated_replicas;
        }
        status
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::pods::testing::pod as make;
    use serde_json::json;

    fn set(replicas: i32, policy: &str, partition: i32) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "ns", "generation": 1},
            "spec": {"replicas": replicas, "podManagementPolicy": policy, "selector": {}, "serviceName": "db", "template": {},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}},
        }))
        .unwrap()
    }

    fn pod(ordinal: i32, phase: &str, ready: bool, revision: &str) -> Arc<Pod> {
        let mut pod = make(&format!("db-{ordinal}"), Some("n"), phase, ready);
        pod.metadata.labels = Some([(REVISION_LABEL.to_owned(), revision.to_owned())].into());
        Arc::new(pod)
    }

    fn plan(set: &StatefulSet, pods: &[Arc<Pod>]) -> Plan {
        Input { set, pods, current: "old", update: "new", now: Timestamp::from_second(100).unwrap() }.plan()
    }

    fn create(ordinal: i32, update: bool) -> Action {
        Action::Create { ordinal, update }
    }

    fn delete(ordinal: i32, failed: bool) -> Action {
        Action::Delete { name: format!("db-{ordinal}"), failed }
    }

    #[test]
    fn ordinals_are_canonical() {
        assert_eq!(ordinal("db", "db-10"), Some(10));
        assert_eq!(ordinal("db", "db-01"), None);
        assert_eq!(ordinal("db", "db-x-1"), None);
        assert_eq!(ordinal("db", "dbs-1"), None);
    }

    #[test]
    fn ordered_creates_one_at_a_time_and_waits_for_health() {
        let ordered = set(3, "OrderedReady", 0);
        assert_eq!(plan(&ordered, &[]).actions, [create(0, true)]);
        assert_eq!(plan(&ordered, &[pod(0, "Running", false, "new")]).actions, []);
        assert_eq!(plan(&ordered, &[pod(0, "Running", true, "new")]).actions, [create(1, true)]);
        assert_eq!(plan(&set(3, "Parallel", 0), &[]).actions, [create(0, true), create(1, true), create(2, true)]);
    }

    #[test]
    fn shrinks_from_the_top_and_replaces_failed_pods() {
        let all = [pod(0, "Running", true, "new"), pod(1, "Running", true, "new"), pod(2, "Running", true, "new")];
        assert_eq!(plan(&set(1, "OrderedReady", 0), &all).actions, [delete(2, false)]);
        assert_eq!(plan(&set(1, "Parallel", 0), &all).actions, [delete(2, false), delete(1, false)]);
        assert_eq!(plan(&set(1, "OrderedReady", 0), &[pod(0, "Failed", false, "new")]).actions, [delete(0, true)]);
    }

    #[test]
    fn rolls_from_the_top_down_to_the_partition() {
        let all = [pod(0, "Running", true, "old"), pod(1, "Running", true, "old"), pod(2, "Running", true, "old")];
        assert_eq!(plan(&set(3, "OrderedReady", 0), &all).actions, [delete(2, false)]);
        let half = [pod(0, "Running", true, "old"), pod(1, "Running", true, "old"), pod(2, "Running", true, "new")];
        assert_eq!(plan(&set(3, "OrderedReady", 0), &half).actions, [delete(1, false)]);
        assert_eq!(plan(&set(3, "OrderedReady", 2), &half).actions, []);
        let waiting = [pod(0, "Running", true, "old"), pod(1, "Running", true, "old"), pod(2, "Running", false, "new")];
        assert_eq!(plan(&set(3, "Parallel", 0), &waiting).actions, []);
        assert_eq!(plan(&set(3, "OrderedReady", 2), &[]).actions, [create(0, false)]);
    }

    #[test]
    fn current_becomes_update_when_all_are_updated() {
        let all = [pod(0, "Running", true, "new"), pod(1, "Running", true, "new")];
        let status = plan(&set(2, "OrderedReady", 0), &all).status;
        assert_eq!(status.current_revision.as_deref(), Some("new"));
        assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas), (2, Some(2), Some(2)));
        let half = [pod(0, "Running", true, "old"), pod(1, "Running", true, "new")];
        assert_eq!(plan(&set(2, "OrderedReady", 1), &half).status.current_revision.as_deref(), Some("old"));
    }
}
