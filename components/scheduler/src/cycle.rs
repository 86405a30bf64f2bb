//! One attempt to place one pod: what was worked out once for all nodes, and why a node was refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::affinity::InterPod;
use crate::cluster::{Cluster, PodInfo};
use crate::spread::Spread;
use crate::volumes::VolumePlan;

/// The parts of the decision, named as upstream's plugins; a refused pod is tried again when something that its refusing parts look at changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Plugin {
    NodeUnschedulable = 1,
    TaintToleration = 1 << 1,
    NodeAffinity = 1 << 2,
    NodePorts = 1 << 3,
    NodeResourcesFit = 1 << 4,
    VolumeRestrictions = 1 << 5,
    VolumeBinding = 1 << 6,
    PodTopologySpread = 1 << 7,
    InterPodAffinity = 1 << 8,
}

/// A set of [`Plugin`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plugins(u16);

impl Plugins {
    pub const ALL: Self = Self(u16::MAX);

    pub const fn of(plugins: &[Plugin]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < plugins.len() {
            bits |= plugins[index] as u16;
            index += 1;
        }
        Self(bits)
    }

    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= plugin as u16;
    }

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Why a node does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: Plugin,
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether removing other pods could help.
    pub resolvable: bool,
}

impl Rejection {
    pub fn fixed(plugin: Plugin, reason: &'static str, resolvable: bool) -> Self {
        Self { plugin, reasons: vec![Cow::Borrowed(reason)], resolvable }
    }

    pub fn told(plugin: Plugin, reason: String, resolvable: bool) -> Self {
        Self { plugin, reasons: vec![Cow::Owned(reason)], resolvable }
    }
}

/// What is the same for every node, worked out once.
#[derive(Clone)]
pub struct Cycle {
    pub incoming: Arc<PodInfo>,
    pub inter_pod: InterPod,
    pub spread: Spread,
    pub volumes: VolumePlan,
}

impl Cycle {
    /// Fails when no node could take the pod, whatever it is like.
    pub fn prepare(cluster: &Cluster, incoming: &Arc<PodInfo>) -> Result<Self, Rejection> {
        Ok(Self {
            volumes: VolumePlan::prepare(incoming, cluster)?,
            inter_pod: InterPod::prepare(incoming, cluster),
            spread: Spread::prepare(incoming, cluster),
            incoming: Arc::clone(incoming),
        })
    }

    /// Counts another pod on a node in (+1) or out (−1).
    pub fn count(&mut self, node: &Node, placed: &PodInfo, amount: i64, cluster: &Cluster) {
        self.inter_pod.count(&self.incoming, node, placed, amount, cluster);
        self.spread.count(&self.incoming, node, placed, amount);
        self.volumes.count(placed, amount);
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`, as upstream's `FitError` says it.
pub fn summary<'a>(nodes: usize, rejections: impl Iterator<Item = &'a Rejection>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    format!(
        "0/{nodes} nodes are available: {}.",
        tally(rejections.flat_map(|rejection| rejection.reasons.iter().map(|reason| &**reason)))
    )
}

/// Each reason with how often it was given, sorted.
pub fn tally<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_reads_as_upstreams() {
        let cpu = Rejection::fixed(Plugin::NodeResourcesFit, "Insufficient cpu", true);
        let taint = Rejection::fixed(Plugin::TaintToleration, "node(s) had untolerated taint(s)", false);
        assert_eq!(
            summary(3, [&cpu, &taint, &cpu].into_iter()),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu."
        );
        assert_eq!(summary(0, [].into_iter()), "no nodes available to schedule pods");
    }

    #[test]
    fn plugin_sets() {
        let set = Plugins::of(&[Plugin::NodePorts, Plugin::VolumeBinding]);
        assert!(set.intersects(Plugins::of(&[Plugin::VolumeBinding])));
        assert!(!set.intersects(Plugins::of(&[Plugin::NodeAffinity])));
        assert!(Plugins::ALL.intersects(set));
    }
}
