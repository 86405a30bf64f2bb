//! Pods and pod templates: defaults, status at birth, validation (kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation`).

pub(super) mod columns;
mod containers;
pub(super) mod defaults;
mod probes;
mod qos;
mod resize;
mod resources;
mod scheduling;
mod security;
pub(super) mod status;
pub(super) mod update;
mod volumes;
mod warnings;

use serde_json::{Value, json};

use super::meta;
use crate::{
    field::{FieldError, Path},
    names,
    value::{get, list_at, str_at},
};

pub(super) use defaults::{pod as defaults, template as template_defaults};
pub use qos::class as qos_class;
pub(super) use resize::{prepare as prepare_subresource, validate as validate_subresource};
pub(super) use resources::amount;
pub(super) use scheduling::{node_selector, tolerations};
pub(super) use warnings::{pod as warnings, template as template_warnings};

/// An init container that stays beside the others.
fn is_sidecar(container: &Value) -> bool {
    str_at(container, "restartPolicy") == "Always"
}

/// A new pod is pending, with its quality of service known.
pub(super) fn prepare_create(pod: &mut Value) {
    let class = qos::class(pod);
    meta::set_status(pod, json!({"phase": "Pending", "qosClass": class}));
}

pub(super) fn validate(pod: &Value) -> Vec<FieldError> {
    let name = str_at(pod, "metadata.name");
    let mut errors = validate_spec(pod.get("spec").unwrap_or(&Value::Null), name, &Path::new("spec"));
    // the name of a pod may be an old one; its hostname is cut from it, so nothing more is asked here
    errors.extend(scheduled_and_gated(pod));
    errors
}

fn scheduled_and_gated(pod: &Value) -> Option<FieldError> {
    let both = !list_at(pod, "spec.schedulingGates").is_empty() && !str_at(pod, "spec.nodeName").is_empty();
    let at = Path::new("spec").child("nodeName");
    both.then(|| FieldError::forbidden(&at, "cannot be set until all schedulingGates have been cleared"))
}

/// The pod template of a workload: labels and spec.
pub(super) fn validate_template(template: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = meta::labels(get(template, "metadata.labels"), &path.child("labels"));
    errors.extend(meta::annotations(get(template, "metadata.annotations"), &path.child("annotations")));
    errors.extend(validate_spec(template.get("spec").unwrap_or(&Value::Null), "", &path.child("spec")));
    if !list_at(template, "spec.ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            &path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}

/// In upstream's order (`ValidatePodSpec`).
fn validate_spec(spec: &Value, pod_name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = volumes::validate(spec, pod_name, &path.child("volumes"));
    errors.extend(resources::pod_claims(spec, &path.child("resourceClaims")));
    errors.extend(containers::validate_all(spec, path));
    errors.extend(resources::of_pod(spec, &path.child("resources")));
    errors.extend(meta::one_of(spec, "restartPolicy", path, &["Always", "OnFailure", "Never"]));
    errors.extend(meta::one_of(spec, "dnsPolicy", path, DNS_POLICIES));
    errors.extend(meta::labels(get(spec, "nodeSelector"), &path.child("nodeSelector")));
    errors.extend(security::validate(spec, path));
    errors.extend(scheduling::affinity(spec, &path.child("affinity")));
    errors.extend(dns(spec, path));
    errors.extend(scheduling::gates(spec, path));
    errors.extend(scheduling::spread(spec, &path.child("topologySpreadConstraints")));
    errors.extend(spec_names(spec, path, &["serviceAccountName", "nodeName"]));
    errors.extend(numbers(spec, path));
    errors.extend(spec_names(spec, path, &["hostname", "subdomain"]));
    errors.extend(scheduling::tolerations(list_at(spec, "tolerations"), &path.child("tolerations")));
    errors.extend(aliases(spec, path));
    errors.extend(spec_names(spec, path, &["priorityClassName", "runtimeClassName"]));
    errors.extend(meta::optional_one_of(spec, "preemptionPolicy", path, &["Never", "PreemptLowerPriority"]));
    errors.extend(resources::overhead(spec, &path.child("overhead")));
    if let Some(os) = spec.get("os") {
        errors.extend(meta::one_of(os, "name", &path.child("os"), &["linux", "windows"]));
    }
    errors
}

const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

fn dns(spec: &Value, path: &Path) -> Vec<FieldError> {
    const SERVERS_MAX: usize = 3;
    let mut errors: Vec<FieldError> = Vec::new();
    let at = path.child("dnsConfig");
    let servers = list_at(spec, "dnsConfig.nameservers");
    if servers.len() > SERVERS_MAX {
        let detail = format!("must not have more than {SERVERS_MAX} nameservers");
        errors.push(FieldError::invalid(&at.child("nameservers"), servers.to_vec(), detail));
    }
    if str_at(spec, "dnsPolicy") == "None" {
        if get(spec, "dnsConfig").is_none() {
            errors.push(FieldError::required(&at, "must provide `dnsConfig` when `dnsPolicy` is None"));
        } else if list_at(spec, "dnsConfig.nameservers").is_empty() {
            errors.push(FieldError::required(
                &at.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            ));
        }
    }
    for (i, server) in list_at(spec, "dnsConfig.nameservers").iter().enumerate() {
        errors.extend(ip(server.as_str().unwrap_or_default(), &at.child("nameservers").index(i)));
    }
    errors
}

pub(in crate::resources) fn ip(text: &str, path: &Path) -> Option<FieldError> {
    text.parse::<std::net::IpAddr>()
        .is_err()
        .then(|| FieldError::invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
}

fn numbers(spec: &Value, path: &Path) -> Vec<FieldError> {
    // a negative grace period is taken as one second, and warned of
    let mut errors = Vec::new();
    if let Some(seconds) = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.push(FieldError::invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    errors
}

fn spec_names(spec: &Value, path: &Path, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in fields {
        let text = str_at(spec, field);
        let rule =
            if matches!(*field, "hostname" | "subdomain") { names::dns1123_label } else { names::dns1123_subdomain };
        if !text.is_empty() {
            errors.extend(rule(text).into_iter().map(|p| FieldError::invalid(&path.child(field), text, p)));
        }
    }
    errors
}

fn aliases(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, alias) in list_at(spec, "hostAliases").iter().enumerate() {
        let at = path.child("hostAliases").index(i);
        errors.extend(ip(str_at(alias, "ip"), &at.child("ip")));
        for (j, name) in list_at(alias, "hostnames").iter().filter_map(Value::as_str).enumerate() {
            let at = at.child("hostnames").index(j);
            errors.extend(names::dns1123_subdomain(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
        }
    }
    errors
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
