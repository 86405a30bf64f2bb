//! Services (kubernetes `pkg/apis/core`, `pkg/registry/core/service`). Cluster IPs and node ports are allocated by the API server.

mod clusters;
mod rules;
mod traffic;
mod warnings;

use serde_json::{Value, json};

pub(in crate::resources) use self::{
    rules::{validate, validate_update},
    traffic::validate_status_update,
    warnings::warnings,
};
use crate::{
    resources::writing,
    value::{default_to, each_mut, get, int_at, list_at, object_mut, str_at},
};

const SESSION_SECONDS: i64 = 10_800;

fn has_cluster_ip(service: &Value) -> bool {
    str_at(service, "spec.type") != "ExternalName"
}

fn has_node_ports(service: &Value) -> bool {
    matches!(str_at(service, "spec.type"), "NodePort" | "LoadBalancer")
}

pub(in crate::resources) fn defaults(service: &mut Value) {
    let Some(spec) = object_mut(service, "spec") else { return };
    default_to(spec, "sessionAffinity", "None");
    default_to(spec, "type", "ClusterIP");
    if str_at(spec, "sessionAffinity") == "ClientIP" {
        let client = object_mut(spec, "sessionAffinityConfig").and_then(|c| object_mut(c, "clientIP"));
        if let Some(client) = client {
            default_to(client, "timeoutSeconds", SESSION_SECONDS);
        }
    } else {
        crate::value::remove(spec, "sessionAffinityConfig");
    }
    each_mut(spec, "ports", port_defaults);
    let kind = str_at(spec, "type").to_owned();
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer") || !list_at(spec, "externalIPs").is_empty();
    if kind != "ExternalName" {
        default_to(spec, "internalTrafficPolicy", "Cluster");
        default_families(spec);
        if external {
            default_to(spec, "externalTrafficPolicy", "Cluster");
        }
    }
    if kind == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = service.get_mut("status").and_then(|s| s.get_mut("loadBalancer")) {
            each_mut(balancer, "ingress", |entry| {
                if !str_at(entry, "ip").is_empty() {
                    default_to(entry, "ipMode", "VIP");
                }
            });
        }
    }
}

fn port_defaults(port: &mut Value) {
    default_to(port, "protocol", "TCP");
    let number = port.get("port").cloned().unwrap_or_else(|| 0.into());
    if port.get("targetPort").is_none_or(|t| t.as_i64() == Some(0) || t.as_str() == Some("")) {
        port["targetPort"] = number;
    }
}

/// One family, that of the given address or IPv4; both where nobody is selected and no address is wanted, since whatever
/// is put there may be of either.
fn default_families(spec: &mut Value) {
    let selects = crate::value::map_at(spec, "selector").is_some_and(|s| !s.is_empty());
    if str_at(spec, "clusterIP") == "None" && !selects {
        default_to(spec, "ipFamilyPolicy", "RequireDualStack");
        if list_at(spec, "ipFamilies").is_empty() && str_at(spec, "ipFamilyPolicy") != "SingleStack" {
            spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        }
    }
    default_to(spec, "ipFamilyPolicy", "SingleStack");
    if list_at(spec, "ipFamilies").is_empty() {
        let family = if str_at(spec, "clusterIP").contains(':') { "IPv6" } else { "IPv4" };
        spec["ipFamilies"] = json!([family]);
    }
    let address = str_at(spec, "clusterIP").to_owned();
    if !address.is_empty() && list_at(spec, "clusterIPs").is_empty() {
        spec["clusterIPs"] = json!([address]);
    }
}

/// An update that leaves out what was allocated keeps it.
pub(in crate::resources) fn prepare_update(new: &mut Value, old: &Value) {
    writing::keep_status(new, old);
    follow_cluster_ip(new, old);
    if has_cluster_ip(new) && has_cluster_ip(old) && str_at(new, "spec.clusterIP").is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = get(old, &format!("spec.{field}")) {
                new["spec"][field] = value.clone();
            }
        }
    }
    if !has_cluster_ip(new) && has_cluster_ip(old) {
        let same = |field: &str| get(new, &format!("spec.{field}")) == get(old, &format!("spec.{field}"));
        let mut dropped: Vec<&str> =
            ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"].into_iter().filter(|field| same(field)).collect();
        if same("clusterIP") {
            dropped.extend(["clusterIP", "clusterIPs"]);
        }
        if let Some(spec) = new.get_mut("spec") {
            for field in dropped {
                crate::value::remove(spec, field);
            }
        }
    }
    if has_node_ports(new) && has_node_ports(old) {
        keep_node_ports(new, old);
    } else if !has_node_ports(new) && has_node_ports(old) {
        drop_node_ports(new, old);
    }
}

/// Who changes the one address and says nothing of the list means both (`NormalizeClusterIPs`).
fn follow_cluster_ip(new: &mut Value, old: &Value) {
    let address = str_at(new, "spec.clusterIP").to_owned();
    let same_list = list_at(new, "spec.clusterIPs") == list_at(old, "spec.clusterIPs");
    if address == str_at(old, "spec.clusterIP") || !same_list {
        return;
    }
    let Some(spec) = new.get_mut("spec") else { return };
    if address.is_empty() {
        crate::value::remove(spec, "clusterIPs");
    } else {
        spec["clusterIPs"] = json!([address]);
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let before = list_at(old, "spec.ports").to_vec();
    let Some(spec) = new.get_mut("spec") else { return };
    each_mut(spec, "ports", |port| {
        if int_at(port, "nodePort").unwrap_or(0) == 0
            && let Some(known) =
                before.iter().find(|p| str_at(p, "name") == str_at(port, "name")).and_then(|p| p.get("nodePort"))
        {
            port["nodePort"] = known.clone();
        }
    });
}

/// On the way back to ClusterIP, node ports that were only carried along go.
fn drop_node_ports(new: &mut Value, old: &Value) {
    let before = list_at(old, "spec.ports").to_vec();
    let Some(spec) = new.get_mut("spec") else { return };
    crate::value::remove(spec, "allocateLoadBalancerNodePorts");
    if list_at(spec, "externalIPs").is_empty() {
        crate::value::remove(spec, "externalTrafficPolicy");
    }
    each_mut(spec, "ports", |port| {
        if before.iter().any(|p| p.get("nodePort") == port.get("nodePort")) {
            crate::value::remove(port, "nodePort");
        }
    });
}

#[cfg(test)]
mod tests;
