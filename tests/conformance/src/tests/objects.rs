//! Bodies that many tests need.

use serde_json::{Value, json};

use crate::context::T;

/// A pod's spec: one container that runs for ever.
pub fn pod_spec(t: &T) -> Value {
    json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": t.env.surroundings.image}]})
}

pub fn pod(t: &T, name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": pod_spec(t)})
}

/// The spec of a ReplicaSet, Deployment (both `labels_selector`) or ReplicationController.
pub fn workload(t: &T, name: &str, replicas: u32, labels_selector: bool) -> Value {
    let labels = json!({"app": name});
    let selector = if labels_selector { json!({"matchLabels": labels}) } else { labels.clone() };
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": selector,
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(t)}},
    })
}

pub fn config_map(name: &str, data: &Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

/// An admission rule.
pub fn rule(group: &str, version: &str, resource: &str, operations: &[&str]) -> Value {
    json!({"apiGroups": [group], "apiVersions": [version], "resources": [resource], "operations": operations})
}

/// Only the test's own namespace.
pub fn own_namespace(t: &T) -> Value {
    json!({"matchLabels": {"conformance": t.ns}})
}

/// A condition as a client would write it.
pub fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status, "reason": "Harness", "message": "set by a test", "lastTransitionTime": crate::nodes::now()})
}
