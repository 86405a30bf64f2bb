//! What a definition's schema may say at each of its nodes (apiextensions `validation.ValidateCustomResourceDefinitionOpenAPISchema`).
//! Works on the schema as written: here it matters whether something is there at all.

use serde_json::Value;

use super::{Schema, check::defaults};
use crate::{
    field::{FieldError, Path},
    value::{bool_at, list_at, map_at, str_at},
};

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
/// Fields that go with a status subresource at the root, as (in Go, in JSON).
const ROOT_FIELDS: &[(&str, &str)] = &[
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XValidations", "x-kubernetes-validations"),
];

/// Where a node is.
#[derive(Clone, Default)]
struct Context {
    is_root: bool,
    /// Describes `metadata`, `kind` or `apiVersion`.
    inside_meta: bool,
    /// Why a default must not be set here.
    no_defaults: Option<String>,
}

/// Checks the whole schema of a version: `parsed` is `written`, parsed.
pub fn check_nodes(written: &Value, parsed: &Schema, with_status: bool, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(with_status.then(|| with_status_subresource(written, path)).flatten());
    if bool_at(written, "nullable") {
        errors.push(FieldError::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let structural = super::check(parsed, path);
    let is_structural = structural.is_empty();
    errors.extend(structural);
    if is_structural {
        let root = Schema { embedded: true, ..parsed.clone() };
        errors.extend(defaults(&root, path, false));
    }
    errors.extend(node(written, path, &Context { is_root: true, ..Context::default() }));
    errors
}

fn with_status_subresource(written: &Value, path: &Path) -> Option<FieldError> {
    // upstream looks at the fields in the order of its structure, of which only these come before the type
    let order = |key: &str| (!matches!(key, "id" | "$schema" | "$ref"), key != "type");
    let mut fields: Vec<(&String, &Value)> = written.as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(key, _)| order(key));
    for (key, value) in fields.into_iter().filter(|(_, v)| !matches!(v, Value::Bool(false)) && *v != "" && !v.is_null())
    {
        if key == "type" && value != "object" {
            let detail =
                "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            return Some(FieldError::invalid(&path.child("type"), value.clone(), detail));
        }
        if !ROOT_FIELDS.iter().any(|(_, it)| it == key) {
            let names: Vec<&str> = ROOT_FIELDS.iter().map(|(name, _)| *name).collect();
            let detail = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                names.join(" ")
            );
            return Some(FieldError::invalid(path, written.clone(), detail));
        }
    }
    None
}

fn node(s: &Value, path: &Path, context: &Context) -> Vec<FieldError> {
    let mut errors = own(s, path, context);
    if bool_at(s, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
    }
    errors.extend(below(s, path, context));
    if s.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&at, false, "must be true or undefined"));
    }
    errors.extend(list_and_map_types(s, path));
    errors.extend(rules(s, path));
    errors
}

fn own(s: &Value, path: &Path, context: &Context) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = str_at(s, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("type"), kind, TYPES));
    }
    if let Some(reason) = context.no_defaults.as_ref().filter(|_| s.get("default").is_some_and(|it| !it.is_null())) {
        errors.push(FieldError::forbidden(&path.child("default"), format!("must not be set {reason}")));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let there = s.get(key).is_some_and(|v| *v != "" && v.as_object().is_none_or(|m| !m.is_empty()));
        if there {
            errors.push(FieldError::forbidden(&path.child(key), format!("{key} is not supported")));
        }
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    }
    if s.get("items").is_some_and(|it| it.as_array().is_some_and(|list| !list.is_empty())) {
        errors.push(FieldError::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if context.inside_meta && bool_at(s, "x-kubernetes-embedded-resource") {
        let detail = "must not be used inside of resource meta";
        errors.push(FieldError::forbidden(&path.child("x-kubernetes-embedded-resource"), detail));
    }
    errors
}

fn below(s: &Value, path: &Path, context: &Context) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let inner = Context { is_root: false, ..context.clone() };
    let properties = map_at(s, "properties");
    if let Some(additional) = s.get("additionalProperties").filter(|it| !it.is_null()) {
        let at = path.child("additionalProperties");
        if properties.is_some_and(|it| !it.is_empty()) && *additional != true {
            errors.push(FieldError::forbidden(&at, "additionalProperties and properties are mutual exclusive"));
        }
        let mut context = inner.clone();
        if context.inside_meta {
            context.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
        }
        if additional.is_object() {
            errors.extend(node(additional, &at, &context));
        }
    }
    let is_root = context.is_root;
    let is_resource = is_root || bool_at(s, "x-kubernetes-embedded-resource");
    for (key, property) in properties.into_iter().flatten() {
        let mut context = inner.clone();
        if is_resource && matches!(key.as_str(), "metadata" | "kind" | "apiVersion") {
            context.inside_meta = true;
            if is_root {
                context.no_defaults = Some(format!("in top-level {key}"));
            }
        }
        errors.extend(node(property, &path.child("properties").key(key), &context));
    }
    if let Some(not) = s.get("not").filter(|it| it.is_object()) {
        errors.extend(node(not, &path.child("not"), &inner));
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (index, alternative) in list_at(s, key).iter().enumerate() {
            errors.extend(node(alternative, &path.child(key).index(index), &inner));
        }
    }
    if let Some(items) = s.get("items").filter(|it| it.is_object()) {
        errors.extend(node(items, &path.child("items"), &inner));
    }
    errors
}

