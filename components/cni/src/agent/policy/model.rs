//! Policies, pods and namespaces, reduced to what the rules need.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use netlink::nftables::matches::{SCTP, TCP, UDP};

use client::mirror::Key;

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub pods: BTreeMap<Key, Pod>,
    pub namespaces: BTreeMap<Key, Namespace>,
    pub policies: BTreeMap<Key, Policy>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    pub labels: Labels,
}

/// A pod with an address of its own that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub ip: Ipv4Addr,
    pub node: String,
    pub labels: Labels,
    /// Container ports with a name: name, protocol, number.
    pub ports: Vec<(String, u8, u16)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub pods: LabelSelector,
    /// `None`: the policy says nothing about this direction. Empty: it allows nothing.
    pub ingress: Option<Vec<PolicyRule>>,
    pub egress: Option<Vec<PolicyRule>>,
}

/// Allowed: these peers on these ports; an empty list means all.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRule {
    pub peers: Vec<Peer>,
    pub ports: Vec<PortMatch>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Peer {
    Block {
        cidr: Ipv4Net,
        except: Vec<Ipv4Net>,
    },
    /// Without a namespace selector: the policy's own namespace. Without a pod selector: every pod.
    Pods {
        namespaces: Option<LabelSelector>,
        pods: Option<LabelSelector>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct PortMatch {
    pub proto: u8,
    pub port: PortName,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PortName {
    Any,
    Range(u16, u16),
    Named(String),
}

fn proto(name: Option<&str>) -> Option<u8> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(TCP),
        "UDP" => Some(UDP),
        "SCTP" => Some(SCTP),
        _ => None,
    }
}

impl Namespace {
    #[must_use]
    pub fn reduce(object: &core::Namespace) -> Option<Self> {
        Some(Self { labels: object.metadata.labels.clone().unwrap_or_default() })
    }
}

impl Pod {
    #[must_use]
    pub fn reduce(object: &core::Pod) -> Option<Self> {
        let (spec, status) = (object.spec.as_ref()?, object.status.as_ref()?);
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if ended || spec.host_network == Some(true) {
            return None;
        }
        let ports =
            spec.containers.iter().chain(spec.init_containers.iter().flatten()).flat_map(|c| c.ports.iter().flatten());
        Some(Self {
            ip: status.pod_ip.as_ref()?.parse().ok()?,
            node: spec.node_name.clone().unwrap_or_default(),
            labels: object.metadata.labels.clone().unwrap_or_default(),
            ports: ports
                .filter_map(|p| {
                    Some((p.name.clone()?, proto(p.protocol.as_deref())?, u16::try_from(p.container_port).ok()?))
                })
                .collect(),
        })
    }
}

impl Policy {
    #[must_use]
    pub fn reduce(object: &networking::NetworkPolicy) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let has = |kind: &str| types.iter().any(|t| t == kind);
        let (ingress, egress) = if types.is_empty() {
            (true, spec.egress.as_ref().is_some_and(|e| !e.is_empty()))
        } else {
            (has("Ingress"), has("Egress"))
        };
        let ingress_rules =
            || spec.ingress.iter().flatten().map(|r| PolicyRule::reduce(r.from.as_ref(), r.ports.as_ref()));
        let egress_rules = || spec.egress.iter().flatten().map(|r| PolicyRule::reduce(r.to.as_ref(), r.ports.as_ref()));
        Some(Self {
            pods: spec.pod_selector.clone().unwrap_or_default(),
            ingress: ingress.then(|| ingress_rules().flatten().collect()),
            egress: egress.then(|| egress_rules().flatten().collect()),
        })
    }
}

impl PolicyRule {
    /// `None` if the rule has peers or ports but none that IPv4 can match: then it must not become "all".
    fn reduce(
        peers: Option<&Vec<networking::NetworkPolicyPeer>>,
        ports: Option<&Vec<networking::NetworkPolicyPort>>,
    ) -> Option<Self> {
        let given_peers = peers.map_or(&[][..], Vec::as_slice);
        let given_ports = ports.map_or(&[][..], Vec::as_slice);
        let rule = Self {
            peers: given_peers.iter().filter_map(Peer::reduce).collect(),
            ports: given_ports.iter().filter_map(PortMatch::reduce).collect(),
        };
        let lost =
            (rule.peers.is_empty() && !given_peers.is_empty()) || (rule.ports.is_empty() && !given_ports.is_empty());
        (!lost).then_some(rule)
    }
}

impl Peer {
    fn reduce(object: &networking::NetworkPolicyPeer) -> Option<Self> {
        if let Some(block) = &object.ip_block {
            let except = block.except.iter().flatten().filter_map(|net| net.parse().ok()).collect();
            return Some(Self::Block { cidr: block.cidr.parse().ok()?, except });
        }
        Some(Self::Pods { namespaces: object.namespace_selector.clone(), pods: object.pod_selector.clone() })
    }
}

impl PortMatch {
    fn reduce(object: &networking::NetworkPolicyPort) -> Option<Self> {
        let port = match &object.port {
            None => PortName::Any,
            Some(IntOrString::String(name)) => PortName::Named(name.clone()),
            Some(IntOrString::Int(first)) => {
                PortName::Range(u16::try_from(*first).ok()?, u16::try_from(object.end_port.unwrap_or(*first)).ok()?)
            }
        };
        Some(Self { proto: proto(object.protocol.as_deref())?, port })
    }
}
