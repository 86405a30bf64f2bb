//! What a Service says and nobody heeds (kubernetes `pkg/api/service/warnings.go`).

use serde_json::Value;

use crate::{
    field::Path,
    resources::{networking, pod},
    value::{get, list_at, str_at},
};

pub(in crate::resources) fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let spec = Path::new("spec");
    let kind = str_at(new, "spec.type");
    let headless = kind == "ClusterIP" && str_at(new, "spec.clusterIP") == "None";
    let external = !list_at(new, "spec.externalIPs").is_empty();
    let mut warnings = Vec::new();
    let mut warn = |condition: bool, text: &str| warnings.extend(condition.then(|| text.to_owned()));

    let hints = "service.kubernetes.io/topology-aware-hints";
    warn(
        get(new, "metadata.annotations").is_some_and(|a| a.get(hints).is_some()),
        &format!("annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"),
    );
    for text in odd_addresses(new, "clusterIPs", &spec) {
        warn(true, &text);
    }
    warn(
        headless && !str_at(new, "spec.loadBalancerIP").is_empty(),
        "spec.loadBalancerIP is ignored for headless services",
    );
    warn(headless && external, "spec.externalIPs is ignored for headless services");
    warn(
        headless && str_at(new, "spec.sessionAffinity") != "None",
        "spec.SessionAffinity is ignored for headless services",
    );
    for text in odd_addresses(new, "externalIPs", &spec) {
        warn(true, &text);
    }
    warn(
        external && !headless && kind != "ExternalName",
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
    );
    if let Some(text) = pod::odd_ip(str_at(new, "spec.loadBalancerIP"), &spec.child("loadBalancerIP")) {
        warn(true, &text);
    }
    let at = spec.child("loadBalancerSourceRanges");
    for (i, range) in list_at(new, "spec.loadBalancerSourceRanges").iter().filter_map(Value::as_str).enumerate() {
        if let Some(text) = networking::odd_range(range, &at.index(i)) {
            warn(true, &text);
        }
    }
    warn(external && kind == "ExternalName", "spec.externalIPs is ignored when spec.type is \"ExternalName\"");
    warn(
        kind != "ExternalName" && !str_at(new, "spec.externalName").is_empty(),
        "spec.externalName is ignored when spec.type is not \"ExternalName\"",
    );
    warn(
        str_at(new, "spec.trafficDistribution") == "PreferClose",
        "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
    );
    warnings
}

fn odd_addresses(service: &Value, field: &str, spec: &Path) -> Vec<String> {
    let at = spec.child(field);
    let list = get(service, "spec").map(|s| list_at(s, field)).unwrap_or_default();
    list.iter().filter_map(Value::as_str).enumerate().filter_map(|(i, ip)| pod::odd_ip(ip, &at.index(i))).collect()
}
