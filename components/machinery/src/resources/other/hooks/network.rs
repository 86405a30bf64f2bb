//! Ingresses, their classes, and network policies (kubernetes `pkg/apis/networking`).

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{each_mut, get, int_at, list_at, object_mut, str_at},
};

pub(in crate::resources) fn ingress(ingress: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = ingress.get("spec").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    if list_at(spec, "rules").is_empty() && spec.get("defaultBackend").is_none() {
        errors.push(FieldError::invalid(&path, spec.clone(), "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(default) = spec.get("defaultBackend") {
        errors.extend(backend(default, &path.child("defaultBackend")));
    }
    for (i, rule) in list_at(spec, "rules").iter().enumerate() {
        let at = path.child("rules").index(i);
        errors.extend(host(str_at(rule, "host"), &at.child("host")));
        errors.extend(paths(rule, &at.child("http").child("paths")));
    }
    for (i, tls) in list_at(spec, "tls").iter().enumerate() {
        for (j, name) in list_at(tls, "hosts").iter().filter_map(Value::as_str).enumerate() {
            errors.extend(host(name, &path.child("tls").index(i).child("hosts").index(j)));
        }
    }
    let class = str_at(spec, "ingressClassName");
    if spec.get("ingressClassName").is_some() {
        let at = path.child("ingressClassName");
        errors.extend(names::dns1123_subdomain(class).into_iter().map(|p| FieldError::invalid(&at, class, p)));
    }
    errors
}

fn host(host: &str, path: &Path) -> Vec<FieldError> {
    if host.is_empty() {
        return Vec::new();
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        return vec![FieldError::invalid(path, host, "must be a DNS name, not an IP address")];
    }
    let problems =
        if host.contains('*') { names::wildcard_dns1123_subdomain(host) } else { names::dns1123_subdomain(host) };
    problems.into_iter().map(|p| FieldError::invalid(path, host, p)).collect()
}

fn paths(rule: &Value, path: &Path) -> Vec<FieldError> {
    const TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
    const FORBIDDEN: [&str; 6] = ["//", "/./", "/../", "%2f", "%2F", "\n"];
    let mut errors = Vec::new();
    if rule.get("http").is_some() && list_at(rule, "http.paths").is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (i, entry) in list_at(rule, "http.paths").iter().enumerate() {
        let at = path.index(i);
        let (kind, text) = (str_at(entry, "pathType"), str_at(entry, "path"));
        match kind {
            "" => errors.push(FieldError::required(&at.child("pathType"), "pathType must be specified")),
            "Exact" | "Prefix" => {
                if !text.starts_with('/') {
                    errors.push(FieldError::invalid(&at.child("path"), text, "must be an absolute path"));
                }
                errors.extend(
                    FORBIDDEN
                        .iter()
                        .filter(|f| text.contains(**f))
                        .map(|f| FieldError::invalid(&at.child("path"), text, format!("must not contain '{f}'"))),
                );
            }
            "ImplementationSpecific" if !text.is_empty() && !text.starts_with('/') => {
                errors.push(FieldError::invalid(&at.child("path"), text, "must be an absolute path"));
            }
            "ImplementationSpecific" => {}
            other => errors.push(FieldError::not_supported(&at.child("pathType"), other, TYPES)),
        }
        errors.extend(backend(entry.get("backend").unwrap_or(&Value::Null), &at.child("backend")));
    }
    errors
}

fn backend(backend: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("service");
    match (backend.get("service"), backend.get("resource")) {
        (Some(_), Some(_)) => vec![FieldError::invalid(path, "", "cannot set both resource and service backends")],
        (None, None) => vec![FieldError::required(path, "port name or number is required")],
        (None, Some(_)) => Vec::new(),
        (Some(service), None) => {
            let mut errors = Vec::new();
            let name = str_at(service, "name");
            if name.is_empty() {
                errors.push(FieldError::required(&at.child("name"), ""));
            } else {
                errors.extend(
                    names::dns1035_label(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)),
                );
            }
            errors.extend(backend_port(service, &at.child("port")));
            errors
        }
    }
}

fn backend_port(service: &Value, path: &Path) -> Vec<FieldError> {
    let (name, number) = (str_at(service, "port.name"), int_at(service, "port.number").unwrap_or(0));
    match (name.is_empty(), number) {
        (false, 0) => {
            names::port_name(name).into_iter().map(|p| FieldError::invalid(&path.child("name"), name, p)).collect()
        }
        (false, _) => vec![FieldError::invalid(path, "", "cannot set both port name & port number")],
        (true, 0) => vec![FieldError::required(path, "port name or number is required")],
        (true, n) => {
            names::port_number(n).into_iter().map(|p| FieldError::invalid(&path.child("number"), n, p)).collect()
        }
    }
}

pub(in crate::resources) fn ingress_class(class: &Value) -> Vec<FieldError> {
    let at = Path::new("spec").child("controller");
    let controller = str_at(class, "spec.controller");
    if controller.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let (domain, rest) = controller.split_once('/').unwrap_or((controller, ""));
    if names::dns1123_subdomain(domain).is_empty() && !rest.is_empty() {
        return Vec::new();
    }
    vec![FieldError::invalid(&at, controller, "must be a domain-prefixed path (such as \"acme.io/foo\")")]
}

pub(in crate::resources) fn ingress_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = ingress_class(new);
    errors.extend(meta::immutable(new, old, &["spec.controller"]));
    errors
}

