//! What a Service may say (kubernetes `ValidateService` and `ValidateServiceUpdate`), in upstream's order.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{clusters, traffic};
use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod},
    value::{get, int_at, list_at, str_at},
};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

pub(in crate::resources) fn validate(service: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let mut errors: Vec<FieldError> = topology(service).into_iter().collect();
    if list_at(spec, "ports").is_empty() && !clusters::headless(spec) && str_at(spec, "type") != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    errors.extend(by_type(spec, &path));
    errors.extend(ports(spec, &path.child("ports")));
    errors.extend(meta::labels(spec.get("selector"), &path.child("selector")));
    errors.extend(affinity(spec, &path));
    errors.extend(clusters::validate(spec, &path));
    for (i, address) in list_at(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        errors.extend(external_address(address, &path.child("externalIPs").index(i)));
    }
    errors.extend(meta::one_of(spec, "type", &path, TYPES));
    errors.extend(no_node_ports(spec, &path.child("ports")));
    errors.extend(twice(spec, &path.child("ports")));
    errors.extend(traffic::validate(service, &path));
    errors
}

/// The annotation and the older one it replaces say the same.
fn topology(service: &Value) -> Option<FieldError> {
    let annotations = get(service, "metadata.annotations")?;
    let (mode, hints) = (annotations.get(TOPOLOGY_MODE)?, annotations.get(TOPOLOGY_HINTS)?);
    let at = Path::new("metadata").child("annotations").key(TOPOLOGY_MODE);
    let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
    (mode != hints).then(|| FieldError::invalid(&at, mode.clone(), detail))
}

fn by_type(spec: &Value, path: &Path) -> Vec<FieldError> {
    match str_at(spec, "type") {
        kind @ ("LoadBalancer" | "NodePort") if clusters::headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            vec![FieldError::invalid(&path.child("clusterIPs").index(0), "None", detail)]
        }
        "ExternalName" => external_name(spec, path),
        _ => Vec::new(),
    }
}

fn external_name(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !list_at(spec, field).is_empty() || !str_at(spec, field).is_empty() {
            errors.push(FieldError::forbidden(&path.child(field), "may not be set for ExternalName services"));
        }
    }
    let at = path.child("externalName");
    let given = str_at(spec, "externalName");
    let name = given.strip_suffix('.').unwrap_or(given);
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(FieldError::each_invalid(&at, name, names::dns1123_subdomain(name)));
    }
    errors
}

fn ports(spec: &Value, path: &Path) -> Vec<FieldError> {
    let list = list_at(spec, "ports");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let at = path.index(i);
        let name = str_at(port, "name");
        if !name.is_empty() {
            errors.extend(FieldError::each_invalid(&at.child("name"), name, names::dns1123_label(name)));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
        } else if list.len() > 1 {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        errors.extend(number(int_at(port, "port").unwrap_or(0), &at.child("port")));
        errors.extend(meta::one_of(port, "protocol", &at, PROTOCOLS));
        match port.get("targetPort") {
            Some(Value::String(name)) => {
                errors.extend(FieldError::each_invalid(&at.child("targetPort"), name, names::port_name(name)));
            }
            target => errors.extend(number(target.and_then(Value::as_i64).unwrap_or(0), &at.child("targetPort"))),
        }
        if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
            errors.extend(FieldError::each_invalid(
                &at.child("appProtocol"),
                protocol,
                names::qualified_name(protocol),
            ));
        }
    }
    errors
}

fn number(port: i64, path: &Path) -> Vec<FieldError> {
    names::port_number(port).into_iter().map(|problem| FieldError::invalid(path, port, problem)).collect()
}

fn affinity(spec: &Value, path: &Path) -> Vec<FieldError> {
    const NEEDED: &str = "when session affinity type is ClientIP";
    let mut errors: Vec<FieldError> =
        meta::one_of(spec, "sessionAffinity", path, &["ClientIP", "None"]).into_iter().collect();
    let mut at = path.child("sessionAffinityConfig");
    match str_at(spec, "sessionAffinity") {
        "ClientIP" => {
            let mut config = spec.get("sessionAffinityConfig").filter(|c| !c.is_null());
            for field in ["clientIP", "timeoutSeconds"] {
                let Some(here) = config else { break };
                at = at.child(field);
                config = here.get(field).filter(|c| !c.is_null());
            }
            match config.map(|seconds| seconds.as_i64().unwrap_or_default()) {
                None => errors.push(FieldError::required(&at, NEEDED)),
                Some(seconds) if seconds <= 0 || seconds > AFFINITY_SECONDS_MAX => {
                    let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                    errors.push(FieldError::invalid(&at, seconds, detail));
                }
                Some(_) => {}
            }
        }
        "None" if spec.get("sessionAffinityConfig").is_some_and(|c| !c.is_null()) => {
            errors.push(FieldError::forbidden(&at, "must not be set when session affinity is None"));
        }
        _ => {}
    }
    errors
}

fn external_address(address: &str, path: &Path) -> Vec<FieldError> {
    match pod::ip(address, path) {
        Some(error) => vec![error],
        None => pod::special_ip(address, path),
    }
}

fn no_node_ports(spec: &Value, path: &Path) -> Vec<FieldError> {
    if str_at(spec, "type") != "ClusterIP" {
        return Vec::new();
    }
    let ports = list_at(spec, "ports").iter().enumerate();
    let given = ports.filter(|(_, port)| int_at(port, "nodePort").unwrap_or(0) != 0);
    let detail = "may not be used when `type` is 'ClusterIP'";
    given.map(|(i, _)| FieldError::forbidden(&path.index(i).child("nodePort"), detail)).collect()
}

/// Ports of nodes, then ports, that are there twice.
fn twice(spec: &Value, path: &Path) -> Vec<FieldError> {
    let list = list_at(spec, "ports");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let Some(number) = int_at(port, "nodePort").filter(|n| *n != 0) else { continue };
        if !seen.insert((number, str_at(port, "protocol"))) {
            errors.push(FieldError::duplicate(&path.index(i).child("nodePort"), number));
        }
    }
    seen.clear();
    for (i, port) in list.iter().enumerate() {
        let (number, protocol) = (int_at(port, "port").unwrap_or(0), str_at(port, "protocol"));
        if !seen.insert((number, protocol)) {
            // upstream shows its own structure, of which the key is a part
            let shown = format!(
                r#"{{"Name":"","Protocol":"{protocol}","AppProtocol":null,"Port":{number},"TargetPort":0,"NodePort":0}}"#
            );
            errors.push(FieldError::duplicate_shown(&path.index(i), &shown));
        }
    }
    errors
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = clusters::validate_update(new, old);
    errors.extend(traffic::validate_update(new, old));
    errors.extend(validate(new));
    errors
}
