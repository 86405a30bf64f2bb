//! Objects for unit tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// A pod in `default`, uid = name; `spec` overrides the single container's defaults.
pub fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "app", "image": "app"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}))
        .unwrap()
}

pub fn with_labels(mut pod: Pod, labels: Value) -> Pod {
    pod.metadata.labels = serde_json::from_value(labels).unwrap();
    pod
}

/// A pod with one container that requests these.
pub fn requesting(name: &str, requests: Value, mut spec: Value) -> Pod {
    spec["containers"] = json!([{"name": "app", "image": "app", "resources": {"requests": requests}}]);
    pod(name, spec)
}

/// A node with 4 cores, 8 Gi, 110 pods and the hostname label; `overrides` is merged over it.
pub fn node(name: &str, overrides: Value) -> Node {
    let mut object = json!({
        "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "100Gi", "pods": "110"}},
    });
    merge(&mut object, overrides);
    serde_json::from_value(object).unwrap()
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// A cluster of these nodes.
pub fn cluster(nodes: impl IntoIterator<Item = Node>) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(node.into());
    }
    cluster
}

/// The pod on a node, as the watch would show it.
pub fn place(cluster: &mut Cluster, mut pod: Pod, node: &str) {
    pod.spec.as_mut().unwrap().node_name = Some(node.into());
    cluster.set_pod(pod.into());
}
