//! Shapes of custom resources, from their structural schemas.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    builtin,
    shape::{Key, ListShape, MapShape, Relation, Scalar, Shape},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The shape of the objects that `schema` (an `openAPIV3Schema`) describes; without one everything is free content.
pub fn shape(schema: Option<&Value>) -> Shape {
    let mut root = match schema {
        Some(schema) => map(schema),
        None => MapShape { values: Some(Shape::Deduced), ..MapShape::default() },
    };
    add_object_fields(&mut root.fields);
    root.atomic = false;
    Shape::Map(Arc::new(root))
}

/// What every object has, whatever the schema restricts there.
fn add_object_fields(fields: &mut BTreeMap<String, Shape>) {
    for name in ["apiVersion", "kind"] {
        fields.insert(name.into(), Shape::Scalar(Scalar::String));
    }
    fields.insert("metadata".into(), builtin::shape(META));
}

fn flag(schema: &Value, extension: &str) -> bool {
    schema.get(extension).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn compile(schema: &Value) -> Shape {
    if flag(schema, "x-kubernetes-int-or-string") {
        return Shape::Scalar(Scalar::Any);
    }
    match text(schema, "type") {
        "object" => Shape::Map(Arc::new(map(schema))),
        "array" => Shape::List(Arc::new(list(schema))),
        "string" => Shape::Scalar(Scalar::String),
        "integer" | "number" => Shape::Scalar(Scalar::Number),
        "boolean" => Shape::Scalar(Scalar::Bool),
        _ if flag(schema, "x-kubernetes-preserve-unknown-fields") => Shape::Deduced,
        _ => Shape::Opaque,
    }
}

fn map(schema: &Value) -> MapShape {
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut fields: BTreeMap<String, Shape> =
        properties.into_iter().flatten().map(|(name, inner)| (name.clone(), compile(inner))).collect();
    if flag(schema, "x-kubernetes-embedded-resource") {
        add_object_fields(&mut fields);
    }
    let values = match schema.get("additionalProperties") {
        Some(inner) if inner.is_object() => Some(compile(inner)),
        Some(Value::Bool(true)) => Some(Shape::Deduced),
        _ if flag(schema, "x-kubernetes-preserve-unknown-fields") || fields.is_empty() => Some(Shape::Deduced),
        _ => None,
    };
    MapShape { fields, values, atomic: text(schema, "x-kubernetes-map-type") == "atomic", implicit: &[] }
}

fn list(schema: &Value) -> ListShape {
    let items = schema.get("items").unwrap_or(&Value::Null);
    let relation = match text(schema, "x-kubernetes-list-type") {
        "set" => Relation::Set,
        "map" => Relation::Keys(keys(schema, items)),
        _ => Relation::Atomic,
    };
    ListShape { item: compile(items), relation }
}

fn keys(schema: &Value, items: &Value) -> Vec<Key> {
    let listed = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let mut names: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    names.sort_unstable();
    let default = |name: &str| items.get("properties")?.get(name)?.get("default").cloned();
    names.into_iter().map(|name| Key { name: name.to_owned(), default: default(name) }).collect()
}
