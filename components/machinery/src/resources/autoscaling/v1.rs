//! autoscaling/v1 as a view of v2: what v1 has no fields for stands in annotations (kubernetes
//! `pkg/apis/autoscaling/v1/conversion.go`, `pkg/apis/autoscaling/annotations.go`).

use serde_json::{Map, Value, json};

use super::v2;
use crate::value::{default_to, get, object_mut, remove, str_at};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ALL: [&str; 4] = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

/// How one field of a metric is called in the annotations (a flat v1 object) and where it lies in v2, below the source.
type Fields = &'static [(&'static str, &'static str)];

/// (type, name of the source, its fields in a spec, its fields in a status).
const SOURCES: &[(&str, &str, Fields, Fields)] = &[
    (
        "Object",
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetValue", "target.value"),
            ("averageValue", "target.averageValue"),
        ],
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("currentValue", "current.value"),
            ("averageValue", "current.averageValue"),
        ],
    ),
    (
        "Pods",
        "pods",
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetAverageValue", "target.averageValue"),
        ],
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "Resource",
        "resource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
        &[
            ("name", "name"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "ContainerResource",
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
        &[
            ("name", "name"),
            ("container", "container"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "External",
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("targetValue", "target.value"),
            ("targetAverageValue", "target.averageValue"),
        ],
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("currentValue", "current.value"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
];

pub(super) fn defaults(autoscaler: &mut Value) {
    if let Some(spec) = object_mut(autoscaler, "spec") {
        default_to(spec, "minReplicas", 1);
    }
}

pub(super) fn as_v2(autoscaler: &Value) -> Value {
    let mut converted = autoscaler.clone();
    to_v2(&mut converted);
    converted
}

fn is_cpu(metric: &Value) -> bool {
    str_at(metric, "type") == "Resource" && str_at(metric, "resource.name") == "cpu"
}

pub(super) fn from_v2(autoscaler: &mut Value) {
    drop_annotations(autoscaler);
    let mut notes = Vec::new();
    if let Some(spec) = autoscaler.get_mut("spec") {
        let metrics = remove(spec, "metrics").unwrap_or_default();
        let metrics = metrics.as_array().map(Vec::as_slice).unwrap_or_default();
        let target = |m: &Value| get(m, "resource.target.averageUtilization").cloned();
        if let Some(percent) = metrics.iter().find(|m| is_cpu(m)).and_then(target) {
            spec["targetCPUUtilizationPercentage"] = percent;
        }
        let others: Vec<Value> =
            metrics.iter().filter(|m| !(is_cpu(m) && target(m).is_some())).map(|m| flat(m, false)).collect();
        notes.push((METRICS, (!others.is_empty()).then(|| others.into())));
        notes.push((BEHAVIOR, remove(spec, "behavior").map(|b| recase(&b, capital))));
    }
    if let Some(status) = autoscaler.get_mut("status") {
        let metrics = remove(status, "currentMetrics").unwrap_or_default();
        let metrics = metrics.as_array().map(Vec::as_slice).unwrap_or_default();
        let current = |m: &&Value| get(m, "resource.current.averageUtilization").filter(|_| is_cpu(m)).cloned();
        if let Some(percent) = metrics.iter().rev().find_map(|m| current(&m)) {
            status["currentCPUUtilizationPercentage"] = percent;
        }
        let all: Vec<Value> = metrics.iter().map(|m| flat(m, true)).collect();
        notes.push((CURRENT_METRICS, (!all.is_empty()).then(|| all.into())));
        notes.push((CONDITIONS, remove(status, "conditions").filter(|c| c.as_array().is_some_and(|l| !l.is_empty()))));
    }
    for (key, value) in notes {
        let Some(value) = value else { continue };
        if let Some(annotations) = object_mut(autoscaler, "metadata").and_then(|m| object_mut(m, "annotations")) {
            annotations[key] = value.to_string().into();
        }
    }
}

pub(super) fn to_v2(autoscaler: &mut Value) {
    let note = |autoscaler: &Value, key: &str| {
        let text = autoscaler.get("metadata")?.get("annotations")?.get(key)?.as_str()?.to_owned();
        serde_json::from_str::<Value>(&text).ok().filter(|v| !v.is_null())
    };
    let [others, current, conditions, behavior] = ALL.map(|key| note(autoscaler, key));
    drop_annotations(autoscaler);
    if let Some(spec) = object_mut(autoscaler, "spec") {
        let mut metrics: Vec<Value> =
            remove(spec, "targetCPUUtilizationPercentage").and_then(|p| p.as_i64()).map(v2::cpu).into_iter().collect();
        metrics.extend(others.as_ref().and_then(Value::as_array).into_iter().flatten().map(|m| nested(m, false)));
        if metrics.is_empty() {
            metrics.push(v2::cpu(v2::CPU_PERCENT));
        }
        spec["metrics"] = metrics.into();
        if let Some(behavior) = behavior.filter(Value::is_object) {
            spec["behavior"] = recase(&behavior, small);
        }
    }
    if autoscaler.get("status").is_none() && current.is_none() && conditions.is_none() {
        return;
    }
    let Some(status) = object_mut(autoscaler, "status") else { return };
    let percent = remove(status, "currentCPUUtilizationPercentage");
    let cpu =
        |p: Value| json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": p}}}]);
    let metrics = match current.as_ref().and_then(Value::as_array) {
        Some(all) => Some(all.iter().map(|m| nested(m, true)).collect::<Vec<_>>().into()),
        None => percent.map(cpu),
    };
    for (key, value) in [("currentMetrics", metrics), ("conditions", conditions)] {
        if let Some(value) = value {
            status[key] = value;
        }
    }
}

fn drop_annotations(autoscaler: &mut Value) {
    let Some(metadata) = autoscaler.get_mut("metadata") else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.retain(|key, _| !ALL.contains(&key.as_str()));
    if annotations.is_empty() {
        remove(metadata, "annotations");
    }
}

fn source_of(metric: &Value) -> Option<&'static (&'static str, &'static str, Fields, Fields)> {
    SOURCES.iter().find(|(kind, ..)| *kind == str_at(metric, "type"))
}

/// A v2 metric as the annotations hold it.
fn flat(metric: &Value, of_status: bool) -> Value {
    let Some((kind, source, spec, status)) = source_of(metric) else { return metric.clone() };
    let mut out = Map::new();
    for (name, path) in if of_status { *status } else { *spec } {
        if let Some(value) = get(metric, source).and_then(|s| get(s, path)) {
            out.insert((*name).to_owned(), value.clone());
        }
    }
    json!({"type": kind, *source: out})
}

/// The way back. A v1 target does not say its type; what is set does.
fn nested(metric: &Value, of_status: bool) -> Value {
    let Some((kind, source, spec, status)) = source_of(metric) else { return metric.clone() };
    let mut out = json!({});
    for (name, path) in if of_status { *status } else { *spec } {
        let Some(value) = get(metric, source).and_then(|s| s.get(*name)).filter(|v| !v.is_null()) else { continue };
        match path.split_once('.') {
            Some((parent, field)) => out[parent][field] = value.clone(),
            None => out[*path] = value.clone(),
        }
    }
    if let Some(target) = out.get_mut("target").filter(|t| t.is_object() && !of_status) {
        let has = |field: &str| target.get(field).is_some();
        let kind = if has("averageUtilization") {
            "Utilization"
        } else if has("averageValue") {
            "AverageValue"
        } else {
            "Value"
        };
        target["type"] = kind.into();
    }
    json!({"type": kind, *source: out})
}

fn capital(key: &str) -> String {
    key[..1].to_uppercase() + &key[1..]
}

fn small(key: &str) -> String {
    key[..1].to_lowercase() + &key[1..]
}

/// The behavior's annotation is Go's own naming, which begins with capitals.
fn recase(value: &Value, case: fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => {
            let named = |key: &String| if key.is_ascii() && !key.is_empty() { case(key) } else { key.clone() };
            map.iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (named(k), recase(v, case)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(list) => list.iter().map(|v| recase(v, case)).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}
