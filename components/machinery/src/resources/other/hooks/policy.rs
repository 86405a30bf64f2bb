//! Leases, budgets, priorities, runtime classes and controller revisions.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, get, int_at, name, str_at, with_mut},
};

pub(in crate::resources) fn lease(lease: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if let Some(seconds) = int_at(lease, "spec.leaseDurationSeconds").filter(|s| *s <= 0) {
        errors.push(FieldError::invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    errors.extend(lease.get("spec").and_then(|s| meta::non_negative(s, "leaseTransitions", &path)));
    errors
}

pub(in crate::resources) fn pdb_defaults(budget: &mut Value) {
    with_mut(budget, "spec", |spec| {
        // an unset policy counts healthy pods only; that is said nowhere but there
        if str_at(spec, "unhealthyPodEvictionPolicy").is_empty() {
            crate::value::remove(spec, "unhealthyPodEvictionPolicy");
        }
    });
}

/// A number that is not negative, or a percentage up to 100.
fn amount(value: &Value, path: &Path) -> Option<FieldError> {
    match value {
        Value::Number(n) if n.as_i64().is_some_and(|n| n >= 0) => None,
        Value::Number(n) => {
            Some(FieldError::invalid(path, Value::Number(n.clone()), "must be greater than or equal to 0"))
        }
        other => {
            let percent = other.as_str().and_then(|t| t.strip_suffix('%')).and_then(|t| t.parse::<u32>().ok());
            let detail = match percent {
                Some(0..=100) => return None,
                Some(_) => "must not be greater than 100%",
                None => {
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
                }
            };
            Some(FieldError::invalid(path, other.clone(), detail))
        }
    }
}

pub(in crate::resources) fn pdb(budget: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let (least, most) = (get(budget, "spec.minAvailable"), get(budget, "spec.maxUnavailable"));
    if least.is_some() && most.is_some() {
        let spec = budget.get("spec").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&path, spec, "minAvailable and maxUnavailable cannot be both set"));
    }
    errors.extend(least.and_then(|v| amount(v, &path.child("minAvailable"))));
    errors.extend(most.and_then(|v| amount(v, &path.child("maxUnavailable"))));
    errors.extend(meta::label_selector(get(budget, "spec.selector"), &path.child("selector")));
    errors.extend(budget.get("spec").and_then(|spec| {
        meta::optional_one_of(spec, "unhealthyPodEvictionPolicy", &path, &["AlwaysAllow", "IfHealthyBudget"])
    }));
    errors
}

pub(in crate::resources) fn pdb_status(budget: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let Some(status) = budget.get("status") else { return Vec::new() };
    ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"]
        .into_iter()
        .filter_map(|field| meta::non_negative(status, field, &path))
        .collect()
}

pub(in crate::resources) fn priority_class_defaults(class: &mut Value) {
    default_to(class, "preemptionPolicy", "PreemptLowerPriority");
}

pub(in crate::resources) fn priority_class(class: &Value) -> Vec<FieldError> {
    const USER_MAX: i64 = 1_000_000_000;
    const SYSTEM: [(&str, i64); 2] =
        [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
    let root = Path::default();
    let mut errors = Vec::new();
    let value = int_at(class, "value").unwrap_or(0);
    if name(class).starts_with("system-") {
        if !SYSTEM.contains(&(name(class), value)) {
            let detail = "priority class names with 'system-' prefix are reserved for system use only. error: not a system priority class";
            errors.push(FieldError::forbidden(&Path::new("metadata").child("name"), detail));
        }
    } else if value > USER_MAX {
        errors.push(FieldError::forbidden(
            &root.child("value"),
            format!("maximum allowed value of a user defined priority is {USER_MAX}"),
        ));
    }
    errors.extend(meta::optional_one_of(class, "preemptionPolicy", &root, &["Never", "PreemptLowerPriority"]));
    errors
}

pub(in crate::resources) fn priority_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if int_at(new, "value").unwrap_or(0) != int_at(old, "value").unwrap_or(0) {
        errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
    errors.extend(meta::immutable(new, old, &["preemptionPolicy"]));
    errors
}

pub(in crate::resources) fn runtime_class(class: &Value) -> Vec<FieldError> {
    let at = Path::new("handler");
    let handler = str_at(class, "handler");
    names::dns1123_label(handler).into_iter().map(|p| FieldError::invalid(&at, handler, p)).collect()
}

pub(in crate::resources) fn runtime_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    meta::immutable(new, old, &["handler"])
}

pub(in crate::resources) fn controller_revision(revision: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if revision.get("data").is_none_or(Value::is_null) {
        errors.push(FieldError::required(&Path::new("data"), "data is mandatory"));
    }
    errors.extend(meta::non_negative(revision, "revision", &Path::default()));
    errors
}

pub(in crate::resources) fn controller_revision_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = controller_revision(new);
    errors.extend(meta::immutable(new, old, &["data"]));
    errors
}
