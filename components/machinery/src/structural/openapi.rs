//! What is published of a custom kind (apiextensions-apiserver `pkg/controller/openapi/builder`).

use serde_json::{Map, Value, json};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The name of a kind's definition: `com.example.stable.v1.CronTab`.
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// The schema of a kind as OpenAPI v3; references are to `#/components/schemas/`.
pub fn v3(written: &Value, group: &str, version: &str, kind: &str) -> Value {
    let mut schema = written.clone();
    clean(&mut schema);
    complete(&mut schema, "#/components/schemas/", true);
    schema["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
    schema
}

/// The same as OpenAPI v2, which knows less; references are to `#/definitions/`. A kind that keeps unknown fields at its root is
/// published without fields, so that clients that do not understand the extension accept any.
pub fn v2(written: &Value, group: &str, version: &str, kind: &str) -> Value {
    let mut schema = written.clone();
    clean(&mut schema);
    reduce(&mut schema);
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) || schema.get("type").is_none() {
        schema = json!({"type": "object"});
    } else {
        complete(&mut schema, "#/definitions/", true);
    }
    schema["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
    schema
}

/// Every schema node directly below this one.
fn each(schema: &mut Map<String, Value>, act: &mut dyn FnMut(&mut Value)) {
    for (key, value) in schema.iter_mut() {
        match key.as_str() {
            "properties" => value.as_object_mut().into_iter().flat_map(|m| m.values_mut()).for_each(&mut *act),
            "items" | "additionalProperties" | "not" if value.is_object() => act(value),
            "allOf" | "anyOf" | "oneOf" => value.as_array_mut().into_iter().flatten().for_each(&mut *act),
            _ => {}
        }
    }
}

/// Extensions that say nothing are left out.
fn clean(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    map.retain(|key, value| !(key.starts_with("x-kubernetes-") && *value == false));
    each(map, &mut clean);
}

/// Gives resources their type fields and `metadata`.
fn complete(schema: &mut Value, references: &str, is_root: bool) {
    let Some(map) = schema.as_object_mut() else { return };
    if is_root || map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        properties["apiVersion"] = json!({"type": "string", "description": API_VERSION});
        properties["kind"] = json!({"type": "string", "description": KIND});
        let metadata = match is_root {
            true => json!({"description": METADATA, "allOf": [{"$ref": format!("{references}{OBJECT_META}")}]}),
            false => json!({"$ref": format!("{references}{OBJECT_META}")}),
        };
        // v2 knows references only bare
        properties["metadata"] = match references.starts_with("#/definitions") {
            true => json!({"description": METADATA, "$ref": format!("{references}{OBJECT_META}")}),
            false => metadata,
        };
        map.entry("type").or_insert_with(|| "object".into());
    }
    each(map, &mut |inner| complete(inner, references, false));
}

/// Takes away what v2 does not have, and what its readers would misunderstand.
fn reduce(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for key in ["allOf", "anyOf", "oneOf", "not", "default"] {
        map.remove(key);
    }
    let flag = |map: &Map<String, Value>, key: &str| map.get(key) == Some(&Value::Bool(true));
    let nullable = map.remove("nullable") == Some(Value::Bool(true));
    if nullable || flag(map, "x-kubernetes-int-or-string") {
        // any value: a type, or a list of types, would refuse what is right
        let int_or_string = flag(map, "x-kubernetes-int-or-string");
        for key in ["type", "properties", "items", "additionalProperties", "required", "format", "enum"] {
            map.remove(key);
        }
        if int_or_string {
            map.retain(|key, _| matches!(key.as_str(), "description" | "title" | "x-kubernetes-int-or-string"));
        }
    }
    if flag(map, "x-kubernetes-preserve-unknown-fields") && map.get("type").is_some_and(|it| it == "object") {
        map.remove("properties");
        map.remove("additionalProperties");
        map.remove("required");
    }
    let removed = remove_nullable_requirements(map);
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|it| !it.as_str().is_some_and(|name| removed.contains(&name.to_owned())));
    }
    each(map, &mut reduce);
}

/// A required field that may be null looks absent to clients that drop nulls.
fn remove_nullable_requirements(map: &Map<String, Value>) -> Vec<String> {
    let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.filter(|(_, it)| it.get("nullable") == Some(&Value::Bool(true))).map(|(name, _)| name.clone()).collect()
}
