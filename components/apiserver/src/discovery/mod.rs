//! Discovery: what is served, plain (`APIGroupList`, `APIResourceList`) and aggregated (apidiscovery.k8s.io).

mod aggregated;
mod model;
mod order;
mod protobuf;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    http::{Response, respond},
    pipeline::Call,
};
use model::{Entry, Group, Version};

pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Answers below `/api` and `/apis`, and the list of paths.
pub fn answer(call: &Call) -> Option<Response> {
    let path = call.info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let groups = || model::groups(&call.core);
    let value = match parts.as_slice() {
        ["api" | "apis"] => {
            let core = parts == ["api"];
            let groups: Vec<Group> = groups().into_iter().filter(|g| g.name.is_empty() == core).collect();
            if let Some(response) = aggregated::answer(call, &groups) {
                return Some(response);
            }
            if core { versions(call) } else { group_list(&groups) }
        }
        [] | [""] => json!({"paths": paths(&groups())}),
        ["api", version] => resource_list(&groups(), "", version)?,
        ["apis", group] if !group.is_empty() => {
            let group = groups().into_iter().find(|g| g.name == *group)?;
            let mut value = group_value(&group);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        ["apis", group, version] if !group.is_empty() => resource_list(&groups(), group, version)?,
        _ => return None,
    };
    Some(respond::value(StatusCode::OK, call.accept.syntax, &value))
}

fn versions(call: &Call) -> Value {
    let config = &call.core.config;
    let address = format!("{}:{}", config.advertise_address, config.secure_port);
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

fn group_list(groups: &[Group]) -> Value {
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.iter().map(group_value).collect::<Vec<_>>()})
}

/// Name and versions; the first is the preferred one.
fn group_value(group: &Group) -> Value {
    let version = |v: &Version| json!({"groupVersion": group_version(&group.name, &v.name), "version": v.name});
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

fn resource_list(groups: &[Group], group: &str, version: &str) -> Option<Value> {
    let versions = &groups.iter().find(|g| g.name == group)?.versions;
    let entries = &versions.iter().find(|v| v.name == version)?.entries;
    let resources: Vec<Value> = entries.iter().flat_map(Entry::plain).collect();
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version), "resources": resources,
    }))
}

const OTHER_PATHS: &[&str] = &[
    "/.well-known/openid-configuration",
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
];

fn paths(groups: &[Group]) -> Vec<String> {
    let mut paths: Vec<String> = OTHER_PATHS.iter().map(|p| (*p).to_owned()).collect();
    for group in groups {
        let root = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
        paths.extend(group.versions.iter().map(|v| format!("{root}/{}", v.name)));
        paths.push(root);
    }
    paths.sort();
    paths.dedup();
    paths
}
