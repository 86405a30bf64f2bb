//! Annotations that mean something to pods (kubernetes `ValidatePodSpecificAnnotations` and what checks them against fields).

use serde_json::Value;

use super::{each_container, sources};
use crate::{
    field::{FieldError, Path},
    value::{get, map_at, str_at},
};

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

fn all(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    let map = map_at(object, "metadata.annotations");
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

fn value<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    map_at(object, "metadata.annotations")?.get(key)?.as_str()
}

/// `object` is a pod or a template.
pub(super) fn validate(object: &Value, spec: &Value, path: &Path, is_pod: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(text) = value(object, MIRROR)
        && str_at(spec, "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), text, detail));
    }
    if let Some(cost) = value(object, DELETION_COST).filter(|cost| is_pod && !is_cost(cost)) {
        errors.push(FieldError::invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer"));
    }
    for (key, profile) in all(object).filter(|(key, _)| *key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER)) {
        errors.extend(seccomp(profile, &path.child(key)));
    }
    for (key, profile) in all(object) {
        let Some(container) = key.strip_prefix(APPARMOR_CONTAINER) else { continue };
        if !each_container(spec, path).iter().any(|(c, _)| str_at(c, "name") == container) {
            errors.push(FieldError::invalid(&path.key(key), container, "container not found"));
        }
        if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {}", crate::field::quoted(profile));
            errors.push(FieldError::invalid(&path.key(key), profile, detail));
        }
    }
    errors
}

/// A number of 32 bits as it is written: no sign of plus, no leading zero.
fn is_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|n| n.to_string() == text)
}

fn seccomp(profile: &str, path: &Path) -> Vec<FieldError> {
    match profile.strip_prefix("localhost/") {
        Some(file) => sources::below(file, path),
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => Vec::new(),
        None => vec![FieldError::invalid(path, profile, "must be a valid seccomp profile")],
    }
}

/// What cannot come, go or change in an update.
pub(super) fn validate_update(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, _) in all(old).filter(|(key, text)| value(new, key) != Some(*text)) {
        if key.starts_with(APPARMOR_CONTAINER) {
            errors.push(FieldError::forbidden(&path.key(key), "may not remove or update AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(FieldError::forbidden(&path.key(key), "may not remove or update mirror pod annotation"));
        }
    }
    for (key, _) in all(new).filter(|(key, _)| value(old, key).is_none()) {
        if key.starts_with(APPARMOR_CONTAINER) {
            errors.push(FieldError::forbidden(&path.key(key), "may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(FieldError::forbidden(&path.key(key), "may not add mirror pod annotation"));
        }
    }
    errors
}

/// Where an old annotation and the field that took its place are both there, they agree.
pub(super) fn match_fields(object: &Value, spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let (Some(profile), Some(text)) = (get(spec, "securityContext.seccompProfile"), value(object, SECCOMP_POD)) {
        let at = path.child("securityContext").child("seccompProfile");
        errors.extend(disagreement(profile, text, "seccomp", &at));
    }
    let containers = each_container(spec, path);
    for (container, at) in &containers {
        let key = format!("{SECCOMP_CONTAINER}{}", str_at(container, "name"));
        if let (Some(profile), Some(text)) = (get(container, "securityContext.seccompProfile"), value(object, &key)) {
            let at = at.child("securityContext").child("seccompProfile");
            errors.extend(disagreement(profile, text, "seccomp", &at));
        }
    }
    if str_at(spec, "os.name") == "windows" {
        return errors;
    }
    for (container, at) in &containers {
        let key = format!("{APPARMOR_CONTAINER}{}", str_at(container, "name"));
        let own = get(container, "securityContext.appArmorProfile");
        let profile = own.or_else(|| get(spec, "securityContext.appArmorProfile"));
        if let (Some(profile), Some(text)) = (profile, value(object, &key)) {
            let at = at.child("securityContext").child("appArmorProfile");
            errors.extend(disagreement(profile, text, "apparmor", &at));
        }
    }
    errors
}

fn disagreement(profile: &Value, annotation: &str, what: &str, path: &Path) -> Option<FieldError> {
    let kind = || {
        let detail = format!("{what} type in annotation and field must match");
        Some(FieldError::forbidden(&path.child("type"), detail))
    };
    match str_at(profile, "type") {
        "Unconfined" if annotation != "unconfined" => kind(),
        "RuntimeDefault"
            if annotation != "runtime/default" && (what == "apparmor" || annotation != "docker/default") =>
        {
            kind()
        }
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => kind(),
            Some(file) if profile.get("localhostProfile").and_then(Value::as_str) != Some(file) => {
                let detail = format!("{what} profile in annotation and field must match");
                Some(FieldError::forbidden(&path.child("localhostProfile"), detail))
            }
            Some(_) => None,
        },
        _ => None,
    }
}
