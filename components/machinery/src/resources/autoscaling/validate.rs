//! Validation of autoscalers, in their v2 form (kubernetes `pkg/apis/autoscaling/validation`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names, quantity,
    resources::meta,
    value::{get, int_at, list_at, str_at},
};

const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

pub(super) fn spec(autoscaler: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = autoscaler.get("spec").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    let (min, max) = (int_at(spec, "minReplicas"), int_at(spec, "maxReplicas").unwrap_or(0));
    if let Some(min) = min.filter(|m| *m < 1) {
        errors.push(FieldError::invalid(&path.child("minReplicas"), min, "must be greater than or equal to 1"));
    }
    if max < 1 {
        errors.push(FieldError::invalid(&path.child("maxReplicas"), max, "must be greater than 0"));
    }
    if min.is_some_and(|min| max < min) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&path.child("maxReplicas"), max, detail));
    }
    errors.extend(reference(spec.get("scaleTargetRef").unwrap_or(&Value::Null), &path.child("scaleTargetRef")));
    for (i, metric) in list_at(spec, "metrics").iter().enumerate() {
        errors.extend(one_metric(metric, &path.child("metrics").index(i)));
    }
    for side in ["scaleUp", "scaleDown"] {
        if let Some(rules) = get(spec, "behavior").and_then(|b| b.get(side)) {
            errors.extend(scaling_rules(rules, &path.child("behavior").child(side)));
        }
    }
    errors
}

pub(super) fn status(autoscaler: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let Some(status) = autoscaler.get("status") else { return Vec::new() };
    ["currentReplicas", "desiredReplicas"].into_iter().filter_map(|f| meta::non_negative(status, f, &path)).collect()
}

fn segment(object: &Value, field: &str, path: &Path, missing: &str) -> Vec<FieldError> {
    let text = str_at(object, field);
    let at = path.child(field);
    if text.is_empty() {
        return vec![FieldError::required(&at, missing)];
    }
    names::path_segment(text).into_iter().map(|p| FieldError::invalid(&at, text, p)).collect()
}

fn reference(target: &Value, path: &Path) -> Vec<FieldError> {
    ["kind", "name"].into_iter().flat_map(|field| segment(target, field, path, "")).collect()
}

fn one_metric(metric: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = str_at(metric, "type");
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric source type"));
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    if expected.is_none() {
        let mut supported: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
        supported.sort_unstable();
        errors.push(FieldError::not_supported(&path.child("type"), kind, &supported));
    }
    let present: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|f| metric.get(*f).is_some()).collect();
    if let Some(first) = present.first() {
        errors.extend(source(first, &metric[*first], &path.child(first)));
    }
    if let Some(expected) = expected.filter(|e| !present.contains(e)) {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(expected), detail));
    }
    if present.len() != 1 {
        let others = present.into_iter().filter(|p| Some(*p) != expected);
        errors.extend(
            others.map(|o| FieldError::forbidden(&path.child(o), "must populate the given metric source only")),
        );
    }
    errors
}

fn source(kind: &str, source: &Value, path: &Path) -> Vec<FieldError> {
    const RAW: &str = "must set either a target raw value or a target utilization";
    let mut errors = Vec::new();
    let at = path.child("target");
    let target = source.get("target").unwrap_or(&Value::Null);
    let has = |field: &str| target.get(field).is_some();
    match kind {
        "object" => {
            let object = source.get("describedObject").unwrap_or(&Value::Null);
            errors.extend(reference(object, &path.child("describedObject")));
            errors.extend(metric_name(source, path));
            errors.extend(metric_target(target, &at));
            if !has("value") && !has("averageValue") {
                let detail = "must set either a target value or a per-pod target";
                errors.push(FieldError::required(&at.child("averageValue"), detail));
            }
        }
        "external" => {
            errors.extend(metric_name(source, path));
            errors.extend(metric_target(target, &at));
            if !has("value") && !has("averageValue") {
                let detail = "must set either a target value for metric or a per-pod target";
                errors.push(FieldError::required(&at.child("averageValue"), detail));
            }
            if has("value") && has("averageValue") {
                let detail = "may not set both a target value for metric and a per-pod target";
                errors.push(FieldError::forbidden(&at.child("value"), detail));
            }
        }
        "pods" => {
            errors.extend(metric_name(source, path));
            errors.extend(metric_target(target, &at));
            if !positive(target.get("averageValue")) {
                let detail = "must specify a positive target averageValue";
                errors.push(FieldError::required(&at.child("averageValue"), detail));
            }
        }
        _ => {
            if str_at(source, "name").is_empty() {
                errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
            }
            if kind == "containerResource" && str_at(source, "container").is_empty() {
                errors.push(FieldError::required(&path.child("container"), "must specify a container"));
            }
            errors.extend(metric_target(target, &at));
            if !has("averageUtilization") && !has("averageValue") {
                errors.push(FieldError::required(&at.child("averageUtilization"), RAW));
            }
            if has("averageUtilization") && has("averageValue") {
                let detail = "may not set both a target raw value and a target utilization";
                errors.push(FieldError::forbidden(&at.child("averageValue"), detail));
            }
        }
    }
    errors
}