fn list_and_map_types(s: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = str_at(s, "type");
    let wants = |wanted: &str, because: &str| {
        let detail = format!("must be {wanted} if {because} is specified");
        match kind.is_empty() {
            true => FieldError::required(&path.child("type"), detail),
            false => FieldError::invalid(&path.child("type"), kind, detail),
        }
    };
    if let Some(map_type) = s.get("x-kubernetes-map-type").and_then(Value::as_str) {
        if kind != "object" {
            errors.push(wants("object", "x-kubernetes-map-type"));
        }
        if !matches!(map_type, "atomic" | "granular") {
            let at = path.child("x-kubernetes-map-type");
            errors.push(FieldError::not_supported(&at, map_type, &["atomic", "granular"]));
        }
    }
    let items = s.get("items").filter(|it| it.is_object());
    let list_type = s.get("x-kubernetes-list-type").and_then(Value::as_str);
    if list_type.is_some() && kind != "array" {
        errors.push(wants("array", "x-kubernetes-list-type"));
    } else if let (Some("set"), Some(items)) = (list_type, items) {
        errors.extend(set_items(items, &path.child("items")));
    }
    if let Some(other) = list_type.filter(|it| !matches!(*it, "atomic" | "set" | "map")) {
        let at = path.child("x-kubernetes-list-type");
        errors.push(FieldError::not_supported(&at, other, &["atomic", "set", "map"]));
    }
    let keys = list_at(s, "x-kubernetes-list-map-keys");
    if !keys.is_empty() && list_type != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        let at = path.child("x-kubernetes-list-type");
        errors.push(match list_type {
            None => FieldError::required(&at, detail),
            Some(other) => FieldError::invalid(&at, other, detail),
        });
    }
    if list_type == Some("map") {
        errors.extend(map_list(items, keys, path));
    }
    if let (Some(list_type @ ("set" | "map")), Some(items)) = (list_type, items) {
        if bool_at(items, "nullable") {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            errors.push(FieldError::forbidden(&path.child("items").child("nullable"), detail));
        }
        if list_type == "map" {
            errors.extend(map_keys(items, keys, &path.child("items")));
        }
    }
    errors
}

fn set_items(items: &Value, path: &Path) -> Option<FieldError> {
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let given = |key: &str| items.get(key).and_then(Value::as_str);
    match str_at(items, "type") {
        "array" if given("x-kubernetes-list-type").is_some_and(|it| it != "atomic") => {
            let value = items["x-kubernetes-list-type"].clone();
            Some(FieldError::invalid(&path.child("x-kubernetes-list-type"), value, detail))
        }
        "object" if given("x-kubernetes-map-type") != Some("atomic") => {
            let value = items.get("x-kubernetes-list-type").cloned().unwrap_or_default();
            Some(FieldError::invalid(&path.child("x-kubernetes-map-type"), value, detail))
        }
        _ => None,
    }
}

fn map_list(items: Option<&Value>, keys: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let keys_at = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(&keys_at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let items_at = path.child("items");
    let Some(items) = items else {
        errors.push(FieldError::required(&items_at, "must have a schema if x-kubernetes-list-type is map"));
        return errors;
    };
    let kind = str_at(items, "type");
    if kind != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&items_at.child("type"), kind, detail));
        return errors;
    }
    for (index, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match map_at(items, "properties").and_then(|it| it.get(name)) {
            Some(property) if matches!(str_at(property, "type"), "array" | "object") => {
                let at = items_at.child("properties").key(name).child("type");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&at, kind, detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_at, keys.to_vec(), detail));
            }
        }
        if keys[..index].contains(key) {
            errors.push(FieldError::invalid(&keys_at, keys.to_vec(), "must not contain duplicate entries"));
        }
    }
    errors
}

/// Keys are always there: required, or with a default.
fn map_keys(items: &Value, keys: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in keys {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = map_at(items, "properties").and_then(|it| it.get(name)) else { continue };
        let at = path.child("properties").key(name);
        if !list_at(items, "required").contains(key) && property.get("default").is_none_or(Value::is_null) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&at.child("default"), detail));
        }
        if bool_at(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&at.child("nullable"), detail));
        }
    }
    errors
}

/// What can be said of rules without understanding them.
fn rules(s: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let multi_line = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in list_at(s, "x-kubernetes-validations").iter().enumerate() {
        let at = path.child("x-kubernetes-validations").index(index);
        let (text, message, expression) =
            (str_at(rule, "rule"), str_at(rule, "message"), str_at(rule, "messageExpression"));
        if text.trim().is_empty() {
            errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(FieldError::invalid(&at.child("message"), message, "message must be non-empty if specified"));
        } else if multi_line(message.trim()) {
            errors.push(FieldError::invalid(&at.child("message"), message, "message must not contain line breaks"));
        } else if multi_line(text.trim()) && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&at.child("message"), detail));
        }
        if !expression.is_empty() && expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(&at.child("messageExpression"), detail));
        }
        if let Some(reason) = rule.get("reason").and_then(Value::as_str).filter(|it| !REASONS.contains(it)) {
            errors.push(FieldError::not_supported(&at.child("reason"), reason, REASONS));
        }
        let field = str_at(rule, "fieldPath");
        if !field.is_empty() && field.trim().is_empty() {
            errors.push(FieldError::invalid(&at.child("fieldPath"), field, "fieldPath must be non-empty if specified"));
        }
        if multi_line(field) {
            errors.push(FieldError::invalid(&at.child("fieldPath"), field, "fieldPath must not contain line breaks"));
        }
        if !field.is_empty() && super::jsonpath::field(&super::parse(s), field, true).is_err() {
            errors.push(FieldError::invalid(&at.child("fieldPath"), field, "fieldPath must be a valid path"));
        }
    }
    errors
}
