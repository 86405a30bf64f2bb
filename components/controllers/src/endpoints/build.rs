//! From a Service and its pods to endpoints: pure. EndpointSlice and Endpoints are two writings of the same list.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as CorePort, EndpointSubset, Node, ObjectReference, Pod, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::hints::Nearness;
use crate::core::{meta, pods};

/// Upstream's limit of endpoints in one slice.
pub const SLICE_SIZE: usize = 100;

/// One group of endpoints that share ports: all pods normally, fewer where a named port resolves differently.
#[derive(Debug, PartialEq)]
pub struct Group {
    pub family: &'static str,
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

/// The address families a Service has, or both for a headless one that does not say.
pub fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.clone().unwrap_or_default();
    let listed: Vec<_> =
        spec.ip_families.iter().flatten().map(|it| if it == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if !listed.is_empty() {
        return listed;
    }
    match spec.cluster_ip.as_deref().and_then(|it| it.parse::<IpAddr>().ok()) {
        Some(IpAddr::V6(_)) => vec!["IPv6"],
        _ => vec!["IPv4"],
    }
}

fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|it| it.ip.as_str()).chain(status.pod_ip.as_deref());
    all.into_iter()
        .find(|it| it.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6")))
        .map(str::to_owned)
}

fn port_number(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|it| it.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|it| it.ports.iter().flatten());
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    ports
        .into_iter()
        .find(|it| it.name.as_deref() == Some(name) && it.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|it| it.container_port)
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let listed = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let resolved = listed.filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port_number(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    resolved.collect()
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let subdomain = spec.subdomain.as_deref() == Some(meta::name(&service.metadata));
    spec.hostname.clone().filter(|it| subdomain && !it.is_empty())
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

pub fn zone(node: &Node) -> Option<&str> {
    meta::label(&node.metadata, "topology.kubernetes.io/zone")
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    address: String,
    node: Option<&Node>,
    nearness: Option<Nearness>,
) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pods::is_terminating(pod);
    let mut endpoint = Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(target(pod)),
        zone: node.and_then(zone).map(str::to_owned),
        ..Default::default()
    };
    endpoint.hints = nearness.and_then(|nearness| nearness.hints(&endpoint));
    endpoint
}

/// The groups of a Service. There is at least one, possibly empty, for each family, as upstream keeps a placeholder.
pub fn groups(service: &Service, all: &[Arc<Pod>], node: impl Fn(&str) -> Option<Arc<Node>>) -> Vec<Group> {
    let nearness = Nearness::of(service);
    let mut result = Vec::new();
    for family in families(service) {
        let mut by_ports: BTreeMap<String, Group> = BTreeMap::new();
        for pod in all.iter().filter(|pod| !pods::is_terminal(pod)) {
            let Some(address) = address(pod, family) else { continue };
            let node = pods::node_name(pod).and_then(&node);
            let ports = ports(service, pod);
            if ports.is_empty() && !is_headless(service) {
                continue;
            }
            let key = ports.iter().map(|it| format!("{:?}/{:?}/{:?} ", it.name, it.port, it.protocol)).collect();
            let group = by_ports.entry(key).or_insert_with(|| Group { family, ports, endpoints: Vec::new() });
            group.endpoints.push(endpoint(service, pod, address, node.as_deref(), nearness));
        }
        if by_ports.is_empty() {
            result.push(Group { family, ports: Vec::new(), endpoints: Vec::new() });
        }
        for mut group in by_ports.into_values() {
            group.endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
            let mut rest = std::mem::take(&mut group.endpoints);
            while rest.len() > SLICE_SIZE {
                let tail = rest.split_off(SLICE_SIZE);
                result.push(Group { family, ports: group.ports.clone(), endpoints: rest });
                rest = tail;
            }
            result.push(Group { family, ports: group.ports, endpoints: rest });
        }
    }
    result
}

