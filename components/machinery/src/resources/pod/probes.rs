//! Probes and lifecycle hooks.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{get, int_at, list_at, str_at},
};

const SCHEMES: &[&str] = &["HTTP", "HTTPS"];

/// Hooks; `grace` is the pod's termination grace period, within which they must be done.
pub(super) fn lifecycle(container: &Value, path: &Path, grace: i64) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in ["postStart", "preStop"] {
        if let Some(hook) = container.get("lifecycle").and_then(|l| l.get(name)) {
            let at = path.child("lifecycle").child(name);
            errors.extend(handler(hook, &at, &["exec", "httpGet", "tcpSocket", "sleep"], grace));
        }
    }
    errors
}

pub(super) fn validate(container: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name) else { continue };
        let at = path.child(name);
        errors.extend(validate_probe(probe, &at));
        if name == "readinessProbe" {
            if let Some(seconds) = int_at(probe, "terminationGracePeriodSeconds") {
                let at = at.child("terminationGracePeriodSeconds");
                errors.push(FieldError::invalid(&at, seconds, "must not be set for readinessProbes"));
            }
        } else if let Some(successes) = int_at(probe, "successThreshold").filter(|n| *n != 1) {
            errors.push(FieldError::invalid(&at.child("successThreshold"), successes, "must be 1"));
        }
    }
    errors
}

fn validate_probe(probe: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = handler(probe, path, &["exec", "httpGet", "tcpSocket", "grpc"], 0);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.extend(meta::non_negative(probe, field, path));
    }
    if let Some(seconds) = int_at(probe, "terminationGracePeriodSeconds").filter(|s| *s < 1) {
        let at = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&at, seconds, "must be greater than 0"));
    }
    errors
}

fn handler(handler: &Value, path: &Path, kinds: &[&str], grace: i64) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut found = false;
    for kind in kinds {
        let Some(action) = handler.get(*kind) else { continue };
        let at = path.child(kind);
        if found {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match *kind {
            "exec" if list_at(action, "command").is_empty() => {
                errors.push(FieldError::required(&at.child("command"), ""));
            }
            "httpGet" => errors.extend(http_get(action, &at)),
            "tcpSocket" | "grpc" => errors.extend(port(action, &at)),
            "sleep" => errors.extend(sleep(action, &at, grace)),
            _ => {}
        }
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
    errors
}

fn sleep(action: &Value, path: &Path, grace: i64) -> Option<FieldError> {
    let seconds = int_at(action, "seconds").unwrap_or(0);
    let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
    (seconds < 0 || seconds > grace).then(|| FieldError::invalid(path, seconds, detail))
}

fn http_get(action: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if str_at(action, "path").is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
    }
    errors.extend(port(action, path));
    let scheme = str_at(action, "scheme");
    if !SCHEMES.contains(&scheme) {
        errors.push(FieldError::not_supported(&path.child("scheme"), scheme, SCHEMES));
    }
    for header in list_at(action, "httpHeaders") {
        let name = str_at(header, "name");
        errors.extend(FieldError::each_invalid(&path.child("httpHeaders"), name, names::http_header(name)));
    }
    errors
}

/// A port by number or by a container port's name.
fn port(action: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("port");
    match get(action, "port") {
        Some(Value::String(name)) => FieldError::each_invalid(&at, name, names::port_name(name)),
        number => {
            let number = number.and_then(Value::as_i64).unwrap_or(0);
            names::port_number(number).into_iter().map(|p| FieldError::invalid(&at, number, p)).collect()
        }
    }
}
