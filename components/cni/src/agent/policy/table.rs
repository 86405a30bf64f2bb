//! The table of one node: which pods are guarded by which policies.

use std::collections::BTreeMap;

use client::mirror::Key;
use netlink::nftables::{ChainKind, Data, Field, Hook, Set, Table, Value, Verdict, key, matches::*};
use sha2::{Digest, Sha256};

use super::model::{Pod, Policy, PolicyRule, State};
use super::rules::{Direction, Group};
use super::select::matches;

pub const TABLE: &str = "kinstall-policy";

/// What the policies demand of this node.
#[must_use]
pub fn desired(state: &State, node: &str) -> Table {
    let mut table = Table::new(TABLE);
    table.sets.insert("self".into(), Set::new(&[Field::Ipv4, Field::Ipv4]));
    for direction in [Direction::Ingress, Direction::Egress] {
        table.sets.insert(direction.map().into(), Set::map(&[Field::Ipv4], Value::Verdict));
        for (policies, pods) in groups(state, node, direction) {
            add_group(&mut table, state, direction, &policies, &pods);
        }
    }
    table.base_chain(
        "forward",
        ChainKind::Filter,
        Hook::Forward,
        0,
        vec![
            rule([established(), verdict(Verdict::Accept)]),
            // A pod cannot be kept from itself, not even through a Service.
            rule([load_source(0), load_destination(1), in_set("self"), verdict(Verdict::Accept)]),
            rule([load_source(0), vmap(Direction::Egress.map())]),
            rule([load_destination(0), vmap(Direction::Ingress.map())]),
        ],
    );
    table
}

/// This node's pods by the policies that guard them.
fn groups<'a>(state: &'a State, node: &str, direction: Direction) -> BTreeMap<Vec<&'a Key>, Vec<&'a Pod>> {
    let mut groups: BTreeMap<Vec<&Key>, Vec<&Pod>> = BTreeMap::new();
    for ((namespace, _), pod) in state.pods.iter().filter(|(_, pod)| pod.node == node) {
        let applies = |key: &Key, policy: &Policy| {
            key.0 == *namespace && direction.rules(policy).is_some() && matches(&policy.pods, &pod.labels)
        };
        let policies: Vec<_> =
            state.policies.iter().filter(|(key, policy)| applies(key, policy)).map(|(key, _)| key).collect();
        if !policies.is_empty() {
            groups.entry(policies).or_default().push(pod);
        }
    }
    groups
}

fn add_group(table: &mut Table, state: &State, direction: Direction, policies: &[&Key], pods: &[&Pod]) {
    let chain = format!("{}/{}", direction.name(), short_hash(policies));
    for pod in pods {
        if let Some(set) = table.sets.get_mut("self") {
            set.elements.insert(key::ip_ip(pod.ip, pod.ip), Data::None);
        }
        if let Some(map) = table.sets.get_mut(direction.map()) {
            map.elements.insert(key::ip(pod.ip), Data::Verdict(Verdict::Jump(chain.clone())));
        }
    }
    let mut rules = Vec::new();
    for key in policies {
        let Some(allowed) = state.policies.get(*key).and_then(|policy| direction.rules(policy)) else { continue };
        let group = Group { state, direction, namespace: &key.0, pods };
        for (n, rule) in allowed.iter().enumerate() {
            rules.extend(group.allow(table, rule, &format!("peers/{}/{}/{n}", direction.name(), short_hash(key))));
        }
    }
    rules.push(verdict(Verdict::Drop));
    table.chain(chain, rules);
}

/// Names of policies are longer than those of chains may be.
fn short_hash(of: impl std::fmt::Debug) -> String {
    hex::encode(&Sha256::digest(format!("{of:?}"))[..8])
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }

    fn map(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress-pods",
            Direction::Egress => "egress-pods",
        }
    }

    fn rules(self, policy: &Policy) -> Option<&Vec<PolicyRule>> {
        match self {
            Direction::Ingress => policy.ingress.as_ref(),
            Direction::Egress => policy.egress.as_ref(),
        }
    }
}
