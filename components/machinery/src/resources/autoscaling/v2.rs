//! Defaults of autoscaling/v2 (kubernetes `pkg/apis/autoscaling/v2/defaults.go`).

use serde_json::{Value, json};

use crate::value::{default_absent, default_to, list_at, object_mut};

/// What an autoscaler without metrics aims at: percent of the requested CPU.
pub(super) const CPU_PERCENT: i64 = 80;

pub(super) fn cpu(percent: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}})
}

pub(super) fn defaults(autoscaler: &mut Value) {
    let Some(spec) = object_mut(autoscaler, "spec") else { return };
    default_to(spec, "minReplicas", 1);
    if list_at(spec, "metrics").is_empty() {
        spec["metrics"] = json!([cpu(CPU_PERCENT)]);
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|b| b.is_object()) else { return };
    const PERIOD: i64 = 15;
    let all = json!({"type": "Percent", "value": 100, "periodSeconds": PERIOD});
    if let Some(up) = object_mut(behavior, "scaleUp") {
        default_to(up, "stabilizationWindowSeconds", 0);
        default_absent(up, "selectPolicy", "Max");
        default_to(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": PERIOD}, all]));
    }
    if let Some(down) = object_mut(behavior, "scaleDown") {
        default_absent(down, "selectPolicy", "Max");
        default_to(down, "policies", json!([all]));
    }
}
