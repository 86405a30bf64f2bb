//! Defaulting, and nulls that mean "not set".

use serde_json::Value;

use super::Schema;

fn is_unset(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

/// Fills in defaults where fields are absent, or null without being nullable.
pub fn default(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in &schema.properties {
                let Some(default) = &inner.default else { continue };
                if map.get(key).is_none_or(|it| is_unset(it, inner)) {
                    map.insert(key.clone(), default.clone());
                }
            }
            for (key, inner) in map.iter_mut() {
                let Some(schema) = schema.properties.get(key).or_else(|| schema.values()) else { continue };
                fill(schema, inner);
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            items.iter_mut().for_each(|item| fill(schema, item));
        }
        _ => {}
    }
}

fn fill(schema: &Schema, value: &mut Value) {
    if let Some(default) = &schema.default
        && is_unset(value, schema)
    {
        *value = default.clone();
    }
    super::default(schema, value);
}

/// Removes fields that are null, may not be, and have no default.
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, inner| {
                let schema = schema.properties.get(key).or_else(|| schema.values());
                !schema.is_some_and(|s| is_unset(inner, s) && s.default.is_none())
            });
            for (key, inner) in map.iter_mut() {
                if let Some(schema) = schema.properties.get(key).or_else(|| schema.values()) {
                    drop_nulls(schema, inner);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            items.iter_mut().for_each(|item| drop_nulls(schema, item));
        }
        _ => {}
    }
}