pub(in crate::resources) fn network_policy_defaults(policy: &mut Value) {
    let Some(spec) = object_mut(policy, "spec") else { return };
    object_mut(spec, "podSelector");
    for rules in ["ingress", "egress"] {
        each_mut(spec, rules, |rule| each_mut(rule, "ports", |port| crate::value::default_to(port, "protocol", "TCP")));
    }
    if list_at(spec, "policyTypes").is_empty() {
        let egress = !list_at(spec, "egress").is_empty();
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
}

pub(in crate::resources) fn network_policy(policy: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = meta::label_selector(get(policy, "spec.podSelector"), &path.child("podSelector"));
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list_at(policy, &format!("spec.{rules}")).iter().enumerate() {
            let at = path.child(rules).index(i);
            for (j, port) in list_at(rule, "ports").iter().enumerate() {
                errors.extend(policy_port(port, &at.child("ports").index(j)));
            }
            for (j, peer) in list_at(rule, peers).iter().enumerate() {
                errors.extend(policy_peer(peer, &at.child(peers).index(j)));
            }
        }
    }
    for (i, kind) in list_at(policy, "spec.policyTypes").iter().filter_map(Value::as_str).enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            errors.push(FieldError::not_supported(&path.child("policyTypes").index(i), kind, &["Egress", "Ingress"]));
        }
    }
    errors
}

fn policy_port(port: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        meta::optional_one_of(port, "protocol", path, &["SCTP", "TCP", "UDP"]).into_iter().collect();
    match port.get("port") {
        Some(Value::String(name)) => errors.extend(
            names::port_name(name).into_iter().map(|p| FieldError::invalid(&path.child("port"), name.as_str(), p)),
        ),
        Some(number) => {
            let number = number.as_i64().unwrap_or(0);
            errors.extend(
                names::port_number(number).into_iter().map(|p| FieldError::invalid(&path.child("port"), number, p)),
            );
            if let Some(end) = int_at(port, "endPort").filter(|e| *e < number) {
                errors.push(FieldError::invalid(
                    &path.child("endPort"),
                    end,
                    "must be greater than or equal to `port`",
                ));
            }
        }
        None if port.get("endPort").is_some() => errors
            .push(FieldError::required(&path.child("endPort"), "may not be specified when `port` is not specified")),
        None => {}
    }
    errors
}

fn policy_peer(peer: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = meta::label_selector(peer.get("podSelector"), &path.child("podSelector"));
    errors.extend(meta::label_selector(peer.get("namespaceSelector"), &path.child("namespaceSelector")));
    let selectors = peer.get("podSelector").is_some() || peer.get("namespaceSelector").is_some();
    match peer.get("ipBlock") {
        Some(_) if selectors => {
            errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"))
        }
        Some(block) => {
            let cidr = str_at(block, "cidr");
            if !is_cidr(cidr) {
                errors.push(FieldError::invalid(
                    &path.child("ipBlock").child("cidr"),
                    cidr,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ));
            }
        }
        None if !selectors => errors.push(FieldError::required(path, "must specify a peer")),
        None => {}
    }
    errors
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    match (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) {
        (Ok(address), Ok(bits)) => bits <= if address.is_ipv4() { 32 } else { 128 },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn ingresses() {
        let service = json!({"service": {"name": "s", "port": {"number": 80}}});
        let good = json!({"spec": {"ingressClassName": "x", "rules": [{"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]}}]}});
        assert_eq!(texts(&ingress(&good)), Vec::<String>::new());
        assert_eq!(
            texts(&ingress(&json!({"spec": {}}))),
            ["spec: Invalid value: {}: either `defaultBackend` or `rules` must be specified"]
        );
        let bad = json!({"spec": {"rules": [{"host": "1.2.3.4", "http": {"paths": [{"path": "/", "backend": {"service": {"name": "s"}}}]}}]}});
        assert_eq!(
            texts(&ingress(&bad)),
            [
                "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
                "spec.rules[0].http.paths[0].backend.service.port: Required value: port name or number is required",
            ]
        );
    }

    #[test]
    fn policies() {
        let mut p =
            json!({"spec": {"egress": [{"ports": [{"port": 53}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}});
        network_policy_defaults(&mut p);
        assert_eq!(p["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(texts(&network_policy(&p)), Vec::<String>::new());
        p["spec"]["egress"][0]["to"] = json!([{}, {"ipBlock": {"cidr": "x"}}]);
        assert_eq!(network_policy(&p).len(), 2);
    }
}
