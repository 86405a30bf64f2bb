//! Taking fields out of an object.

use serde_json::{Map, Value};

use super::{
    element,
    set::FieldSet,
    shape::{ListShape, MapShape, Resolved, Shape},
};

/// `object` without the members of `fields`; an object stays an object.
pub fn remove(object: &Value, fields: &FieldSet, shape: &Shape) -> Value {
    walk(object, fields, shape).unwrap_or_else(|| Value::Object(Map::new()))
}

/// `None` if nothing is left.
fn walk(value: &Value, fields: &FieldSet, shape: &Shape) -> Option<Value> {
    match (shape.resolve(), value) {
        // one field: what names a part of it means all
        (Resolved::Map { atomic: true, .. }, Value::Object(_)) => None,
        (Resolved::List(list), Value::Array(_)) if list.is_atomic() => None,
        (Resolved::Map { map, .. }, Value::Object(entries)) => from_map(entries, fields, Some(map)),
        (Resolved::Deduced, Value::Object(entries)) => from_map(entries, fields, None),
        (Resolved::List(list), Value::Array(items)) => from_list(items, fields, list),
        _ => Some(value.clone()),
    }
}

fn from_map(entries: &Map<String, Value>, fields: &FieldSet, shape: Option<&MapShape>) -> Option<Value> {
    let mut out = Map::new();
    for (key, value) in entries {
        let node = fields.get(&element::field(key));
        let kept = match node {
            None => Some(value.clone()),
            Some(node) if node.member => None,
            Some(node) => {
                let inner = shape.map_or(&Shape::Deduced, |map| map.child_or_opaque(key).0);
                walk(value, &node.below, inner)
            }
        };
        if let Some(kept) = kept {
            out.insert(key.clone(), kept);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn from_list(items: &[Value], fields: &FieldSet, shape: &ListShape) -> Option<Value> {
    let kept = items.iter().filter_map(|item| {
        let Ok(step) = shape.step(item) else { return Some(item.clone()) };
        match fields.get(&step) {
            None => Some(item.clone()),
            Some(node) if node.member => None,
            Some(node) => walk(item, &node.below, &shape.item),
        }
    });
    let kept: Vec<Value> = kept.collect();
    (!kept.is_empty()).then_some(Value::Array(kept))
}
