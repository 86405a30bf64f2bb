//! Aggregated discovery (KEP-3352): all groups in one document, with an ETag.

use http::{HeaderValue, StatusCode, header};
use machinery::{Resource, resources::Subresource};
use serde_json::{Value, json};

use super::{
    model::{Entry, Group, Version, sorted},
    protobuf,
};
use crate::{
    http::{Response, respond},
    openapi::etag,
    pipeline::Call,
};

/// What a client asks for is what is answered. The older v2beta1 is no longer served; who asks for it alone gets plain documents.
const JSON: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What the client's most wanted range means: the content type of an aggregated form, or `None` for the plain one.
fn wanted(call: &Call) -> Option<&'static str> {
    for range in &call.wants {
        let media = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = match media.as_str() {
            "application/json" | "application/*" | "*/*" => JSON,
            machinery::protobuf::MEDIA_TYPE => PROTOBUF,
            _ => continue,
        };
        let parameter = |name: &str| {
            let values = range.split(';').filter_map(|p| p.trim().split_once('='));
            values.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        match (parameter("as"), parameter("g"), parameter("v")) {
            (None, ..) => return None,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => return Some(form),
            _ => {}
        }
    }
    None
}

/// `None` if the client wants the plain documents.
pub fn answer(call: &Call, groups: &[Group]) -> Option<Response> {
    let content_type = wanted(call)?;
    let document = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": groups.iter().map(group_value).collect::<Vec<_>>(),
    });
    let bytes = if content_type == PROTOBUF { protobuf::encode(&document) } else { document.to_string().into_bytes() };
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
    let freshness = if version.current { "Current" } else { "Stale" };
    json!({"version": version.name, "resources": resources, "freshness": freshness})
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
        Entry::Foreign(resource) => resource.clone(),
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
