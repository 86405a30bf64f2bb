//! Which objects a quota with scopes is about.

use serde_json::Value;

use crate::{Kind, pod};

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    object.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether an object is in all scopes of a quota; other kinds than pods and claims are in none.
pub fn matches_scopes(quota: &Value, kind: &Kind, object: &Value) -> bool {
    let plain = list(quota, "/spec/scopes").iter().filter_map(Value::as_str).map(|scope| (scope, "Exists", &[][..]));
    let selected = list(quota, "/spec/scopeSelector/matchExpressions")
        .iter()
        .map(|e| (text(e, "/scopeName"), text(e, "/operator"), list(e, "/values")));
    plain.chain(selected).all(|(scope, operator, values)| {
        if kind.is_core("pods") {
            pod_in(object, scope, operator, values)
        } else if kind.is_core("persistentvolumeclaims") && scope == "VolumeAttributesClass" {
            chosen(text(object, "/spec/volumeAttributesClassName"), operator, values)
        } else {
            false
        }
    })
}

fn pod_in(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    let deadline = pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => deadline,
        "NotTerminating" => !deadline,
        "BestEffort" => pod::is_best_effort(pod),
        "NotBestEffort" => !pod::is_best_effort(pod),
        "PriorityClass" => chosen(text(pod, "/spec/priorityClassName"), operator, values),
        "CrossNamespacePodAffinity" => reaches_other_namespaces(pod),
        _ => false,
    }
}

fn chosen(name: &str, operator: &str, values: &[Value]) -> bool {
    let listed = values.iter().any(|v| v.as_str() == Some(name));
    match operator {
        "Exists" => !name.is_empty(),
        "DoesNotExist" => name.is_empty(),
        "In" => !name.is_empty() && listed,
        "NotIn" => name.is_empty() || !listed,
        _ => false,
    }
}

fn reaches_other_namespaces(pod: &Value) -> bool {
    let reaches = |term: &Value| !list(term, "/namespaces").is_empty() || term.get("namespaceSelector").is_some();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let at = format!("/spec/affinity/{kind}");
        list(pod, &format!("{at}/requiredDuringSchedulingIgnoredDuringExecution")).iter().any(reaches)
            || list(pod, &format!("{at}/preferredDuringSchedulingIgnoredDuringExecution"))
                .iter()
                .filter_map(|weighted| weighted.get("podAffinityTerm"))
                .any(reaches)
    })
}
