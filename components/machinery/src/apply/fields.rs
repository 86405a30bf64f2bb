//! The fields that an applied configuration mentions.

use serde_json::{Map, Value};

use super::{
    element,
    set::FieldSet,
    shape::{ListShape, MapShape, Resolved, Shape},
};

/// Every leaf, map entry and list element that `object` mentions.
pub fn mentioned(object: &Value, shape: &Shape) -> FieldSet {
    walk(object, shape).1
}

/// Whether the value itself is a field, and the fields below it.
fn walk(value: &Value, shape: &Shape) -> (bool, FieldSet) {
    match (shape.resolve(), value) {
        (Resolved::Map { map, atomic: false }, Value::Object(entries)) => (false, map_fields(entries, Some(map))),
        (Resolved::Deduced, Value::Object(entries)) => (false, map_fields(entries, None)),
        (Resolved::List(list), Value::Array(items)) if !list.is_atomic() => (false, list_fields(items, list)),
        (Resolved::Map { atomic: false, .. } | Resolved::Deduced, Value::Null) => (false, FieldSet::default()),
        (Resolved::List(list), Value::Null) if !list.is_atomic() => (false, FieldSet::default()),
        _ => (true, FieldSet::default()),
    }
}

fn map_fields(entries: &Map<String, Value>, shape: Option<&MapShape>) -> FieldSet {
    let mut set = FieldSet::default();
    for (key, value) in entries {
        let (inner, declared) = shape.map_or((&Shape::Deduced, false), |map| map.child_or_opaque(key));
        let (own, below) = walk(value, inner);
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        set.add(element::field(key), own || empty || !declared, below);
    }
    set
}

fn list_fields(items: &[Value], shape: &ListShape) -> FieldSet {
    let mut set = FieldSet::default();
    for item in items {
        let Ok(step) = shape.step(item) else { continue };
        // an element that is there twice is one field
        if set.has_member(&step) {
            set.set_leaf(step);
            continue;
        }
        let below = walk(item, &shape.item).1;
        set.add(step, true, below);
    }
    set
}

/// Also the declared fields on the way to members: a struct's field counts as owned when something in it is.
pub fn with_named_fields(set: &FieldSet, shape: &Shape) -> FieldSet {
    let mut result = FieldSet::default();
    for (step, node) in set.iter() {
        let (inner, declared) = match (shape.resolve(), step.strip_prefix("f:")) {
            (Resolved::Map { map, .. }, Some(key)) => map.child_or_opaque(key),
            (Resolved::List(list), None) => (&list.item, false),
            _ => (&Shape::Deduced, false),
        };
        let named = declared && !node.below.is_empty();
        result.add(step.clone(), node.member || named, with_named_fields(&node.below, inner));
    }
    result
}

/// A set of fields as it is under a shape that changed since: what is one field now is owned as one.
pub fn reconciled(set: &FieldSet, shape: &Shape) -> FieldSet {
    let mut result = FieldSet::default();
    for (step, node) in set.iter() {
        let inner = match (shape.resolve(), step.strip_prefix("f:")) {
            (Resolved::Map { map, .. }, Some(key)) => map.child(key).map(|(inner, _)| inner),
            (Resolved::List(list), None) => Some(&list.item),
            _ => None,
        };
        let Some(inner) = inner else {
            result.add(step.clone(), node.member, node.below.clone());
            continue;
        };
        let one = match inner.resolve() {
            Resolved::Map { atomic, .. } => atomic,
            Resolved::List(list) => list.is_atomic(),
            _ => false,
        };
        if one && !node.below.is_empty() {
            result.add(step.clone(), true, FieldSet::default());
        } else {
            result.add(step.clone(), node.member, reconciled(&node.below, inner));
        }
    }
    result
}
