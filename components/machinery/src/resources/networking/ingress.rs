//! Ingresses (kubernetes `pkg/apis/networking/validation`).

use serde_json::Value;

use super::class::typed_reference;
use crate::{
    field::{FieldError, Path},
    names,
    resources::pod,
    value::{get, int_at, list_at, str_at},
};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) fn validate_create(ingress: &Value) -> Vec<FieldError> {
    let mut errors = validate(ingress);
    let annotated = get(ingress, "metadata.annotations").and_then(|a| a.get(CLASS_ANNOTATION)).and_then(Value::as_str);
    let named = get(ingress, "spec.ingressClassName").and_then(Value::as_str);
    if let (Some(annotated), Some(named)) = (annotated, named)
        && annotated != named
    {
        let at = Path::new("annotations").child(CLASS_ANNOTATION);
        errors.push(FieldError::invalid(&at, annotated, "must match `ingressClassName` when both are specified"));
    }
    errors
}

pub(super) fn validate(ingress: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = ingress.get("spec").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    if list_at(spec, "rules").is_empty() && spec.get("defaultBackend").is_none() {
        errors.push(FieldError::invalid_no_list(&path, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(default) = spec.get("defaultBackend") {
        errors.extend(backend(default, &path.child("defaultBackend")));
    }
    for (i, rule) in list_at(spec, "rules").iter().enumerate() {
        let at = path.child("rules").index(i);
        let name = str_at(rule, "host");
        if name.parse::<std::net::IpAddr>().is_ok() {
            errors.push(FieldError::invalid(&at.child("host"), name, "must be a DNS name, not an IP address"));
        }
        if !name.is_empty() {
            errors.extend(host(name, &at.child("host")));
        }
        errors.extend(paths(rule, &at.child("http").child("paths")));
    }
    for (i, tls) in list_at(spec, "tls").iter().enumerate() {
        let at = path.child("tls").index(i);
        for (j, name) in list_at(tls, "hosts").iter().filter_map(Value::as_str).enumerate() {
            errors.extend(host(name, &at.child("hosts").index(j)));
        }
        let (secret, at) = (str_at(tls, "secretName"), at.child("secretName"));
        if !secret.is_empty() {
            errors.extend(names::dns1123_subdomain(secret).into_iter().map(|p| FieldError::invalid(&at, secret, p)));
        }
    }
    if let Some(class) = get(spec, "ingressClassName").and_then(Value::as_str) {
        let at = path.child("ingressClassName");
        errors.extend(names::dns1123_subdomain(class).into_iter().map(|p| FieldError::invalid(&at, class, p)));
    }
    errors
}

/// Addresses that were there may stay, however they are written.
pub(super) fn validate_status(ingress: &Value, old: &Value) -> Vec<FieldError> {
    let known = list_at(old, "status.loadBalancer.ingress");
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let mut errors = Vec::new();
    for (i, point) in list_at(ingress, "status.loadBalancer.ingress").iter().enumerate() {
        let (ip, name) = (str_at(point, "ip"), str_at(point, "hostname"));
        if !ip.is_empty() && !known.iter().any(|old| str_at(old, "ip") == ip) {
            errors.extend(pod::ip(ip, &path.index(i).child("ip")));
        }
        let at = path.index(i).child("hostname");
        if !name.is_empty() {
            errors.extend(names::dns1123_subdomain(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
            if name.parse::<std::net::IpAddr>().is_ok() {
                errors.push(FieldError::invalid(&at, name, "must be a DNS name, not an IP address"));
            }
        }
    }
    errors
}

fn host(host: &str, path: &Path) -> Vec<FieldError> {
    let problems =
        if host.contains('*') { names::wildcard_dns1123_subdomain(host) } else { names::dns1123_subdomain(host) };
    problems.into_iter().map(|p| FieldError::invalid(path, host, p)).collect()
}

fn paths(rule: &Value, path: &Path) -> Vec<FieldError> {
    const TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
    const FORBIDDEN: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
    const NO_END: [&str; 2] = ["/..", "/."];
    let mut errors = Vec::new();
    if rule.get("http").is_some() && list_at(rule, "http.paths").is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (i, entry) in list_at(rule, "http.paths").iter().enumerate() {
        let at = path.index(i);
        let (kind, text) = (str_at(entry, "pathType"), str_at(entry, "path"));
        match kind {
            "" => {
                errors.push(FieldError::required(&at.child("pathType"), "pathType must be specified"));
                continue;
            }
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
                errors.extend(
                    NO_END
                        .iter()
                        .filter(|f| text.ends_with(**f))
                        .map(|f| FieldError::invalid(&at.child("path"), text, format!("cannot end with '{f}'"))),
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
    match (backend.get("service"), backend.get("resource")) {
        (Some(_), Some(_)) => vec![FieldError::invalid(path, "", "cannot set both resource and service backends")],
        (None, None) => vec![FieldError::invalid(path, "", "resource or service backend is required")],
        (None, Some(resource)) => typed_reference(resource, &path.child("resource")),
        (Some(service), None) => {
            let (name, at) = (str_at(service, "name"), path.child("service").child("name"));
            let mut errors: Vec<FieldError> = match name {
                "" => vec![FieldError::required(&at, "")],
                name => names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at, name, p)).collect(),
            };
            errors.extend(backend_port(service, path));
            errors
        }
    }
}

fn backend_port(service: &Value, path: &Path) -> Vec<FieldError> {
    let (name, number) = (str_at(service, "port.name"), int_at(service, "port.number").unwrap_or(0));
    let at = path.child("service").child("port");
    match (name.is_empty(), number) {
        (false, 0) => {
            names::port_name(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)).collect()
        }
        (false, _) => vec![FieldError::invalid(path, "", "cannot set both port name & port number")],
        (true, 0) => vec![FieldError::required(path, "port name or number is required")],
        (true, n) => {
            names::port_number(n).into_iter().map(|p| FieldError::invalid(&at.child("number"), n, p)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn ingresses() {
        let service = json!({"service": {"name": "s", "port": {"number": 80}}});
        let good = json!({"spec": {"ingressClassName": "x", "rules": [{"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]}}]}});
        assert_eq!(texts(&validate(&good)), Vec::<String>::new());
        assert_eq!(
            texts(&validate(&json!({"spec": {}}))),
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]
        );
        let bad = json!({"spec": {"rules": [{"host": "a.b", "http": {"paths": [
            {"path": "/"}, {"path": "/a/..", "pathType": "Exact", "backend": {"service": {"name": "s"}}}, {"path": "x", "pathType": "Prefix", "backend": {}}]}}]}});
        assert_eq!(
            texts(&validate(&bad)),
            [
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
                "spec.rules[0].http.paths[1].path: Invalid value: \"/a/..\": cannot end with '/..'",
                "spec.rules[0].http.paths[1].backend: Required value: port name or number is required",
                "spec.rules[0].http.paths[2].path: Invalid value: \"x\": must be an absolute path",
                "spec.rules[0].http.paths[2].backend: Invalid value: \"\": resource or service backend is required",
            ]
        );
    }

    #[test]
    fn classes_must_agree() {
        let mut both = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {
            "ingressClassName": "b", "defaultBackend": {"resource": {"kind": "K", "name": "n"}}}});
        assert_eq!(validate_create(&both).len(), 1);
        assert!(validate(&both).is_empty());
        both["status"] = json!({"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "1.2.3.4"}]}});
        assert_eq!(validate_status(&both, &json!({})).len(), 2);
        assert_eq!(validate_status(&both, &both).len(), 1, "an address that was there may stay");
    }
}
