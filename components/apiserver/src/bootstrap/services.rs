//! APIServices of what this server serves itself, and the range that Services get their addresses from.

use std::collections::BTreeSet;

use machinery::{resources, time};
use serde_json::{Value, json};

use crate::{config::Config, handlers::review_groups};

/// `groupPriorityMinimum` and `versionPriority` of upstream's aggregator; others come last.
const PRIORITIES: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("apps", "v1", 17800, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("networking.k8s.io", "v1", 17200, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("resource.k8s.io", "v1", 15900, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("storagemigration.k8s.io", "v1", 15800, 15),
];
const OTHERS: (i64, i64) = (1000, 15);

/// One for each group and version that is built in; the aggregator's own group has none.
pub fn api_services() -> Vec<Value> {
    let rows = resources::all().map(|r| (r.group.to_string(), r.version.to_string()));
    let all: BTreeSet<(String, String)> = rows.chain(review_groups()).collect();
    all.iter()
        .filter(|(group, _)| group != "apiregistration.k8s.io")
        .map(|(group, version)| local(group, version))
        .collect()
}

/// The APIService of a group that is served here.
fn local(group: &str, version: &str) -> Value {
    let known = PRIORITIES.iter().find(|(g, v, ..)| *g == group && *v == version);
    let (minimum, priority) = known.map_or(OTHERS, |(_, _, minimum, priority)| (*minimum, *priority));
    let mut spec = json!({"version": version, "groupPriorityMinimum": minimum, "versionPriority": priority});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    let labels = json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
    let available = json!({"type": "Available", "status": "True", "reason": "Local", "message": "Local APIServices are always available", "lastTransitionTime": time::now()});
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": labels}, "spec": spec, "status": {"conditions": [available]}})
}

/// ServiceCIDR `kubernetes`.
pub fn service_range(config: &Config) -> Value {
    let ready = json!({"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready", "lastTransitionTime": time::now()});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [config.service_cluster_ip_range.trunc().to_string()]}, "status": {"conditions": [ready]}})
}
