//! Probes and lifecycle hooks.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{get, int_at, list_at, str_at},
};

/// `grace` is the pod's termination grace period, within which hooks must be done.
pub(super) fn validate(container: &Value, path: &Path, allowed: bool, grace: i64) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, one_success) in [("livenessProbe", true), ("readinessProbe", false), ("startupProbe", true)] {
        let Some(probe) = container.get(name) else { continue };
        let at = path.child(name);
        if !allowed {
            errors.push(FieldError::forbidden(&at, "may not be set for init containers without restartPolicy=Always"));
            continue;
        }
        errors.extend(validate_probe(probe, &at, one_success));
        if name == "readinessProbe"
            && let Some(seconds) = int_at(probe, "terminationGracePeriodSeconds")
        {
            let at = at.child("terminationGracePeriodSeconds");
            errors.push(FieldError::invalid(&at, seconds, "must not be set for readinessProbes"));
        }
    }
    for name in ["postStart", "preStop"] {
        let Some(hook) = container.get("lifecycle").and_then(|l| l.get(name)) else { continue };
        let at = path.child("lifecycle").child(name);
        if allowed {
            errors.extend(handler(hook, &at, &["exec", "httpGet", "tcpSocket", "sleep"]));
            errors.extend(sleep(hook, &at.child("sleep"), grace));
        } else {
            errors.push(FieldError::forbidden(
                &path.child("lifecycle"),
                "may not be set for init containers without restartPolicy=Always",
            ));
        }
    }
    errors
}

fn validate_probe(probe: &Value, path: &Path, one_success: bool) -> Vec<FieldError> {
    let mut errors = handler(probe, path, &["exec", "httpGet", "tcpSocket", "grpc"]);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.extend(meta::non_negative(probe, field, path));
    }
    let successes = int_at(probe, "successThreshold").unwrap_or(1);
    if one_success && successes != 1 {
        errors.push(FieldError::invalid(&path.child("successThreshold"), successes, "must be 1"));
    }
    if let Some(seconds) = int_at(probe, "terminationGracePeriodSeconds").filter(|s| *s < 1) {
        errors.push(FieldError::invalid(
            &path.child("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    errors
}

fn sleep(hook: &Value, path: &Path, grace: i64) -> Option<FieldError> {
    let seconds = int_at(hook.get("sleep")?, "seconds").unwrap_or(0);
    let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
    (seconds < 0 || seconds > grace).then(|| FieldError::invalid(path, seconds, detail))
}

fn handler(handler: &Value, path: &Path, kinds: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut found = 0;
    for kind in kinds {
        let Some(action) = handler.get(*kind) else { continue };
        let at = path.child(kind);
        found += 1;
        if found > 1 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 handler type"));
            continue;
        }
        match *kind {
            "exec" if list_at(action, "command").is_empty() => {
                errors.push(FieldError::required(&at.child("command"), ""))
            }
            "httpGet" => {
                errors.extend(port(action, &at));
                errors.extend(meta::one_of(action, "scheme", &at, &["HTTP", "HTTPS"]));
                if str_at(action, "path").is_empty() {
                    errors.push(FieldError::required(&at.child("path"), ""));
                }
            }
            "tcpSocket" | "grpc" => errors.extend(port(action, &at)),
            _ => {}
        }
    }
    if found == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
    errors
}

/// A port by number or by a container port's name.
fn port(action: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("port");
    match get(action, "port") {
        Some(Value::String(name)) => {
            names::port_name(name).into_iter().map(|p| FieldError::invalid(&at, name.as_str(), p)).collect()
        }
        number => {
            let number = number.and_then(Value::as_i64).unwrap_or(0);
            names::port_number(number).into_iter().map(|p| FieldError::invalid(&at, number, p)).collect()
        }
    }
}
