//! Lists that are sets or maps: no item, or no key, twice.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Schema;
use crate::field::{FieldError, Path};

/// Checks every list of `value` whose schema says `x-kubernetes-list-type` `set` or `map`.
pub fn unique(schema: &Schema, value: &Value, path: &Path) -> Vec<FieldError> {
    match value {
        Value::Object(map) => map
            .iter()
            .filter_map(|(key, inner)| match schema.properties.get(key) {
                Some(known) => Some(unique(known, inner, &path.child(key))),
                None => schema.values().map(|values| unique(values, inner, &path.key(key))),
            })
            .flatten()
            .collect(),
        Value::Array(items) => {
            let mut errors = match schema.list_type.as_deref() {
                Some("set") => {
                    repeated(items).map(|i| FieldError::duplicate(&path.index(i), items[i].clone())).collect()
                }
                Some("map") => map_keys(schema, items, path),
                _ => Vec::new(),
            };
            if let Some(inner) = &schema.items {
                errors.extend(items.iter().enumerate().flat_map(|(i, item)| unique(inner, item, &path.index(i))));
            }
            errors
        }
        _ => Vec::new(),
    }
}

/// The index of the first repetition of each value that is there more than once.
fn repeated(values: &[Value]) -> impl Iterator<Item = usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            found.push(index);
        }
    }
    found.into_iter()
}

fn map_keys(schema: &Schema, items: &[Value], path: &Path) -> Vec<FieldError> {
    if let Some((i, item)) = items.iter().enumerate().find(|(_, item)| !item.is_object() && !item.is_null()) {
        let detail = "must be an object for an array of list-type map";
        return vec![FieldError::invalid(&path.index(i), item.clone(), detail)];
    }
    let keys: Vec<Value> = items.iter().map(|item| Value::Object(key_of(schema, item))).collect();
    repeated(&keys).map(|i| FieldError::duplicate(&path.index(i), keys[i].clone())).collect()
}

/// The key fields an item of a map list has.
pub(super) fn key_of(schema: &Schema, item: &Value) -> Map<String, Value> {
    let fields = schema.list_map_keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    fields.collect()
}
