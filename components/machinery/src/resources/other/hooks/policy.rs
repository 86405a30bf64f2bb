//! Disruption budgets and controller revisions.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    resources::meta,
    value::{get, str_at, with_mut},
};

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
