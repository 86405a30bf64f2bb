//! Namespaces and nodes.

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{get, list_at, name, object_mut, str_at},
};

/// Every namespace carries its name as a label, so that selectors can find it (KEP-2161).
pub(in crate::resources) fn namespace_defaults(namespace: &mut Value) {
    let own = name(namespace).to_owned();
    if own.is_empty() {
        return;
    }
    if let Some(labels) =
        object_mut(namespace, "metadata").and_then(|m| object_mut(m, "labels")).and_then(Value::as_object_mut)
    {
        labels.insert("kubernetes.io/metadata.name".into(), own.into());
    }
}

pub(in crate::resources) fn namespace_create(namespace: &mut Value) {
    meta::set_status(namespace, json!({"phase": "Active"}));
    let Some(spec) = object_mut(namespace, "spec") else { return };
    let mut finalizers = list_at(spec, "finalizers").to_vec();
    if !finalizers.iter().any(|f| f == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    spec["finalizers"] = finalizers.into();
}

/// What can be allocated is, until the node says otherwise, all it has.
pub(in crate::resources) fn node_defaults(node: &mut Value) {
    object_mut(node, "spec");
    let Some(status) = node.get_mut("status").filter(|s| s.get("allocatable").is_none()) else { return };
    if let Some(capacity) = status.get("capacity").cloned() {
        status["allocatable"] = capacity;
    }
}

pub(in crate::resources) fn node(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    for (i, taint) in list_at(node, "spec.taints").iter().enumerate() {
        let at = Path::new("spec").child("taints").index(i);
        let key = str_at(taint, "key");
        errors.extend(names::qualified_name(key).into_iter().map(|p| FieldError::invalid(&at.child("key"), key, p)));
        let value = str_at(taint, "value");
        errors.extend(names::label_value(value).into_iter().map(|p| FieldError::invalid(&at.child("value"), value, p)));
        errors.extend(meta::one_of(taint, "effect", &at, &["NoSchedule", "PreferNoSchedule", "NoExecute"]));
        let identity = (key, str_at(taint, "effect"));
        if seen.contains(&identity) {
            errors.push(FieldError::duplicate(&at, taint.clone()));
        }
        seen.push(identity);
    }
    errors
}

pub(in crate::resources) fn node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = node(new);
    for (field, what) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let at = |n: &Value| get(n, &format!("spec.{field}")).cloned().unwrap_or_default();
        let (after, before) = (at(new), at(old));
        let unset = before.is_null() || before.as_str() == Some("") || before.as_array().is_some_and(Vec::is_empty);
        if !unset && after != before {
            let detail = format!("node updates may not change {what} except from \"\" to valid");
            errors.push(FieldError::forbidden(&Path::new("spec").child(field), detail));
        }
    }
    errors
}
