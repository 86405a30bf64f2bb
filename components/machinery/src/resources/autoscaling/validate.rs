//! Validation of autoscalers, in their v2 form (kubernetes `pkg/apis/autoscaling/validation`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names, quantity,
    resources::{limits, meta},
    value::{get, int_at, list_at, str_at},
};

const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const SELECT_POLICIES: &[&str] = &["Disabled", "Max", "Min"];
const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

pub(super) fn create(autoscaler: &Value) -> Vec<FieldError> {
    spec(autoscaler, None)
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    spec(new, Some(old))
}

fn spec(autoscaler: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = autoscaler.get("spec").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    let (min, max) = (int_at(spec, "minReplicas"), int_at(spec, "maxReplicas").unwrap_or(0));
    errors.extend(meta::non_negative(spec, "minReplicas", &path));
    if max < 1 {
        errors.push(FieldError::invalid(&path.child("maxReplicas"), max, "must be greater than 0"));
    }
    if min.is_some_and(|min| max < min) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&path.child("maxReplicas"), max, detail));
    }
    errors.extend(target(spec, old.and_then(|old| old.get("spec")), &path.child("scaleTargetRef")));
    errors.extend(metrics(spec, old.and_then(|old| old.get("spec")), &path.child("metrics")));
    for side in ["scaleUp", "scaleDown"] {
        if let Some(rules) = get(spec, "behavior").and_then(|b| b.get(side)) {
            errors.extend(scaling_rules(rules, &path.child("behavior").child(side)));
        }
    }
    errors
}

/// Nothing that scales is of the core group but ReplicationControllers. What was stored with another version may stay.
fn target(spec: &Value, old: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let target = spec.get("scaleTargetRef").unwrap_or(&Value::Null);
    let same =
        |old: &Value| ["apiVersion", "kind"].iter().all(|f| str_at(&old["scaleTargetRef"], f) == str_at(target, f));
    let version = match old {
        Some(old) if same(old) => Version::Any,
        _ if str_at(target, "kind") == "ReplicationController" => Version::Parsed,
        _ => Version::Grouped,
    };
    reference(target, version, path)
}

fn metrics(spec: &Value, old: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let described = |metric: &Value| get(metric, "object.describedObject").map(|o| str_at(o, "apiVersion").to_owned());
    let old_metrics = old.map(|old| list_at(old, "metrics")).unwrap_or_default();
    let stored = old_metrics.iter().filter(|m| str_at(m, "type") == "Object").filter_map(described);
    let version = match stored.filter_map(|v| version_problem(&v, Version::Parsed)).next() {
        Some(_) => Version::Any,
        None => Version::Parsed,
    };
    let list = list_at(spec, "metrics");
    let mut errors: Vec<FieldError> =
        list.iter().enumerate().flat_map(|(i, metric)| one_metric(metric, version, &path.index(i))).collect();
    // what runs in no pod has no use of its own that could wake it
    if int_at(spec, "minReplicas") == Some(0)
        && !list.iter().any(|m| matches!(str_at(m, "type"), "Object" | "External"))
    {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(path, detail));
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

/// What the version of a reference has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// It was stored so.
    Any,
    Parsed,
    /// Of a group other than the core.
    Grouped,
}

fn version_problem(text: &str, wanted: Version) -> Option<String> {
    let group = text.split_once('/').map_or("", |(group, _)| group);
    match wanted {
        Version::Any => None,
        _ if text.matches('/').count() > 1 => Some(format!("unexpected GroupVersion string: {text}")),
        Version::Grouped if group.is_empty() => Some("apiVersion must specify API group".to_owned()),
        _ => None,
    }
}

fn reference(target: &Value, version: Version, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        ["kind", "name"].into_iter().flat_map(|field| segment(target, field, path, "")).collect();
    let given = str_at(target, "apiVersion");
    errors
        .extend(version_problem(given, version).map(|why| FieldError::invalid(&path.child("apiVersion"), given, why)));
    errors
}

