//! One allowing rule of a policy as nftables rules: every kind of peer times every port.

use ipnet::Ipv4Net;
use netlink::nftables::{Data, Expr, Field, Rule, Set, Table, Verdict, key, matches::*};

use super::cidr;
use super::model::{Peer, Pod, PolicyRule, PortMatch, PortName, State};
use super::select::matches as selects;
use client::mirror::Key;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// The pods a chain is for, and where their policy stands.
pub struct Group<'a> {
    pub state: &'a State,
    pub direction: Direction,
    pub namespace: &'a str,
    pub pods: &'a [&'a Pod],
}

impl Group<'_> {
    /// Rules that return, that is allow. `set` is the name for the set of peer pods, if one is needed.
    pub fn allow(&self, table: &mut Table, rule: &PolicyRule, set: &str) -> Vec<Rule> {
        let peer_pods = self.peer_pods(&rule.peers);
        let mut peers: Vec<Rule> = Vec::new();
        if rule.peers.is_empty() {
            peers.push(Vec::new());
        }
        for peer in &rule.peers {
            if let Peer::Block { cidr, except } = peer {
                peers.extend(cidr::without(*cidr, except).into_iter().map(|net| self.peer_in(net)));
            }
        }
        if rule.peers.iter().any(|peer| matches!(peer, Peer::Pods { .. })) {
            let mut ips = Set::new(&[Field::Ipv4]);
            ips.elements.extend(peer_pods.iter().map(|pod| (key::ip(pod.ip), Data::None)));
            table.sets.insert(set.into(), ips);
            peers.push([self.load_peer(), in_set(set)].concat());
        }
        let ports = self.ports(rule, &peer_pods);
        let allow = |peer: &Rule, port: &Rule| [peer.clone(), port.clone(), verdict(Verdict::Return)].concat();
        peers.iter().flat_map(|peer| ports.iter().map(move |port| allow(peer, port))).collect()
    }

    /// The peer is the source of what comes in, the destination of what goes out.
    fn load_peer(&self) -> Vec<Expr> {
        match self.direction {
            Direction::Ingress => load_source(0),
            Direction::Egress => load_destination(0),
        }
    }

    fn peer_in(&self, net: Ipv4Net) -> Rule {
        match (net.prefix_len(), self.direction) {
            (0, _) => Vec::new(),
            (_, Direction::Ingress) => source_in(net),
            (_, Direction::Egress) => destination_in(net),
        }
    }

    fn peer_pods(&self, peers: &[Peer]) -> Vec<&Pod> {
        let chosen = |(key, pod): &(&Key, &Pod)| peers.iter().any(|peer| self.is_peer(peer, &key.0, pod));
        self.state.pods.iter().filter(chosen).map(|(_, pod)| pod).collect()
    }

    fn is_peer(&self, peer: &Peer, namespace: &str, pod: &Pod) -> bool {
        let Peer::Pods { namespaces, pods } = peer else { return false };
        let in_namespace = match namespaces {
            None => namespace == self.namespace,
            Some(selector) => {
                let labels = self.state.namespaces.get(&(String::new(), namespace.to_string())).map(|n| &n.labels);
                labels.is_some_and(|labels| selects(selector, labels))
            }
        };
        in_namespace && pods.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
    }

    fn ports(&self, rule: &PolicyRule, peer_pods: &[&Pod]) -> Vec<Rule> {
        if rule.ports.is_empty() {
            return vec![Vec::new()];
        }
        rule.ports.iter().flat_map(|port| self.port(rule, port, peer_pods)).collect()
    }

    fn port(&self, rule: &PolicyRule, port: &PortMatch, peer_pods: &[&Pod]) -> Vec<Rule> {
        match &port.port {
            PortName::Any => vec![proto(port.proto)],
            PortName::Range(first, last) => vec![[proto(port.proto), port_range(*first, *last)].concat()],
            PortName::Named(name) => self.named_port(rule, name, port.proto, peer_pods),
        }
    }

    /// A name means the number that the receiving pod gives it, so there is one rule for each receiving pod.
    fn named_port(&self, rule: &PolicyRule, name: &str, number: u8, peer_pods: &[&Pod]) -> Vec<Rule> {
        let everyone: Vec<&Pod>;
        let receivers = match self.direction {
            Direction::Ingress => self.pods,
            Direction::Egress if rule.peers.is_empty() => {
                everyone = self.state.pods.values().collect();
                &everyone
            }
            Direction::Egress => peer_pods,
        };
        let mut rules = Vec::new();
        for pod in receivers {
            for (_, _, port) in pod.ports.iter().filter(|(n, p, _)| n == name && *p == number) {
                rules.push(
                    [destination_in(Ipv4Net::new_assert(pod.ip, 32)), proto(number), port_range(*port, *port)].concat(),
                );
            }
        }
        rules
    }
}
