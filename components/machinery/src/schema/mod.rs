//! The shape of every built-in kind, and decoding of what clients send against it.
//!
//! The definitions come from k8s-openapi at build time (see build.rs). Decoding does what upstream's typed decoding does: wrong types are
//! refused, unknown fields dropped and reported, nulls removed, times and quantities brought into their canonical form.

mod decode;
mod gates;
mod json;
mod merge_keys;

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::Value;

pub use decode::{DecodeError, Unknown, check, json_name};
pub use json::{keys as json_keys, parse as parse_json};
pub use merge_keys::{Merge, merge};

/// The type of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// An object of the named definition.
    Object(String),
    Map(Box<Type>),
    List(Box<Type>),
    String,
    /// base64
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Int32,
    Int64,
    Float,
    Bool,
    /// Anything: embedded objects, managed fields, free JSON.
    Any,
}

/// An object type: its fields.
#[derive(Debug, Default)]
pub struct Definition {
    pub fields: BTreeMap<String, Type>,
    /// Fields whose feature gate is off: what is sent in them is dropped.
    pub off: &'static [&'static str],
}

/// All definitions as JSON, name → schema, with `$ref`s of the form `#/$defs/NAME`, without descriptions.
const DEFINITIONS_JSON: &str = include_str!(concat!(env!("OUT_DIR"), "/definitions.json"));

/// The same with descriptions, gzipped, one line for each: name, tab, schema. What OpenAPI documents are made from.
pub static DESCRIBED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/described.gz"));

static DEFINITIONS: OnceLock<BTreeMap<String, Definition>> = OnceLock::new();

/// Definitions that are not objects with fields of their own.
fn special(name: &str) -> Option<Type> {
    Some(match name.rsplit('.').next()? {
        "Time" => Type::Time,
        "MicroTime" => Type::MicroTime,
        "Quantity" => Type::Quantity,
        "IntOrString" => Type::IntOrString,
        "RawExtension"
        | "FieldsV1"
        | "JSON"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray" => Type::Any,
        _ => return None,
    })
}

fn definitions() -> &'static BTreeMap<String, Definition> {
    DEFINITIONS.get_or_init(|| {
        // our own build wrote it; were it unreadable, every kind would be unknown, which `tests` would show
        let raw: BTreeMap<String, Value> = serde_json::from_str(DEFINITIONS_JSON).unwrap_or_default();
        raw.iter()
            .filter(|(name, _)| special(name).is_none())
            .map(|(name, schema)| (name.clone(), compile(name, schema)))
            .collect()
    })
}

fn compile(name: &str, schema: &Value) -> Definition {
    let fields = schema.get("properties").and_then(Value::as_object);
    Definition {
        fields: fields.into_iter().flatten().map(|(name, field)| (name.clone(), compile_type(field))).collect(),
        off: gates::off(name),
    }
}

fn compile_type(schema: &Value) -> Type {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return special(name).unwrap_or_else(|| Type::Object(name.to_owned()));
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("type"), text("format")) {
        ("string", "byte") => Type::Bytes,
        ("string", _) => Type::String,
        ("integer", "int64") => Type::Int64,
        ("integer", _) => Type::Int32,
        ("number", _) => Type::Float,
        ("boolean", _) => Type::Bool,
        ("array", _) => Type::List(Box::new(schema.get("items").map_or(Type::Any, compile_type))),
        ("object", _) => match schema.get("additionalProperties") {
            Some(inner) if inner.is_object() => Type::Map(Box::new(compile_type(inner))),
            _ => Type::Any,
        },
        _ => Type::Any,
    }
}

/// The fields of every definition.
pub fn all() -> impl Iterator<Item = (&'static String, &'static BTreeMap<String, Type>)> {
    definitions().iter().map(|(name, definition)| (name, &definition.fields))
}

/// The definition of a name such as `io.k8s.api.core.v1.Pod`.
pub fn definition(name: &str) -> Option<&'static Definition> {
    definitions().get(name)
}

/// The type of one field of a definition.
pub fn field(definition_name: &str, field: &str) -> Option<&'static Type> {
    definition(definition_name)?.fields.get(field)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_and_every_reference_is_defined() {
        fn walk(t: &Type) {
            match t {
                Type::Object(name) => assert!(definition(name).is_some(), "{name}"),
                Type::Map(inner) | Type::List(inner) => walk(inner),
                _ => {}
            }
        }
        for resource in crate::resources::all() {
            let kind = definition(resource.definition).unwrap_or_else(|| unreachable!("{}", resource.definition));
            assert!(kind.fields.contains_key("metadata"), "{}", resource.definition);
        }
        definitions().values().flat_map(|d| d.fields.values()).for_each(walk);
    }

    #[test]
    fn types_of_known_fields() {
        let core = |name: &str| format!("io.k8s.api.core.v1.{name}");
        assert_eq!(field(&core("ServicePort"), "targetPort"), Some(&Type::IntOrString));
        assert_eq!(field(&core("ResourceRequirements"), "limits"), Some(&Type::Map(Box::new(Type::Quantity))));
        assert_eq!(field(&core("Secret"), "data"), Some(&Type::Map(Box::new(Type::Bytes))));
        assert_eq!(field(&core("PodSpec"), "terminationGracePeriodSeconds"), Some(&Type::Int64));
        assert_eq!(field("io.k8s.api.coordination.v1.LeaseSpec", "renewTime"), Some(&Type::MicroTime));
        assert_eq!(field("io.k8s.api.apps.v1.ControllerRevision", "data"), Some(&Type::Any));
    }
}
