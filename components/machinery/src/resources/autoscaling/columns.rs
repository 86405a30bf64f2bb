//! Columns of autoscalers: what is measured, of what was asked for (`printHorizontalPodAutoscaler`).

use serde_json::Value;

use super::v1;
use crate::{
    resources::{
        Cell, Column,
        cells::count,
        columns::{AGE, NAME, text},
    },
    value::{get, int_at, list_at, str_at},
};

const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub(super) const V2: &[Column] = &columns(targets);
pub(super) const V1: &[Column] = &columns(|autoscaler| targets(&v1::as_v2(autoscaler)));

const fn columns(targets: fn(&Value) -> Value) -> [Column; 7] {
    [
        NAME,
        text("Reference", 0, Cell::Of(reference)),
        text("Targets", 0, Cell::Of(targets)),
        text("MinPods", 0, Cell::Of(min)),
        text("MaxPods", 0, Cell::Of(|o| count(o, "spec.maxReplicas"))),
        text("Replicas", 0, Cell::Of(|o| count(o, "status.currentReplicas"))),
        AGE,
    ]
}

fn reference(autoscaler: &Value) -> Value {
    let at = |field: &str| str_at(autoscaler, &format!("spec.scaleTargetRef.{field}")).to_owned();
    format!("{}/{}", at("kind"), at("name")).into()
}

fn min(autoscaler: &Value) -> Value {
    int_at(autoscaler, "spec.minReplicas").map_or("<unset>".into(), |n| n.to_string().into())
}

fn targets(autoscaler: &Value) -> Value {
    let wanted = list_at(autoscaler, "spec.metrics");
    if wanted.is_empty() {
        return "<none>".into();
    }
    let measured = list_at(autoscaler, "status.currentMetrics");
    let all: Vec<String> =
        wanted.iter().enumerate().map(|(i, metric)| one(metric, measured.get(i).unwrap_or(&Value::Null))).collect();
    let shown = all[..all.len().min(SHOWN)].join(", ");
    match all.len() - all.len().min(SHOWN) {
        0 => shown.into(),
        more => format!("{shown} + {more} more...").into(),
    }
}

fn amount(value: Option<&Value>) -> Option<String> {
    value.filter(|v| !v.is_null()).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
}

fn one(metric: &Value, measured: &Value) -> String {
    let (source, label) = match str_at(metric, "type") {
        "Object" => ("object", String::new()),
        "Pods" => ("pods", String::new()),
        "External" => ("external", String::new()),
        "Resource" => ("resource", format!("{}: ", str_at(metric, "resource.name"))),
        "ContainerResource" => ("containerResource", format!("{}: ", str_at(metric, "containerResource.name"))),
        _ => return "<unknown type>".into(),
    };
    let wanted = |field: &str| amount(get(metric, &format!("{source}.target.{field}")));
    let now = |field: &str| amount(get(measured, &format!("{source}.current.{field}")));
    let average = if matches!(source, "object" | "external") { " (avg)" } else { "" };
    if let Some(target) = wanted("averageValue") {
        return format!("{label}{}/{target}{average}", now("averageValue").unwrap_or_else(|| UNKNOWN.into()));
    }
    if !label.is_empty() {
        let percent = |p: Option<String>| p.map(|p| p + "%");
        let target = percent(wanted("averageUtilization")).unwrap_or_else(|| "<auto>".into());
        return format!("{label}{}/{target}", percent(now("averageUtilization")).unwrap_or_else(|| UNKNOWN.into()));
    }
    format!("{}/{}", now("value").unwrap_or_else(|| UNKNOWN.into()), wanted("value").unwrap_or_default())
}
