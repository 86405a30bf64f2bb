//! Pods and pod templates: defaults, status at birth, validation (kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation`).

pub(super) mod columns;
mod containers;
pub(super) mod defaults;
mod probes;
mod qos;
mod resize;
mod resources;
mod scheduling;
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
    validate_spec(pod.get("spec").unwrap_or(&Value::Null), &Path::new("spec"))
}

/// The pod template of a workload: labels and spec.
pub(super) fn validate_template(template: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = meta::labels(get(template, "metadata.labels"), &path.child("labels"));
    errors.extend(validate_spec(template.get("spec").unwrap_or(&Value::Null), &path.child("spec")));
    if !list_at(template, "spec.ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            &path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}

fn validate_spec(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = volumes::validate(list_at(spec, "volumes"), &path.child("volumes"));
    errors.extend(containers::validate_all(spec, path));
    errors.extend(meta::one_of(spec, "restartPolicy", path, &["Always", "OnFailure", "Never"]));
    errors.extend(dns(spec, path));
    errors.extend(numbers(spec, path));
    errors.extend(spec_names(spec, path));
    errors.extend(security_context(spec, path));
    errors.extend(scheduling::validate(spec, path));
    errors
}

fn dns(spec: &Value, path: &Path) -> Vec<FieldError> {
    const POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    let mut errors: Vec<FieldError> = meta::one_of(spec, "dnsPolicy", path, POLICIES).into_iter().collect();
    let at = path.child("dnsConfig");
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
    let mut errors: Vec<FieldError> =
        meta::non_negative(spec, "terminationGracePeriodSeconds", path).into_iter().collect();
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

fn spec_names(spec: &Value, path: &Path) -> Vec<FieldError> {
    type Rule = fn(&str) -> Vec<String>;
    let mut errors = Vec::new();
    let rules: [(&str, Rule); 6] = [
        ("serviceAccountName", names::dns1123_subdomain),
        ("nodeName", names::dns1123_subdomain),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
    ];
    for (field, rule) in rules {
        let text = str_at(spec, field);
        if !text.is_empty() {
            errors.extend(rule(text).into_iter().map(|p| FieldError::invalid(&path.child(field), text, p)));
        }
    }
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

fn security_context(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(context) = spec.get("securityContext") else { return Vec::new() };
    let at = path.child("securityContext");
    let mut errors = Vec::new();
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        errors.extend(containers::id(context, field, &at));
    }
    for (i, group) in list_at(context, "supplementalGroups").iter().enumerate() {
        if group.as_i64().is_some_and(|g| !(0..=i64::from(i32::MAX)).contains(&g)) {
            errors.push(FieldError::invalid(
                &at.child("supplementalGroups").index(i),
                group.clone(),
                containers::ID_RANGE,
            ));
        }
    }
    errors.extend(meta::optional_one_of(context, "fsGroupChangePolicy", &at, &["OnRootMismatch", "Always"]));
    errors.extend(sysctls(list_at(context, "sysctls"), &at.child("sysctls")));
    errors
}

/// All bad names at once.
fn sysctls(sysctls: &[Value], path: &Path) -> Vec<FieldError> {
    const RULE: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (i, sysctl) in sysctls.iter().enumerate() {
        let at = path.index(i).child("name");
        let name = str_at(sysctl, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if name.len() > 253 || !name.split(['.', '/']).all(is_sysctl_part) {
            errors.push(FieldError::invalid(&at, name, RULE));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        seen.push(name);
    }
    errors
}

fn is_sysctl_part(part: &str) -> bool {
    let plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    plain(part.chars().next())
        && plain(part.chars().last())
        && part.chars().all(|c| c == '-' || c == '_' || plain(Some(c)))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