/// The Endpoints form: only the first family, terminating pods left out, ready and not ready apart.
pub fn subsets(service: &Service, groups: &[Group]) -> Vec<EndpointSubset> {
    let Some(family) = families(service).first().copied() else { return Vec::new() };
    let mut result: Vec<EndpointSubset> = Vec::new();
    for group in groups.iter().filter(|group| group.family == family) {
        let (mut ready, mut not_ready) = (Vec::new(), Vec::new());
        for endpoint in &group.endpoints {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            if conditions.terminating == Some(true) && !publishes_not_ready(service) {
                continue;
            }
            let address = EndpointAddress {
                ip: endpoint.addresses.first().cloned().unwrap_or_default(),
                hostname: endpoint.hostname.clone(),
                node_name: endpoint.node_name.clone(),
                target_ref: endpoint.target_ref.clone(),
            };
            if conditions.ready == Some(true) { ready.push(address) } else { not_ready.push(address) }
        }
        if ready.is_empty() && not_ready.is_empty() {
            continue;
        }
        let ports: Vec<CorePort> = group
            .ports
            .iter()
            .map(|it| CorePort {
                name: it.name.clone().filter(|it| !it.is_empty()),
                port: it.port.unwrap_or(0),
                protocol: it.protocol.clone(),
                app_protocol: it.app_protocol.clone(),
            })
            .collect();
        let filled = |it: Vec<EndpointAddress>| Some(it).filter(|it| !it.is_empty());
        result.push(EndpointSubset {
            addresses: filled(ready),
            not_ready_addresses: filled(not_ready),
            ports: Some(ports).filter(|it| !it.is_empty()),
        });
    }
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn service(extra: serde_json::Value) -> Service {
        let mut spec = json!({"clusterIP": "10.96.0.5", "selector": {"a": "b"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": spec})).unwrap()
    }

    fn pod(name: &str, ip: &str, port: i32, ready: bool, terminating: bool) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "deletionTimestamp": terminating.then_some("2026-01-01T00:00:00Z")},
            "spec": {"nodeName": "n", "hostname": name, "subdomain": "s", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap())
    }

    #[test]
    fn conditions_and_named_ports() {
        let pods = [
            pod("a", "10.0.0.1", 8080, true, false),
            pod("b", "10.0.0.2", 8080, false, false),
            pod("c", "10.0.0.3", 8080, true, true),
            pod("d", "10.0.0.4", 9090, true, false),
        ];
        let service = service(json!({}));
        let groups = groups(&service, &pods, |_| None);
        assert_eq!(groups.len(), 2);
        let flags: Vec<_> = groups[0]
            .endpoints
            .iter()
            .map(|it| {
                let c = it.conditions.clone().unwrap();
                (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
            })
            .collect();
        assert_eq!(flags, [(true, true, false), (false, false, false), (false, true, true)]);
        assert_eq!(groups[0].endpoints[0].hostname.as_deref(), Some("a"));
        let subsets = subsets(&service, &groups);
        assert_eq!(subsets[0].addresses.as_ref().unwrap().len(), 1);
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap().len(), 1);
        assert_eq!(subsets[1].ports.as_ref().unwrap()[0].port, 9090);
    }

    #[test]
    fn empty_headless_and_unready_publishing() {
        assert_eq!(groups(&service(json!({})), &[], |_| None).len(), 1);
        let headless = service(json!({"clusterIP": "None", "ports": [], "publishNotReadyAddresses": true}));
        let groups = groups(&headless, &[pod("a", "10.0.0.1", 80, false, false)], |_| None);
        assert_eq!(groups[0].endpoints[0].conditions.as_ref().unwrap().ready, Some(true));
        assert!(groups[0].ports.is_empty());
        assert_eq!(subsets(&headless, &groups)[0].addresses.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn big_services_are_cut_into_slices() {
        let pods: Vec<_> = (0..250)
            .map(|i| pod(&format!("p{i}"), &format!("10.0.{}.{}", i / 250, i % 250 + 1), 80, true, false))
            .collect();
        let sizes: Vec<_> = groups(&service(json!({})), &pods, |_| None).iter().map(|it| it.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }
}
