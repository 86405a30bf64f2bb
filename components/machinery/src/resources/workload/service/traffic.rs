//! Who may reach a Service and how traffic is spread: load balancers, traffic policies.

use std::net::IpAddr;

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, networking, pod},
    value::{get, int_at, list_at, str_at},
};

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
const POLICIES: &[&str] = &["Cluster", "Local"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameNode", "PreferSameZone"];

fn is_balancer(spec: &Value) -> bool {
    str_at(spec, "type") == "LoadBalancer"
}

fn reached_from_outside(spec: &Value) -> bool {
    match str_at(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list_at(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

fn health_checked(spec: &Value) -> bool {
    is_balancer(spec) && str_at(spec, "externalTrafficPolicy") == "Local"
}

pub(super) fn validate(service: &Value, path: &Path) -> Vec<FieldError> {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let mut errors = source_ranges(service, spec, path);
    if get(spec, "allocateLoadBalancerNodePorts").is_some_and(|a| !a.is_null()) && !is_balancer(spec) {
        errors.push(FieldError::forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY_BALANCERS));
    }
    errors.extend(class(spec, path));
    errors.extend(external_policy(spec, path));
    errors.extend(meta::optional_one_of(spec, "internalTrafficPolicy", path, POLICIES));
    if let Some(value) = spec.get("trafficDistribution").and_then(Value::as_str)
        && !DISTRIBUTIONS.contains(&value)
    {
        errors.push(FieldError::not_supported(&path.child("trafficDistribution"), value, DISTRIBUTIONS));
    }
    errors
}

/// The ranges of the field, whose path upstream writes with a capital letter, or those of the annotation.
fn source_ranges(service: &Value, spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let given = list_at(spec, "loadBalancerSourceRanges");
    if !given.is_empty() {
        let at = path.child("LoadBalancerSourceRanges");
        if !is_balancer(spec) {
            errors.push(FieldError::forbidden(&at, ONLY_BALANCERS));
        }
        for (i, range) in given.iter().filter_map(Value::as_str).enumerate() {
            errors.extend(networking::range(range.trim(), &at.index(i)));
        }
    } else if let Some(ranges) = get(service, "metadata.annotations").and_then(|a| a.get(SOURCE_RANGES)?.as_str()) {
        let at = Path::new("metadata").child("annotations").key(SOURCE_RANGES);
        if !is_balancer(spec) {
            errors.push(FieldError::forbidden(&at, ONLY_BALANCERS));
        }
        if !ranges.trim().is_empty() {
            errors.extend(ranges.split(',').flat_map(|range| networking::range(range.trim(), &at)));
        }
    }
    errors
}

fn class(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(class) = spec.get("loadBalancerClass").and_then(Value::as_str) else { return Vec::new() };
    let at = path.child("loadBalancerClass");
    if is_balancer(spec) {
        FieldError::each_invalid(&at, class, names::qualified_name(class))
    } else {
        vec![FieldError::forbidden(&at, ONLY_BALANCERS)]
    }
}

fn external_policy(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policy = str_at(spec, "externalTrafficPolicy");
    if reached_from_outside(spec) {
        errors.extend(meta::one_of(spec, "externalTrafficPolicy", path, POLICIES));
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&path.child("externalTrafficPolicy"), policy, detail));
    }
    let (at, port) = (path.child("healthCheckNodePort"), int_at(spec, "healthCheckNodePort").unwrap_or(0));
    if port != 0 && !health_checked(spec) {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(&at, port, detail));
    } else if port != 0 {
        errors.extend(names::port_number(port).into_iter().map(|problem| FieldError::invalid(&at, port, problem)));
    }
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = |service: &'_ Value| service.get("spec").cloned().unwrap_or_default();
    let (after, before) = (spec(new), spec(old));
    let mut errors = Vec::new();
    let class_of = |spec: &Value| get(spec, "loadBalancerClass").cloned().unwrap_or_default();
    if is_balancer(&after) && is_balancer(&before) && class_of(&after) != class_of(&before) {
        let at = path.child("loadBalancerClass");
        errors.push(FieldError::invalid(&at, class_of(&after), "may not change once set"));
    }
    errors.extend(class(&after, &path));
    let port = |spec: &Value| int_at(spec, "healthCheckNodePort").unwrap_or(0);
    if health_checked(&after) && health_checked(&before) && port(&after) != port(&before) {
        errors.push(FieldError::forbidden(&path.child("healthCheckNodePort"), "field is immutable"));
    }
    errors
}

/// What a controller of load balancers tells.
pub(in crate::resources) fn validate_status_update(new: &Value, _: &Value) -> Vec<FieldError> {
    let at = Path::new("status").child("loadBalancer").child("ingress");
    let ingress = list_at(new, "status.loadBalancer.ingress");
    let mut errors = Vec::new();
    if !ingress.is_empty() && str_at(new, "spec.type") != "LoadBalancer" {
        errors.push(FieldError::forbidden(&at, "may only be used when `spec.type` is 'LoadBalancer'"));
        return errors;
    }
    for (i, entry) in ingress.iter().enumerate() {
        errors.extend(balancer(entry, &at.index(i)));
    }
    errors
}

fn balancer(entry: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (ip, mode) = (str_at(entry, "ip"), entry.get("ipMode").and_then(Value::as_str));
    if !ip.is_empty() {
        errors.extend(pod::ip(ip, &path.child("ip")));
    }
    match mode {
        None if !ip.is_empty() => {
            errors.push(FieldError::required(&path.child("ipMode"), "must be specified when `ip` is set"));
        }
        Some(_) if ip.is_empty() => {
            errors.push(FieldError::forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set"));
        }
        Some(mode) if !["Proxy", "VIP"].contains(&mode) => {
            errors.push(FieldError::not_supported(&path.child("ipMode"), mode, &["Proxy", "VIP"]));
        }
        _ => {}
    }
    let (host, at) = (str_at(entry, "hostname"), path.child("hostname"));
    if !host.is_empty() {
        errors.extend(FieldError::each_invalid(&at, host, names::dns1123_subdomain(host)));
        if host.parse::<IpAddr>().is_ok() {
            errors.push(FieldError::invalid(&at, host, "must be a DNS name, not an IP address"));
        }
    }
    errors
}
