//! Pruning: fields that no schema names are dropped, and told.

use serde_json::Value;

use super::{Additional, Schema};

/// Fields of an object that is a resource of its own, which no schema has to name.
const META: &[&str] = &["apiVersion", "kind", "metadata"];

/// Drops what the schema of a whole object does not know; the paths of what was dropped (`spec.list[0].x`).
pub fn prune(schema: &Schema, object: &mut Value, is_root: bool) -> Vec<String> {
    let mut pruner = Pruner { path: Vec::new(), dropped: Vec::new() };
    pruner.node(Some(schema), object, is_root || schema.embedded, schema.preserve_unknown);
    pruner.dropped
}

struct Pruner {
    path: Vec<String>,
    dropped: Vec<String>,
}

impl Pruner {
    /// `keep`: fields without a schema stay, but what lies in fields with one is pruned by that.
    fn node(&mut self, schema: Option<&Schema>, value: &mut Value, embedded: bool, keep: bool) {
        match value {
            Value::Object(map) => {
                let mut strangers = Vec::new();
                for (key, inner) in map.iter_mut() {
                    if embedded && META.contains(&key.as_str()) {
                        continue;
                    }
                    let known = schema.and_then(|s| s.properties.get(key));
                    let additional = schema.and_then(|s| s.additional.as_ref());
                    match (known, additional) {
                        (Some(known), _) => self.step(format!(".{key}"), known, inner),
                        (None, Some(Additional::Schema(values))) => self.step(format!(".{key}"), values, inner),
                        (None, Some(Additional::Any(_))) if keep => {}
                        (None, Some(Additional::Any(_))) => self.unknown_below(format!(".{key}"), inner),
                        (None, None) if keep => {}
                        (None, None) => strangers.push(key.clone()),
                    }
                }
                for key in strangers {
                    map.remove(&key);
                    let path = format!("{}.{key}", self.path.concat());
                    self.dropped.push(path.trim_start_matches('.').to_owned());
                }
            }
            Value::Array(items) => {
                let inner = schema.and_then(|s| s.items.as_deref());
                for (index, item) in items.iter_mut().enumerate() {
                    match inner {
                        // below a kept list its items are kept, too
                        Some(inner) => {
                            self.path.push(format!("[{index}]"));
                            self.node(Some(inner), item, inner.embedded, keep || inner.preserve_unknown);
                            self.path.pop();
                        }
                        None if keep => {}
                        None => self.unknown_below(format!("[{index}]"), item),
                    }
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, step: String, schema: &Schema, value: &mut Value) {
        self.path.push(step);
        self.node(Some(schema), value, schema.embedded, schema.preserve_unknown);
        self.path.pop();
    }

    fn unknown_below(&mut self, step: String, value: &mut Value) {
        self.path.push(step);
        self.node(None, value, false, false);
        self.path.pop();
    }
}