fn one_metric(metric: &Value, version: Version, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = str_at(metric, "type");
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric source type"));
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    let mut supported: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
    supported.sort_unstable();
    let unknown = expected.is_none().then(|| FieldError::not_supported(&path.child("type"), kind, &supported));
    errors.extend(unknown.clone());
    let present: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|f| metric.get(*f).is_some()).collect();
    if let Some(first) = present.first() {
        errors.extend(source(first, &metric[*first], version, &path.child(first)));
    }
    if let Some(expected) = expected.filter(|e| !present.contains(e)) {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(expected), detail));
    }
    // upstream says so a second time
    errors.extend(unknown);
    if present.len() != 1 {
        let others = present.into_iter().filter(|p| Some(*p) != expected);
        errors.extend(
            others.map(|o| FieldError::forbidden(&path.child(o), "must populate the given metric source only")),
        );
    }
    errors
}

fn source(kind: &str, source: &Value, version: Version, path: &Path) -> Vec<FieldError> {
    const RAW: &str = "must set either a target raw value or a target utilization";
    let mut errors = Vec::new();
    let at = path.child("target");
    let target = source.get("target").unwrap_or(&Value::Null);
    let has = |field: &str| target.get(field).is_some();
    match kind {
        "object" => {
            let object = source.get("describedObject").unwrap_or(&Value::Null);
            errors.extend(reference(object, version, &path.child("describedObject")));
            errors.extend(metric_name(source, path));
            errors.extend(metric_target(target, &at));
            if !has("value") && !has("averageValue") {
                let detail = "must set either a target value or averageValue";
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
            if !has("averageValue") {
                let detail = "must specify a positive target averageValue";
                errors.push(FieldError::required(&at.child("averageValue"), detail));
            }
        }
        _ => {
            if str_at(source, "name").is_empty() {
                errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
            }
            if kind == "containerResource" {
                errors.extend(container(source, path));
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

/// Whose resource it is, and whether containers have it.
fn container(source: &Value, path: &Path) -> Vec<FieldError> {
    let (resource, container, at) = (str_at(source, "name"), str_at(source, "container"), path.child("container"));
    let mut errors = Vec::new();
    if !resource.is_empty() {
        errors.extend(limits::names::validate_container(resource, &path.child("name")));
    }
    match container {
        "" => errors.push(FieldError::required(&at, "must specify a container")),
        name => errors.extend(FieldError::each_invalid(&at, name, names::dns1123_label(name))),
    }
    errors
}

fn positive(value: Option<&Value>) -> bool {
    value.and_then(|v| quantity::from_json(v).ok()).is_some_and(|q| q.sign() > 0)
}

fn quantity_text(value: &Value) -> String {
    quantity::from_json(value).map(|q| q.to_string()).unwrap_or_default()
}

fn metric_name(source: &Value, path: &Path) -> Vec<FieldError> {
    let metric = source.get("metric").unwrap_or(&Value::Null);
    segment(metric, "name", &path.child("metric"), "must specify a metric name")
}

fn metric_target(target: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (kind, at) = (str_at(target, "type"), path.child("type"));
    if kind.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.push(FieldError::invalid(&at, kind, "must be either Utilization, Value, or AverageValue"));
    }
    for field in ["value", "averageValue"] {
        if let Some(value) = target.get(field).filter(|v| !positive(Some(v))) {
            errors.push(FieldError::invalid(&path.child(field), quantity_text(value), "must be positive"));
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
    let select = rules.get("selectPolicy").and_then(Value::as_str);
    if let Some(select) = select.filter(|s| !SELECT_POLICIES.contains(s)) {
        errors.push(FieldError::not_supported(&path.child("selectPolicy"), select, SELECT_POLICIES));
    }
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
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("tolerance"), quantity_text(tolerance), detail));
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
