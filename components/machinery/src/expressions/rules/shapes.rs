//! Structural schemas as expressions see them, with the largest sizes their values can have (apiserver `pkg/cel/common/schemas.go`).

use std::{collections::BTreeMap, sync::Arc};

use cel::{
    Schema as Declared, Shape,
    schema::{Field, ListKind, Object, escape},
};

use crate::structural::Schema;

const MAX_REQUEST: u64 = 3 * 1024 * 1024;
const MIN_STRING: u64 = 2;
const MIN_BOOL: u64 = 4;
const MIN_NUMBER: u64 = 1;
const MIN_CONTAINER: u64 = 2;
const MIN_DURATION: u64 = 3;
const MAX_DURATION: u64 = 32;
const DATE: u64 = 12;
const DATE_TIME: u64 = 21;

/// What expressions see, and the bytes the shortest value takes as JSON.
#[derive(Clone, Debug)]
pub struct Seen {
    pub declared: Declared,
    pub min: u64,
}

impl Seen {
    fn new(shape: Shape, max: Option<u64>, min: u64, schema: &Schema) -> Self {
        let declared = Declared { shape, max, nullable: schema.nullable };
        Seen { declared, min }
    }

    /// How many such values fit into one request.
    pub fn max_count(&self) -> u64 {
        MAX_REQUEST / (self.min + 1)
    }
}

/// `None` for what expressions cannot see: values without a type.
pub fn seen(schema: &Schema, is_resource: bool) -> Option<Seen> {
    if schema.int_or_string {
        let max = schema.max_length.map_or(MAX_REQUEST - 2, |m| m.saturating_mul(4));
        return Some(Seen::new(Shape::Dyn, Some(max), MIN_NUMBER, schema));
    }
    if is_resource {
        return object(&with_type_meta(schema));
    }
    match schema.kind.as_str() {
        "array" => list(schema),
        "object" => object(schema),
        "string" => Some(string(schema)),
        "boolean" => Some(Seen::new(Shape::Bool, None, MIN_BOOL, schema)),
        "number" => Some(Seen::new(Shape::Double, None, MIN_NUMBER, schema)),
        "integer" => Some(Seen::new(Shape::Int, None, MIN_NUMBER, schema)),
        _ => None,
    }
}

fn list(schema: &Schema) -> Option<Seen> {
    let items = schema.items.as_deref()?;
    let item = seen(items, items.embedded)?;
    let max = schema.max_items.unwrap_or((MAX_REQUEST - 2) / (item.min + 1));
    let kind = match schema.list_type.as_deref() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(schema.list_map_keys.iter().filter_map(|key| escape(key)).collect()),
        _ => ListKind::Atomic,
    };
    Some(Seen::new(Shape::List(Arc::new(item.declared), kind), Some(max), MIN_CONTAINER, schema))
}

fn object(schema: &Schema) -> Option<Seen> {
    if let Some(values) = schema.values() {
        let value = seen(values, values.embedded)?;
        let max = schema.max_properties.unwrap_or((MAX_REQUEST - 2) / (value.min + 6));
        return Some(Seen::new(Shape::Map(Arc::new(value.declared)), Some(max), MIN_CONTAINER, schema));
    }
    let mut fields = BTreeMap::new();
    let mut min = MIN_CONTAINER;
    for (name, property) in &schema.properties {
        let Some(field) = seen(property, property.embedded) else { continue };
        if schema.required.contains(name) && property.default.is_none() {
            min += name.len() as u64 + field.min + 4;
        }
        if let Some(escaped) = escape(name) {
            fields.insert(escaped, Field { name: name.clone(), schema: field.declared });
        }
    }
    let shape = Shape::Object(Arc::new(Object { name: "object".into(), fields }));
    Some(Seen::new(shape, None, min, schema))
}

fn string(schema: &Schema) -> Seen {
    let (shape, max, min) = match schema.format.as_str() {
        "byte" => (Shape::Bytes, schema.max_length.unwrap_or(MAX_REQUEST - 2), MIN_STRING),
        "duration" => (Shape::Duration, MAX_DURATION, MIN_DURATION),
        "date" => (Shape::Timestamp(true), DATE, DATE),
        "date-time" => (Shape::Timestamp(false), DATE_TIME, DATE_TIME),
        _ => {
            let longest = schema.allowed.iter().filter_map(|v| v.as_str()).map(str::len).max();
            let max = match (schema.max_length, longest) {
                // characters may take four bytes
                (Some(max), _) => max.saturating_mul(4),
                (None, Some(longest)) => longest as u64,
                (None, None) => MAX_REQUEST - 2,
            };
            (Shape::String, max, MIN_STRING)
        }
    };
    Seen::new(shape, Some(max), min, schema)
}

/// The root of every resource has a kind, a version and names, whatever its schema says.
fn with_type_meta(schema: &Schema) -> Schema {
    let text = || Schema { kind: "string".into(), ..Schema::default() };
    let metadata = Schema {
        kind: "object".into(),
        properties: BTreeMap::from([("name".into(), text()), ("generateName".into(), text())]),
        ..Schema::default()
    };
    let mut schema = schema.clone();
    schema.kind = "object".into();
    schema.properties.insert("kind".into(), text());
    schema.properties.insert("apiVersion".into(), text());
    schema.properties.insert("metadata".into(), metadata);
    schema
}
