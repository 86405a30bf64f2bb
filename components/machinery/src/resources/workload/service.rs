//! Services (kubernetes `pkg/apis/core`, `pkg/registry/core/service`). Cluster IPs and node ports are allocated by the API server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod, writing},
    value::{default_to, each_mut, get, int_at, list_at, object_mut, str_at},
};

const SESSION_SECONDS: i64 = 10_800;
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

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
    }
}

fn port_defaults(port: &mut Value) {
    default_to(port, "protocol", "TCP");
    let number = port.get("port").cloned().unwrap_or_else(|| 0.into());
    if port.get("targetPort").is_none_or(|t| t.as_i64() == Some(0) || t.as_str() == Some("")) {
        port["targetPort"] = number;
    }
}

/// One family, that of the given address or IPv4.
fn default_families(spec: &mut Value) {
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
    if has_cluster_ip(new) && has_cluster_ip(old) && str_at(new, "spec.clusterIP").is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = get(old, &format!("spec.{field}")) {
                new["spec"][field] = value.clone();
            }
        }
    }
    let left_cluster_ip = !has_cluster_ip(new) && has_cluster_ip(old);
    if left_cluster_ip && str_at(new, "spec.clusterIP") == str_at(old, "spec.clusterIP") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if let Some(spec) = new.get_mut("spec") {
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

pub(in crate::resources) fn validate(service: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let mut errors: Vec<FieldError> = meta::one_of(spec, "type", &path, TYPES).into_iter().collect();
    errors.extend(meta::one_of(spec, "sessionAffinity", &path, &["ClientIP", "None"]));
    errors.extend(meta::labels(spec.get("selector"), &path.child("selector")));
    errors.extend(ports(spec, &path));
    errors.extend(addresses(spec, &path));
    errors.extend(meta::optional_one_of(spec, "internalTrafficPolicy", &path, &["Cluster", "Local"]));
    errors.extend(meta::optional_one_of(spec, "externalTrafficPolicy", &path, &["Cluster", "Local"]));
    if let Some(seconds) =
        int_at(spec, "sessionAffinityConfig.clientIP.timeoutSeconds").filter(|s| !(1..=86_400).contains(s))
    {
        let at = path.child("sessionAffinityConfig").child("clientIP").child("timeoutSeconds");
        errors.push(FieldError::invalid(&at, seconds, "must be greater than 0 and less than or equal to 86400"));
    }
    errors
}

fn ports(spec: &Value, path: &Path) -> Vec<FieldError> {
    let list = list_at(spec, "ports");
    let at = path.child("ports");
    let headless = str_at(spec, "clusterIP") == "None";
    if list.is_empty() {
        return if headless || str_at(spec, "type") == "ExternalName" {
            Vec::new()
        } else {
            vec![FieldError::required(&at, "")]
        };
    }
    let mut errors = Vec::new();
    let mut names_seen = BTreeSet::new();
    let mut numbers_seen = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let at = at.index(i);
        errors.extend(one_port(port, &at, list.len() > 1, spec));
        let name = str_at(port, "name");
        if !name.is_empty() && !names_seen.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        let number = int_at(port, "port").unwrap_or(0);
        if !numbers_seen.insert((number, str_at(port, "protocol"))) {
            errors.push(FieldError::duplicate(&at, json!({"port": number, "protocol": str_at(port, "protocol")})));
        }
    }
    errors
}

fn one_port(port: &Value, path: &Path, name_required: bool, spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = str_at(port, "name");
    if name.is_empty() && name_required {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else if !name.is_empty() {
        errors
            .extend(names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&path.child("name"), name, p)));
    }
    let number = int_at(port, "port").unwrap_or(0);
    errors.extend(names::port_number(number).into_iter().map(|p| FieldError::invalid(&path.child("port"), number, p)));
    errors.extend(meta::one_of(port, "protocol", path, &["SCTP", "TCP", "UDP"]));
    match port.get("targetPort") {
        Some(Value::String(name)) => {
            errors.extend(
                names::port_name(name)
                    .into_iter()
                    .map(|p| FieldError::invalid(&path.child("targetPort"), name.as_str(), p)),
            );
        }
        target => {
            let target = target.and_then(Value::as_i64).unwrap_or(0);
            errors.extend(
                names::port_number(target)
                    .into_iter()
                    .map(|p| FieldError::invalid(&path.child("targetPort"), target, p)),
            );
        }
    }
    if int_at(port, "nodePort").unwrap_or(0) != 0 && !matches!(str_at(spec, "type"), "NodePort" | "LoadBalancer") {
        let detail = format!("may not be used when `type` is '{}'", str_at(spec, "type"));
        errors.push(FieldError::forbidden(&path.child("nodePort"), detail));
    }
    errors
}

fn addresses(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = str_at(spec, "type");
    let address = str_at(spec, "clusterIP");
    if !address.is_empty() && address != "None" {
        errors.extend(pod::ip(address, &path.child("clusterIPs").index(0)));
    }
    if kind == "ExternalName" {
        let name = str_at(spec, "externalName");
        let bare = name.strip_suffix('.').unwrap_or(name);
        if !address.is_empty() && address != "None" {
            errors
                .push(FieldError::forbidden(&path.child("clusterIPs"), "may not be set when `type` is 'ExternalName'"));
        }
        if bare.is_empty() {
            errors.push(FieldError::required(&path.child("externalName"), ""));
        } else {
            errors.extend(
                names::dns1123_subdomain(bare)
                    .into_iter()
                    .map(|p| FieldError::invalid(&path.child("externalName"), name, p)),
            );
        }
    } else if address == "None" && kind != "ClusterIP" {
        errors.push(FieldError::invalid(
            &path.child("clusterIPs").index(0),
            "None",
            format!("may not be set to 'None' for {kind} services"),
        ));
    }
    for (i, address) in list_at(spec, "externalIPs").iter().enumerate() {
        errors.extend(pod::ip(address.as_str().unwrap_or_default(), &path.child("externalIPs").index(i)));
    }
    errors
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    let (after, before) = (str_at(new, "spec.clusterIP"), str_at(old, "spec.clusterIP"));
    if has_cluster_ip(new) && has_cluster_ip(old) && !before.is_empty() && after != before {
        let at = Path::new("spec").child("clusterIPs").index(0);
        errors.push(FieldError::invalid(&at, json!([after]), "may not change once set"));
    }
    errors
}

/// What a Service says and nobody heeds (kubernetes `pkg/api/service/warnings.go`).
pub(in crate::resources) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_some_and(|old| old.get("spec") == new.get("spec")) {
        return warnings;
    }
    if str_at(new, "spec.type") == "ExternalName" && !list_at(new, "spec.externalIPs").is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if str_at(new, "spec.clusterIP") == "None" {
        if !str_at(new, "spec.loadBalancerIP").is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !list_at(new, "spec.externalIPs").is_empty() {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if str_at(new, "spec.sessionAffinity") != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    warnings
}
