//! APIServices of what this server serves itself, and the range that Services get their addresses from.

use std::collections::BTreeSet;

use machinery::{
    resources::{self, apiextensions::set_condition},
    time,
    value::name,
};
use serde_json::{Value, json};

use crate::{
    aggregation::{self, availability::Verdict},
    config::Config,
    handlers::review_groups,
};

const ON_START: &str = "onstart";

/// `groupPriorityMinimum` and `versionPriority` as upstream's aggregator has them (kubernetes
/// `pkg/controlplane/apiserver/aggregator.go`); others come last.
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

/// Those of a group and version that is built in.
pub fn priority(group: &str, version: &str) -> Option<(i64, i64)> {
    PRIORITIES.iter().find(|(g, v, ..)| *g == group && *v == version).map(|(_, _, group, version)| (*group, *version))
}

/// One for each group and version that is built in; the aggregator's own group has none.
pub fn api_services() -> Vec<Value> {
    let rows = resources::all().map(|r| (r.group.to_string(), r.version.to_string()));
    let all: BTreeSet<(String, String)> = rows.chain(review_groups()).collect();
    all.iter().filter(|(group, _)| group != aggregation::GROUP).map(|(group, version)| local(group, version)).collect()
}

/// The APIService of a group that is served here.
fn local(group: &str, version: &str) -> Value {
    let priority = priority(group, version).unwrap_or(aggregation::registration::CUSTOM);
    let mut object = aggregation::registration::object(group, version, priority, ON_START);
    let local = Verdict::local();
    set_condition(&mut object, "Available", local.status, local.reason, &local.message);
    object
}

/// Whether this server keeps it, at start or always; others are their owner's affair.
pub fn is_kept(object: &Value) -> bool {
    ["onstart", "true"].iter().any(|it| object["metadata"]["labels"][aggregation::MANAGED] == *it)
}

/// Of a group or version that was built in before and is no longer.
pub fn is_obsolete(object: &Value) -> bool {
    let ours = object["metadata"]["labels"][aggregation::MANAGED] == ON_START;
    ours && !api_services().iter().any(|it| name(it) == name(object))
}

/// ServiceCIDR `kubernetes`.
pub fn service_range(config: &Config) -> Value {
    let ready = json!({"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready", "lastTransitionTime": time::now()});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [config.service_cluster_ip_range.trunc().to_string()]}, "status": {"conditions": [ready]}})
}
