//! Pods and pod templates: defaults, status at birth, validation (kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation`).

mod annotations;
pub(super) mod columns;
mod containers;
pub(super) mod defaults;
mod dns;
mod env;
pub(super) mod ip;
mod mounts;
mod operating_system;
mod probes;
mod qos;
mod resize;
mod resources;
mod scheduling;
mod security;
pub(super) mod sources;
pub(super) mod status;
pub(super) mod update;
mod volumes;
mod warnings;

use serde_json::{Value, json};

use super::meta;
use crate::{
    field::{FieldError, Path},
    names,
    value::{bool_at, get, int_at, list_at, str_at},
};

pub(super) use defaults::{pod as defaults, template as template_defaults};
pub(super) use ip::{ip, odd as odd_ip, special as special_ip};
pub use qos::class as qos_class;
pub(super) use resize::{prepare as prepare_subresource, validate as validate_subresource};
pub(super) use resources::{amount, limits, quantity_value};
pub(super) use scheduling::{node_selector, tolerations};
pub(super) use warnings::{
    fraction as fraction_warning, old_labels, old_sources, pod as warnings, template as template_warnings,
};

/// The lists of containers, in the order in which upstream visits them.
const ALL_CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// An init container that stays beside the others.
fn is_sidecar(container: &Value) -> bool {
    str_at(container, "restartPolicy") == "Always"
}

/// Every container with its path.
fn each_container<'a>(spec: &'a Value, path: &Path) -> Vec<(&'a Value, Path)> {
    let lists = ALL_CONTAINERS.iter().map(|list| (list_at(spec, list), path.child(list)));
    lists.flat_map(|(list, at)| list.iter().enumerate().map(move |(i, c)| (c, at.index(i)))).collect()
}

/// What a spec is looked at as.
#[derive(Clone, Copy)]
struct Subject<'a> {
    /// Empty for templates, and where generated names do not matter.
    pod_name: &'a str,
    /// A pod itself, not the template of some.
    is_pod: bool,
}

/// A new pod is pending, with its quality of service known.
pub(super) fn prepare_create(pod: &mut Value) {
    let class = qos::class(pod);
    meta::set_status(pod, json!({"phase": "Pending", "qosClass": class}));
}

/// A new pod (`ValidatePodCreate`).
pub(super) fn validate_create(pod: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut errors = validate(pod);
    if !list_at(spec, "ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !list_at(spec, "schedulingGates").is_empty() && !str_at(spec, "nodeName").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
    }
    errors.extend(annotations::match_fields(pod, spec, &path));
    errors
}

/// What holds for a pod at any time (`validatePodMetadataAndSpec`); its metadata is checked by the caller.
fn validate(pod: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut errors = annotations::validate(pod, spec, &Path::new("metadata").child("annotations"), true);
    let subject = Subject { pod_name: str_at(pod, "metadata.name"), is_pod: true };
    errors.extend(validate_spec(spec, subject, &path));
    if str_at(spec, "serviceAccountName").is_empty() {
        for (i, volume) in list_at(spec, "volumes").iter().enumerate() {
            let at = path.child("volumes").index(i).child("projected").child("sources");
            let sources = list_at(volume, "projected.sources").iter().enumerate();
            errors.extend(sources.filter(|(_, s)| s.get("serviceAccountToken").is_some()).map(|(j, _)| {
                let detail = "must not be specified when serviceAccountName is not set";
                FieldError::forbidden(&at.index(j).child("serviceAccountToken"), detail)
            }));
        }
    }
    for list in ["containers", "initContainers"] {
        for (i, container) in list_at(spec, list).iter().enumerate() {
            errors.extend(containers::padded_image(container, &path.child(list).index(i)));
        }
    }
    errors
}

/// The pod template of a workload: labels and spec.
pub(super) fn validate_template(template: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("annotations");
    let spec_at = path.child("spec");
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let mut errors = meta::labels(get(template, "metadata.labels"), &path.child("labels"));
    errors.extend(meta::annotations(get(template, "metadata.annotations"), &at));
    errors.extend(annotations::validate(template, spec, &at, false));
    errors.extend(validate_spec(spec, Subject { pod_name: "", is_pod: false }, &spec_at));
    errors.extend(annotations::match_fields(template, spec, &spec_at));
    if !list_at(spec, "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&spec_at.child("ephemeralContainers"), detail));
    }
    errors
}

