//! Discovery: what is served, from the resource table and the virtual reviews.

use std::collections::BTreeMap;

use http::StatusCode;
use machinery::{Resource, resources};
use serde_json::{Value, json};

use super::reviews;
use crate::{
    http::{Response, respond},
    pipeline::Call,
};

/// Groups in the order upstream prefers them; others follow by name.
const ORDER: &[&str] = &[
    "",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
];

/// Everything served, as (group, version) → entries of an APIResourceList.
pub fn served() -> BTreeMap<(&'static str, &'static str), Vec<Value>> {
    let mut all: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for resource in resources::all() {
        let entries = all.entry((resource.group, resource.version)).or_default();
        entries.push(main_entry(resource));
        entries.extend(resource.subresources.iter().map(|s| subresource_entry(resource, s)));
    }
    for review in reviews::ALL {
        all.entry((review.group, "v1")).or_default().push(json!({
            "name": review.plural, "singularName": review.kind.to_ascii_lowercase(), "namespaced": review.namespaced, "kind": review.kind, "verbs": ["create"],
        }));
    }
    all
}

fn main_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced, "kind": resource.kind, "verbs": resource.verbs,
        "storageVersionHash": hash(&format!("{}/{}/{}", resource.group, resource.version, resource.kind)),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = resource.short_names.into();
    }
    if !resource.categories.is_empty() {
        entry["categories"] = resource.categories.into();
    }
    entry
}

fn subresource_entry(resource: &Resource, subresource: &resources::Subresource) -> Value {
    let kind = if subresource.kind.is_empty() { resource.kind } else { subresource.kind };
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, subresource.name), "singularName": "", "namespaced": resource.namespaced, "kind": kind, "verbs": subresource.verbs,
    });
    if !subresource.version.is_empty() {
        entry["group"] = subresource.group.into();
        entry["version"] = subresource.version.into();
    }
    entry
}

fn hash(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};
    STANDARD.encode(&Sha256::digest(text.as_bytes())[..8])
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_value(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": api_version(group, v), "version": v})).collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// Groups other than the core one, with their versions, preferred first.
fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (group, version) in served().into_keys().filter(|(g, _)| !g.is_empty()) {
        groups.entry(group).or_default().push(version);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    for (_, versions) in &mut groups {
        versions.reverse(); // v2 before v1
    }
    groups.sort_by_key(|(group, _)| (ORDER.iter().position(|o| o == group).unwrap_or(ORDER.len()), *group));
    groups
}

pub fn answer(call: &Call) -> Option<Response> {
    let path = call.info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let value = match parts.as_slice() {
        [] | [""] => json!({"paths": paths()}),
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": format!("{}:{}", call.core.config.advertise_address, call.core.config.secure_port)}],
        }),
        ["apis"] => {
            let groups: Vec<Value> = groups().iter().map(|(g, v)| group_value(g, v)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", group] => {
            let (group, versions) = groups().into_iter().find(|(g, _)| g == group)?;
            let mut value = group_value(group, &versions);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        ["api", version] => resource_list("", version)?,
        ["apis", group, version] if !group.is_empty() => resource_list(group, version)?,
        _ => return None,
    };
    Some(respond::value(StatusCode::OK, call.accept.syntax, &value))
}

fn resource_list(group: &str, version: &str) -> Option<Value> {
    let entries = served().remove(&(group, version))?;
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": entries}),
    )
}

fn paths() -> Vec<String> {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(String::from)
    .into();
    for (group, versions) in groups() {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
    }
    paths.sort();
    paths
}
