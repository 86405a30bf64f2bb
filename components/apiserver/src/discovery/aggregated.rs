//! Aggregated discovery (KEP-3352): all groups in one document, with an ETag.

use http::{HeaderValue, StatusCode, header};
use machinery::{Resource, resources::Subresource};
use serde_json::{Value, json};

use super::model::{Entry, Group, Version, sorted};
use crate::{
    http::{Response, respond},
    openapi::etag,
    pipeline::Call,
};

/// The version asked for, and the content type of the answer.
const FORMS: [(&str, &str); 2] = [
    ("v2", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    ("v2beta1", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
];

/// What the client's most wanted range means: `Some` if it is an aggregated form, `None` if it is the plain one.
fn wanted(call: &Call) -> Option<(&'static str, &'static str)> {
    for range in &call.wants {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        if !matches!(media.as_str(), "application/json" | "application/*" | "*/*") {
            continue;
        }
        let parameter = |name: &str| {
            let values = range.split(';').filter_map(|p| p.trim().split_once('='));
            values.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        match parameter("as") {
            None => return None,
            Some("APIGroupDiscoveryList") if parameter("g") == Some("apidiscovery.k8s.io") => {
                let form = FORMS.iter().find(|(version, _)| parameter("v") == Some(version));
                if let Some(form) = form {
                    return Some(*form);
                }
            }
            Some(_) => {}
        }
    }
    None
}

/// `None` if the client wants the plain documents.
pub fn answer(call: &Call, groups: &[Group]) -> Option<Response> {
    let (version, content_type) = wanted(call)?;
    let document = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": groups.iter().map(group_value).collect::<Vec<_>>(),
    });
    let bytes = document.to_string().into_bytes();
    let tag = etag::of(&bytes);
    let mut response = respond::bytes(StatusCode::OK, content_type, bytes);
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    Some(etag::apply(call, response, &tag))
}

fn group_value(group: &Group) -> Value {
    let mut metadata = json!({"creationTimestamp": null});
    if !group.name.is_empty() {
        metadata["name"] = group.name.as_str().into();
    }
    json!({"metadata": metadata, "versions": group.versions.iter().map(version_value).collect::<Vec<_>>()})
}

fn version_value(version: &Version) -> Value {
    let resources: Vec<Value> = version.entries.iter().map(entry_value).collect();
    json!({"version": version.name, "resources": resources, "freshness": "Current"})
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}

fn entry_value(entry: &Entry) -> Value {
    match entry {
        Entry::Stored(resource) => resource_value(resource),
        Entry::Review(review) => json!({
            "resource": review.plural, "responseKind": {"group": review.group, "version": "v1", "kind": review.kind},
            "scope": scope(review.namespaced), "singularResource": review.kind.to_ascii_lowercase(), "verbs": ["create"],
        }),
    }
}

fn resource_value(resource: &Resource) -> Value {
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": scope(resource.namespaced), "singularResource": resource.singular, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = resource.short_names.into();
    }
    if !resource.categories.is_empty() {
        value["categories"] = resource.categories.into();
    }
    let subresources: Vec<Value> = sorted(resource).iter().map(|s| subresource_value(resource, s)).collect();
    if !subresources.is_empty() {
        value["subresources"] = subresources.into();
    }
    value
}

fn subresource_value(resource: &Resource, subresource: &Subresource) -> Value {
    let own = subresource.kind.is_empty();
    let (group, version, kind) = if own || subresource.version.is_empty() {
        let kind = if own { resource.kind } else { subresource.kind };
        (resource.group, resource.version, kind)
    } else {
        (subresource.group, subresource.version, subresource.kind)
    };
    json!({
        "subresource": subresource.name, "responseKind": {"group": group, "version": version, "kind": kind},
        "verbs": subresource.verbs,
    })
}
