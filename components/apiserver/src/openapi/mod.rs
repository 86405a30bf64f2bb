//! The published schemas: OpenAPI v2 (JSON, and the protobuf form old clients insist on) and v3, from machinery's definitions.

mod json;
mod proto;
mod protobuf;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use http::StatusCode;
use machinery::{
    Resource, resources,
    schema::{self, Definition, Type},
};

use crate::{
    http::{Response, respond},
    pipeline::Call,
};

/// What clients ask for, and its later spelling, which alone is a valid media type and so is what is answered.
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Query parameters that writes know.
const QUERY: [&str; 4] = ["dryRun", "fieldManager", "fieldValidation", "pretty"];

/// Every definition that the given kinds reach.
fn reachable<'a>(roots: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'static Definition> {
    let mut found = BTreeMap::new();
    let mut todo: Vec<&str> = roots.collect();
    while let Some(name) = todo.pop() {
        if found.contains_key(name) {
            continue;
        }
        let Some(definition) = schema::definition(name) else { continue };
        found.insert(name, definition);
        todo.extend(definition.fields.values().filter_map(object_name));
    }
    found
}

fn object_name(kind: &Type) -> Option<&str> {
    match kind {
        Type::Object(name) => Some(name),
        Type::Map(inner) | Type::List(inner) => object_name(inner),
        _ => None,
    }
}

fn all_definitions() -> BTreeMap<&'static str, &'static Definition> {
    reachable(resources::all().map(|r| r.definition).chain([DELETE_OPTIONS]))
}

/// The kinds (group, version, kind) that a definition is the schema of.
fn kinds_of(definition: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let rows = resources::all().filter(|r| r.definition == definition);
    let mut kinds: BTreeSet<_> = rows.map(|r| (r.group, r.version, r.kind)).collect();
    if definition == DELETE_OPTIONS {
        kinds.insert(("", "v1", "DeleteOptions"));
    }
    kinds.into_iter().collect()
}

pub fn answer(call: &Call) -> Option<Response> {
    let path = call.info.path.trim_end_matches('/');
    match path {
        "/openapi/v2" => Some(v2(call)),
        "/openapi/v3" => Some(respond::json(StatusCode::OK, &json::index())),
        _ => {
            let rows = rows_of(path.strip_prefix("/openapi/v3/")?);
            (!rows.is_empty()).then(|| respond::json(StatusCode::OK, &json::v3(&rows)))
        }
    }
}

/// The resources of `api/v1` or `apis/apps/v1`.
fn rows_of(group_version: &str) -> Vec<&'static Resource> {
    resources::all().filter(|r| path_of(r) == group_version).collect()
}

fn path_of(resource: &Resource) -> String {
    let prefix = if resource.group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", resource.api_version())
}

/// Where one object of a resource is found.
fn object_path(resource: &Resource) -> String {
    let place = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
    format!("/{}/{place}{}/{{name}}", path_of(resource), resource.plural)
}

fn patchable() -> impl Iterator<Item = &'static Resource> {
    resources::all().filter(|r| r.supports("patch"))
}

fn v2(call: &Call) -> Response {
    // built on first demand: only kubectl asks, and seldom
    static PROTOBUF: OnceLock<bytes::Bytes> = OnceLock::new();
    if call.wants.iter().any(|w| w == V2_PROTOBUF_ASKED || w == V2_PROTOBUF) {
        let bytes = PROTOBUF.get_or_init(|| proto::document(&all_definitions()).into());
        let mut response = respond::bytes(StatusCode::OK, V2_PROTOBUF, Vec::new());
        *response.body_mut() = crate::http::ResponseBody::Full(Some(bytes.clone()));
        return response;
    }
    respond::json(StatusCode::OK, &json::v2(&all_definitions()))
}
