//! Services, slices and the node, reduced to what the proxy looks at.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use netlink::nftables::matches::{SCTP, TCP, UDP};

use client::mirror::Key;

/// `ClientIPConfig.timeoutSeconds`'s default.
const AFFINITY_SECONDS: i32 = 10_800;

/// All that the rules are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub services: BTreeMap<Key, Service>,
    pub slices: BTreeMap<Key, Slice>,
}

/// The node the rules are for.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub name: String,
    pub ip: Ipv4Addr,
    pub zone: Option<String>,
    pub cluster_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub node_port_addresses: Vec<Ipv4Net>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub cluster_ip: Ipv4Addr,
    pub external_ips: Vec<Ipv4Addr>,
    pub load_balancer_ips: Vec<Ipv4Addr>,
    /// Who may use the load balancer's addresses; empty: everyone.
    pub source_ranges: Vec<Ipv4Net>,
    /// Session affinity by client address, for this long.
    pub affinity: Option<Duration>,
    pub internal_local: bool,
    pub external_local: bool,
    pub health_check_node_port: Option<u16>,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    pub proto: u8,
    pub port: u16,
    pub node_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The name of the Service, in the slice's own namespace.
    pub service: String,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SlicePort {
    pub name: String,
    pub proto: u8,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub ip: Ipv4Addr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<String>,
    pub zone_hints: Vec<String>,
    pub node_hints: Vec<String>,
}

pub fn proto_number(name: Option<&str>) -> Option<u8> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(TCP),
        "UDP" => Some(UDP),
        "SCTP" => Some(SCTP),
        _ => None,
    }
}

pub fn proto_name(number: u8) -> &'static str {
    match number {
        UDP => "udp",
        SCTP => "sctp",
        _ => "tcp",
    }
}

fn ips(texts: Option<&Vec<String>>) -> Vec<Ipv4Addr> {
    texts.into_iter().flatten().filter_map(|ip| ip.parse().ok()).collect()
}

fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

impl Service {
    /// `None` for Services without an IPv4 cluster IP: headless and ExternalName ones need no proxy.
    #[must_use]
    pub fn reduce(object: &core::Service) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let mut cluster_ips = ips(spec.cluster_ips.as_ref());
        cluster_ips.extend(spec.cluster_ip.iter().filter_map(|ip| ip.parse::<Ipv4Addr>().ok()));
        let load_balancer =
            object.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|l| l.ingress.as_ref());
        let load_balancer_ips = load_balancer.into_iter().flatten().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
        let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let configured = spec
                .session_affinity_config
                .as_ref()
                .and_then(|c| c.client_ip.as_ref())
                .and_then(|c| c.timeout_seconds);
            Duration::from_secs(u64::try_from(configured.unwrap_or(AFFINITY_SECONDS)).unwrap_or(1).max(1))
        });
        Some(Self {
            cluster_ip: *cluster_ips.first()?,
            external_ips: ips(spec.external_ips.as_ref()),
            load_balancer_ips: load_balancer_ips.filter_map(|i| i.ip.as_ref()?.parse().ok()).collect(),
            source_ranges: spec
                .load_balancer_source_ranges
                .iter()
                .flatten()
                .filter_map(|r| r.trim().parse().ok())
                .collect(),
            affinity,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            health_check_node_port: spec.health_check_node_port.and_then(port),
            ports: spec.ports.iter().flatten().filter_map(Port::reduce).collect(),
        })
    }
}

impl Port {
    fn reduce(object: &core::ServicePort) -> Option<Self> {
        Some(Self {
            name: object.name.clone().unwrap_or_default(),
            proto: proto_number(object.protocol.as_deref())?,
            port: port(object.port)?,
            node_port: object.node_port.and_then(port),
        })
    }
}

impl Slice {
    #[must_use]
    pub fn reduce(object: &discovery::EndpointSlice) -> Option<Self> {
        if object.address_type != "IPv4" {
            return None;
        }
        let service = object.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
        let ports = object.ports.iter().flatten().filter_map(|p| {
            Some(SlicePort {
                name: p.name.clone().unwrap_or_default(),
                proto: proto_number(p.protocol.as_deref())?,
                port: p.port.and_then(port)?,
            })
        });
        Some(Self {
            service,
            ports: ports.collect(),
            endpoints: object.endpoints.iter().flatten().filter_map(Endpoint::reduce).collect(),
        })
    }
}

impl Endpoint {
    fn reduce(object: &discovery::Endpoint) -> Option<Self> {
        let conditions = object.conditions.clone().unwrap_or_default();
        let hints = object.hints.clone().unwrap_or_default();
        // A condition that is not said: ready is true; serving is as ready; terminating is false.
        let ready = conditions.ready.unwrap_or(true);
        Some(Self {
            ip: object.addresses.first()?.parse().ok()?,
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            node: object.node_name.clone(),
            zone_hints: hints.for_zones.into_iter().flatten().map(|z| z.name).collect(),
            node_hints: hints.for_nodes.into_iter().flatten().map(|n| n.name).collect(),
        })
    }
}
