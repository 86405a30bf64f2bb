//! Schemas as JSON.

use machinery::{
    Resource, resources,
    schema::{Definition, Merge, Type, merge},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use super::{QUERY, kinds_of, object_path, patchable, path_of, reachable};

fn type_schema(kind: &Type, references: &str) -> Value {
    match kind {
        Type::Object(name) => json!({"$ref": format!("{references}{name}")}),
        Type::Map(inner) => json!({"type": "object", "additionalProperties": type_schema(inner, references)}),
        Type::List(inner) => json!({"type": "array", "items": type_schema(inner, references)}),
        Type::String | Type::Quantity => json!({"type": "string"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Time | Type::MicroTime => json!({"type": "string", "format": "date-time"}),
        Type::IntOrString => json!({"type": "string", "format": "int-or-string"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Float => json!({"type": "number", "format": "double"}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Any => json!({"type": "object"}),
    }
}

/// `x-kubernetes-patch-merge-key` and `-strategy` of a field.
pub fn merge_extensions(definition: &str, field: &str) -> Vec<(&'static str, &'static str)> {
    const KEY: &str = "x-kubernetes-patch-merge-key";
    const STRATEGY: &str = "x-kubernetes-patch-strategy";
    match merge(definition, field) {
        Some(Merge::Key(key)) => vec![(KEY, key), (STRATEGY, "merge")],
        Some(Merge::KeyRetain(key)) => vec![(KEY, key), (STRATEGY, "merge,retainKeys")],
        Some(Merge::Set) => vec![(STRATEGY, "merge")],
        Some(Merge::Retain) => vec![(STRATEGY, "retainKeys")],
        _ => Vec::new(),
    }
}

fn definition_schema(name: &str, definition: &Definition, references: &str) -> Value {
    let mut properties = Map::new();
    for (field, kind) in &definition.fields {
        let mut schema = type_schema(kind, references);
        for (key, value) in merge_extensions(name, field) {
            schema[key] = value.into();
        }
        properties.insert(field.clone(), schema);
    }
    let mut schema = json!({"type": "object"});
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    let kinds: Vec<Value> =
        kinds_of(name).iter().map(|(g, v, k)| json!({"group": g, "version": v, "kind": k})).collect();
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = kinds.into();
    }
    schema
}

pub fn v2(definitions: &BTreeMap<&str, &'static Definition>) -> Value {
    let schemas: Map<String, Value> = definitions
        .iter()
        .map(|(name, d)| ((*name).to_owned(), definition_schema(name, d, "#/definitions/")))
        .collect();
    let paths: Map<String, Value> = patchable().map(|r| (object_path(r), v2_path_item(r))).collect();
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.37.0"}, "paths": paths, "definitions": schemas})
}

/// Clients before OpenAPI v3 look here for whether patches of a kind know `dryRun`.
fn v2_path_item(resource: &Resource) -> Value {
    let parameters: Vec<Value> =
        QUERY.iter().map(|name| json!({"name": name, "in": "query", "type": "string", "uniqueItems": true})).collect();
    json!({"patch": {
        "parameters": parameters, "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "responses": {"200": {"description": "OK", "schema": {"$ref": format!("#/definitions/{}", resource.definition)}}},
    }})
}

pub fn index() -> Value {
    let mut paths = Map::new();
    for resource in resources::all() {
        let path = path_of(resource);
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// One group version. Its paths say which query parameters writes know: newer clients look for `fieldValidation` there.
pub fn v3(rows: &[&Resource]) -> Value {
    let definitions = reachable(rows.iter().map(|r| r.definition));
    let schemas: Map<String, Value> = definitions
        .iter()
        .map(|(name, d)| ((*name).to_owned(), definition_schema(name, d, "#/components/schemas/")))
        .collect();
    let paths: Map<String, Value> = rows.iter().map(|r| path_item(r)).collect();
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.37.0"}, "paths": paths, "components": {"schemas": schemas}})
}

fn path_item(resource: &Resource) -> (String, Value) {
    let parameters: Vec<Value> = QUERY
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    let operation = |action: &str| {
        json!({
            "parameters": parameters, "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{}", resource.definition)}}}}},
        })
    };
    (object_path(resource), json!({"get": operation("get"), "put": operation("put"), "patch": operation("patch")}))
}