fn positive(value: Option<&Value>) -> bool {
    value.and_then(|v| quantity::from_json(v).ok()).is_some_and(|q| q.sign() > 0)
}

fn metric_name(source: &Value, path: &Path) -> Vec<FieldError> {
    let metric = source.get("metric").unwrap_or(&Value::Null);
    segment(metric, "name", &path.child("metric"), "must specify a metric name")
}

fn metric_target(target: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match str_at(target, "type") {
        "" => errors.push(FieldError::required(&path.child("type"), "must specify a metric target type")),
        "Utilization" | "Value" | "AverageValue" => {}
        other => {
            let detail = "must be either Utilization, Value, or AverageValue";
            errors.push(FieldError::invalid(&path.child("type"), other, detail));
        }
    }
    for field in ["value", "averageValue"] {
        if let Some(value) = target.get(field).filter(|v| !positive(Some(v))) {
            errors.push(FieldError::invalid(&path.child(field), value.clone(), "must be positive"));
        }
    }
    if let Some(percent) = int_at(target, "averageUtilization").filter(|p| *p < 1) {
        errors.push(FieldError::invalid(&path.child("averageUtilization"), percent, "must be greater than 0"));
    }
    errors
}

fn scaling_rules(rules: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(seconds) = int_at(rules, "stabilizationWindowSeconds") {
        let at = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.push(FieldError::invalid(&at, seconds, "must be greater than or equal to zero"));
        }
        if seconds > WINDOW_MAX {
            errors.push(FieldError::invalid(&at, seconds, format!("must be less than or equal to {WINDOW_MAX}")));
        }
    }
    errors.extend(meta::optional_one_of(rules, "selectPolicy", path, &["Disabled", "Max", "Min"]));
    let at = path.child("policies");
    let policies = list_at(rules, "policies");
    if policies.is_empty() {
        errors.push(FieldError::required(&at, "must specify at least one Policy"));
    }
    for (i, policy) in policies.iter().enumerate() {
        errors.extend(scaling_policy(policy, &at.index(i)));
    }
    let tolerance = rules.get("tolerance").filter(|t| quantity::from_json(t).is_ok_and(|q| q.sign() < 0));
    if let Some(tolerance) = tolerance {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("tolerance"), tolerance.clone(), detail));
    }
    errors
}

fn scaling_policy(policy: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = str_at(policy, "type");
    if !matches!(kind, "Pods" | "Percent") {
        errors.push(FieldError::not_supported(&path.child("type"), kind, &["Percent", "Pods"]));
    }
    for field in ["value", "periodSeconds"] {
        let number = int_at(policy, field).unwrap_or(0);
        if number <= 0 {
            errors.push(FieldError::invalid(&path.child(field), number, "must be greater than zero"));
        }
    }
    if let Some(seconds) = int_at(policy, "periodSeconds").filter(|s| *s > PERIOD_MAX) {
        let detail = format!("must be less than or equal to {PERIOD_MAX}");
        errors.push(FieldError::invalid(&path.child("periodSeconds"), seconds, detail));
    }
    errors
}