/// In upstream's order (`ValidatePodSpec`).
fn validate_spec(spec: &Value, subject: Subject, path: &Path) -> Vec<FieldError> {
    let (volumes, mut errors) = volumes::validate(spec, subject, &path.child("volumes"));
    errors.extend(resources::pod_claims(spec, &path.child("resourceClaims")));
    errors.extend(containers::validate_all(spec, volumes, path));
    errors.extend(resources::of_pod(spec, &path.child("resources")));
    errors.extend(host_ports(spec, subject, path));
    errors.extend(meta::one_of(spec, "restartPolicy", path, &["Always", "OnFailure", "Never"]));
    errors.extend(meta::one_of(spec, "dnsPolicy", path, DNS_POLICIES));
    errors.extend(meta::labels(get(spec, "nodeSelector"), &path.child("nodeSelector")));
    errors.extend(security::validate(spec, path));
    errors.extend(scheduling::affinity(spec, &path.child("affinity")));
    errors.extend(dns::validate(spec, &path.child("dnsConfig")));
    errors.extend(scheduling::gates(spec, path));
    errors.extend(scheduling::spread(spec, &path.child("topologySpreadConstraints")));
    errors.extend(operating_system::host_process(spec, path));
    errors.extend(own_user_namespace(spec, path));
    errors.extend(spec_names(spec, path, &["serviceAccountName", "nodeName"]));
    errors.extend(deadline(spec, path));
    errors.extend(spec_names(spec, path, &["hostname", "subdomain"]));
    errors.extend(hostname_override(spec, path));
    errors.extend(scheduling::tolerations(list_at(spec, "tolerations"), &path.child("tolerations")));
    errors.extend(aliases(spec, path));
    errors.extend(spec_names(spec, path, &["priorityClassName", "runtimeClassName"]));
    errors.extend(meta::optional_one_of(spec, "preemptionPolicy", path, &["PreemptLowerPriority", "Never"]));
    errors.extend(resources::overhead(spec, &path.child("overhead")));
    errors.extend(operating_system::validate(spec, path));
    errors
}

const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

/// On the host's network a port is the host's. In a template it may still be unset.
fn host_ports(spec: &Value, subject: Subject, path: &Path) -> Vec<FieldError> {
    const DETAIL: &str = "must match `containerPort` when `hostNetwork` is true";
    let mut errors = Vec::new();
    if !bool_at(spec, "hostNetwork") {
        return errors;
    }
    for (i, container) in list_at(spec, "containers").iter().enumerate() {
        for (j, port) in list_at(container, "ports").iter().enumerate() {
            let (host, own) = (int_at(port, "hostPort").unwrap_or(0), int_at(port, "containerPort").unwrap_or(0));
            if (subject.is_pod || host != 0) && host != own {
                let at = path.child("containers").index(i).child("ports").index(j).child("hostPort");
                errors.push(FieldError::invalid(&at, host, DETAIL));
            }
        }
    }
    errors
}

/// A pod with users of its own shares none of the host's other namespaces (`validateHostUsers`).
fn own_user_namespace(spec: &Value, path: &Path) -> Vec<FieldError> {
    if get(spec, "hostUsers").and_then(Value::as_bool) != Some(false) {
        return Vec::new();
    }
    [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
        .iter()
        .filter(|(field, _)| bool_at(spec, field))
        .map(|(_, shown)| FieldError::forbidden(&path.child(shown), "when `pod.Spec.HostUsers` is false"))
        .collect()
}

fn deadline(spec: &Value, path: &Path) -> Option<FieldError> {
    let seconds = int_at(spec, "activeDeadlineSeconds").filter(|s| !(1..=i64::from(i32::MAX)).contains(s))?;
    let detail = "must be between 1 and 2147483647, inclusive";
    Some(FieldError::invalid(&path.child("activeDeadlineSeconds"), seconds, detail))
}

fn spec_names(spec: &Value, path: &Path, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in fields {
        let text = str_at(spec, field);
        let rule =
            if matches!(*field, "hostname" | "subdomain") { names::dns1123_label } else { names::dns1123_subdomain };
        if !text.is_empty() {
            errors.extend(FieldError::each_invalid(&path.child(field), text, rule(text)));
        }
    }
    errors
}

/// KEP-4762: the whole name the pod sees as its own.
fn hostname_override(spec: &Value, path: &Path) -> Vec<FieldError> {
    const MAX: usize = 64;
    let Some(name) = spec.get("hostnameOverride").and_then(Value::as_str) else { return Vec::new() };
    let at = path.child("hostnameOverride");
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::invalid(&at, name, "must not be an empty string"));
    } else {
        errors.extend(FieldError::each_invalid(&at, name, names::dns1123_subdomain(name)));
    }
    if name.len() > MAX {
        errors.push(FieldError::too_long(&at, MAX));
    }
    if bool_at(spec, "hostNetwork") {
        errors.push(FieldError::forbidden(&at, "may not be specified when hostNetwork is true"));
    }
    if bool_at(spec, "setHostnameAsFQDN") {
        errors.push(FieldError::forbidden(&at, "may not be specified when setHostnameAsFQDN is true"));
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
            errors.extend(FieldError::each_invalid(&at, name, names::dns1123_subdomain(name)));
        }
    }
    errors
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
