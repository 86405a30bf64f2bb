//! `metadata` of custom objects and of resources embedded in them: it has its shape without a schema saying so.

use serde_json::Value;

use super::Schema;
use crate::{
    field::{FieldError, Path},
    names,
    resources::validate_embedded_metadata,
    schema::{self, Unknown},
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Brings `metadata` of the object and of embedded resources into shape; the paths of what was dropped, or why it is malformed.
pub fn prune_metadata(schema: &Schema, object: &mut Value, is_root: bool) -> Result<Vec<String>, String> {
    let mut dropped = Vec::new();
    walk(schema, object, is_root, "", &mut dropped)?;
    Ok(dropped)
}

fn walk(
    schema: &Schema,
    value: &mut Value,
    is_resource: bool,
    path: &str,
    dropped: &mut Vec<String>,
) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            if is_resource {
                for key in ["apiVersion", "kind"] {
                    if let Some(other) = map.get(key).filter(|it| !it.is_string()) {
                        return Err(format!("{path}.{key}: Invalid value: {other}: must be a string"));
                    }
                }
            }
            if is_resource && let Some(metadata) = map.get_mut("metadata") {
                if metadata.is_null() {
                    map.remove("metadata");
                } else {
                    let found = schema::check(OBJECT_META, metadata, Unknown::Prune).map_err(|e| e.to_string())?;
                    let at = format!("{path}.metadata");
                    dropped.extend(found.iter().map(|it| format!("{}.{it}", at.trim_start_matches('.'))));
                }
            }
            for (key, inner) in map.iter_mut().filter(|(key, _)| !is_resource || *key != "metadata") {
                if let Some(known) = schema.properties.get(key).or_else(|| schema.values()) {
                    walk(known, inner, known.embedded, &format!("{path}.{key}"), dropped)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return Ok(()) };
            for (i, item) in items.iter_mut().enumerate() {
                walk(inner, item, inner.embedded, &format!("{path}[{i}]"), dropped)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Embedded resources say what they are, and their metadata is valid.
pub fn embedded(schema: &Schema, value: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = if schema.embedded && value.is_object() { resource(value, path) } else { Vec::new() };
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match schema.properties.get(key) {
                    Some(known) => errors.extend(embedded(known, inner, &path.child(key))),
                    None => errors.extend(schema.values().into_iter().flat_map(|s| embedded(s, inner, &path.key(key)))),
                }
            }
        }
        Value::Array(items) => {
            let inner = schema.items.as_deref();
            errors.extend(inner.into_iter().flat_map(|inner| {
                items.iter().enumerate().flat_map(move |(i, item)| embedded(inner, item, &path.index(i)))
            }));
        }
        _ => {}
    }
    errors
}

fn resource(value: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["apiVersion", "kind"] {
        let at = path.child(key);
        match value.get(key) {
            None => errors.push(FieldError::required(&at, "must not be empty")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&at, "", "must not be empty"))
            }
            Some(Value::String(text)) if key == "kind" => {
                let problems = names::dns1035_label(&text.to_lowercase());
                if !problems.is_empty() {
                    let detail = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
                    errors.push(FieldError::invalid(&at, text.as_str(), detail));
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                let detail = format!("unexpected GroupVersion string: {text}");
                errors.push(FieldError::invalid(&at, text.as_str(), detail));
            }
            Some(Value::String(_)) => {}
            Some(other) => errors.push(FieldError::invalid(&at, other.clone(), "must be a string")),
        }
    }
    if value.get("metadata").is_some_and(Value::is_object) {
        errors.extend(validate_embedded_metadata(value, &path.child("metadata")));
    }
    errors
}
