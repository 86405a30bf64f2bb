//! JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386) and strategic merge patch (apimachinery `pkg/util/strategicpatch`).

use serde_json::{Map, Value};

use crate::{
    schema::{self, Merge, Type},
    status::ApiError,
};

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatchError {
    /// The patch itself makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// The patch asks for too much.
    #[error("{0}")]
    TooLarge(String),
    /// The patch is well formed but cannot be applied to this object.
    #[error("{0}")]
    Rejected(String),
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(text) => ApiError::bad_request(text),
            // upstream does not say what is wrong either
            PatchError::Rejected(_) => {
                let mut error =
                    ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request");
                error.details_mut();
                error
            }
            PatchError::TooLarge(text) => {
                ApiError::new(413, "RequestEntityTooLarge", format!("Request entity too large: {text}"))
            }
        }
    }
}

/// Applies JSON Patch operations, all or none.
pub fn json_patch(object: &mut Value, operations: &Value) -> Result<(), PatchError> {
    /// As upstream: a patch is small or it is an attack.
    const MAX_OPERATIONS: usize = 10_000;
    /// Each copy may double the object: together they are held to what a request may bring.
    const MAX_COPIED: usize = 3 * 1024 * 1024;
    let patch: json_patch::Patch = serde_json::from_value(operations.clone())
        .map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))?;
    if patch.0.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            patch.0.len()
        )));
    }
    let mut result = object.clone();
    let mut copied = 0;
    for operation in &patch.0 {
        if let json_patch::PatchOperation::Copy(copy) = operation {
            copied += result.pointer(copy.from.as_str()).map_or(0, size);
            if copied > MAX_COPIED {
                return Err(PatchError::Rejected(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                )));
            }
        }
        json_patch::patch(&mut result, std::slice::from_ref(operation))
            .map_err(|e| PatchError::Rejected(e.to_string()))?;
    }
    *object = result;
    Ok(())
}

/// About what a value takes, in memory as in JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(key, item)| key.len() + 4 + size(item)).sum::<usize>() + 2,
        _ => 8,
    }
}

/// Applies a merge patch: objects merge, `null` removes, everything else replaces.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, change) in changes {
        if change.is_null() {
            map.remove(key);
        } else {
            merge_patch(map.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Applies a strategic merge patch to an object of `definition`. Directives act and are never stored.
pub fn strategic_merge(definition: &str, object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Object(changes) = patch else {
        return Err(PatchError::Malformed("a strategic merge patch must be an object".into()));
    };
    let merged = merge_map(Some(definition), take_map(object), changes)?;
    *object = Value::Object(merged);
    Ok(())
}

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

fn take_map(value: &mut Value) -> Map<String, Value> {
    match std::mem::take(value) {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(ORDER) || key.starts_with(DELETE_PRIMITIVES)
}

/// The type below a field; `definition` is `None` where the schema says nothing (maps of plain values, free JSON).
fn field_type(definition: Option<&str>, key: &str) -> Option<&'static Type> {
    definition.and_then(|d| schema::field(d, key))
}

fn object_of(kind: Option<&Type>) -> Option<&str> {
    match kind {
        Some(Type::Object(name)) => Some(name),
        _ => None,
    }
}

fn item_of(kind: Option<&Type>) -> Option<&str> {
    match kind {
        Some(Type::List(inner)) => object_of(Some(inner)),
        _ => None,
    }
}

fn merge_map(
    definition: Option<&str>,
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => return merge_map(definition, Map::new(), &without_patch(patch)),
        Some("delete") => return Ok(Map::new()),
        Some(other) => return Err(PatchError::Malformed(format!("unknown patch type found: {other}"))),
    }
    retain_keys(&mut original, patch)?;
    for (key, change) in patch.iter().filter(|(k, _)| !is_directive(k)) {
        if change.is_null() {
            original.remove(key);
            continue;
        }
        let kind = field_type(definition, key);
        let merged = match (change, original.remove(key)) {
            (Value::Object(changes), old) => {
                let old = if let Some(Value::Object(map)) = old { map } else { Map::new() };
                Value::Object(merge_map(object_of(kind), old, changes)?)
            }
            (Value::Array(changes), old) => {
                let old = if let Some(Value::Array(list)) = old { list } else { Vec::new() };
                let order = patch.get(&format!("{ORDER}{key}"));
                Value::Array(merge_list(definition, key, item_of(kind), old, changes, order)?)
            }
            (plain, _) => plain.clone(),
        };
        original.insert(key.clone(), merged);
    }
    delete_primitives(&mut original, patch)?;
    order_untouched(definition, &mut original, patch)?;
    Ok(original)
}

fn without_patch(patch: &Map<String, Value>) -> Map<String, Value> {
    patch.iter().filter(|(k, _)| *k != PATCH).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(directive) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let Some(keys) = directive.as_array() else {
        return Err(PatchError::Malformed("the value of $retainKeys must be a list".into()));
    };
    let retained = |key: &String| keys.iter().any(|k| k.as_str() == Some(key));
    if patch.iter().any(|(key, value)| !is_directive(key) && !value.is_null() && !retained(key)) {
        return Err(PatchError::Malformed("the $retainKeys directive must contain every key of the patch".into()));
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

fn delete_primitives(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    for (directive, values) in patch {
        let Some(key) = directive.strip_prefix(DELETE_PRIMITIVES) else { continue };
        let Some(values) = values.as_array() else {
            return Err(PatchError::Malformed(format!("the value of {directive} must be a list")));
        };
        if let Some(Value::Array(list)) = original.get_mut(key) {
            list.retain(|v| !values.contains(v));
        }
    }
    Ok(())
}

/// `$setElementOrder` for lists the patch does not otherwise change.
fn order_untouched(
    definition: Option<&str>,
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), PatchError> {
    for (directive, order) in patch {
        let Some(key) = directive.strip_prefix(ORDER) else { continue };
        let merge = definition.and_then(|d| schema::merge(d, key));
        if let (false, Some(merge), Some(Value::Array(list))) = (patch.contains_key(key), merge, original.get_mut(key))
        {
            let server = list.clone();
            *list = ordered(std::mem::take(list), &server, order_list(order)?, merge);
        }
    }
    Ok(())
}

fn order_list(order: &Value) -> Result<&[Value], PatchError> {
    order
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| PatchError::Malformed("the value of $setElementOrder must be a list".into()))
}

fn merge_list(
    definition: Option<&str>,
    key: &str,
    item: Option<&str>,
    original: Vec<Value>,
    changes: &[Value],
    order: Option<&Value>,
) -> Result<Vec<Value>, PatchError> {
    let Some(merge) = definition.and_then(|d| schema::merge(d, key)) else {
        return Ok(changes.iter().map(strip_directives).collect());
    };
    let server = original.clone();
    let merged = match merge {
        Merge::Set => merge_set(original, changes),
        Merge::Key(name) | Merge::KeyRetain(name) => merge_keyed(item, name, original, changes)?,
        Merge::Retain => changes.to_vec(),
    };
    match order {
        Some(order) => Ok(ordered(merged, &server, order_list(order)?, merge)),
        None => Ok(merged),
    }
}

fn merge_set(mut original: Vec<Value>, changes: &[Value]) -> Vec<Value> {
    for change in changes {
        if !original.contains(change) {
            original.push(change.clone());
        }
    }
    original
}

fn merge_keyed(
    item: Option<&str>,
    key: &str,
    mut original: Vec<Value>,
    changes: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let directive = |v: &Value| v.get(PATCH).and_then(Value::as_str).map(str::to_owned);
    if changes.iter().any(|c| directive(c).as_deref() == Some("replace")) {
        original.clear();
    }
    for change in changes {
        let Value::Object(map) = change else {
            return Err(PatchError::Malformed(format!(
                "expected an object with the merge key {key} in a list of objects"
            )));
        };
        let kind = directive(change);
        let Some(identity) = map.get(key) else {
            // `{"$patch": "replace"}` alone only empties the list
            if kind.as_deref() == Some("replace") && map.len() == 1 {
                continue;
            }
            return Err(PatchError::Malformed(format!("map: {change} does not contain declared merge key: {key}")));
        };
        if kind.as_deref() == Some("delete") {
            original.retain(|o| o.get(key) != Some(identity));
            continue;
        }
        match original.iter_mut().find(|o| o.get(key) == Some(identity)) {
            Some(old) => *old = Value::Object(merge_map(item, take_map(old), map)?),
            None => original.push(Value::Object(merge_map(item, Map::new(), map)?)),
        }
    }
    Ok(original)
}

/// Elements named by `order` in that order; the others, which only the server has, stay in front of what they preceded.
fn ordered(merged: Vec<Value>, server: &[Value], order: &[Value], merge: Merge) -> Vec<Value> {
    let identity = |v: &Value| match merge {
        Merge::Key(key) | Merge::KeyRetain(key) => v.get(key).cloned().unwrap_or(Value::Null),
        Merge::Set | Merge::Retain => v.clone(),
    };
    let wanted: Vec<Value> = order.iter().map(identity).collect();
    let before: Vec<Value> = server.iter().map(identity).collect();
    let place = |v: &Value| before.iter().position(|b| *b == identity(v));
    let rank = |v: &Value| wanted.iter().position(|w| *w == identity(v));
    let (mut listed, own): (Vec<Value>, Vec<Value>) = merged.into_iter().partition(|v| rank(v).is_some());
    listed.sort_by_key(|v| rank(v));
    let mut own = own.into_iter().peekable();
    let mut result = Vec::new();
    for item in listed {
        if let Some(at) = place(&item) {
            while let Some(other) = own.next_if(|o| place(o).is_some_and(|p| p < at)) {
                result.push(other);
            }
        }
        result.push(item);
    }
    result.extend(own);
    result
}

/// What is stored of a replaced value: without directives, at any depth.
fn strip_directives(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            map.iter().filter(|(k, _)| !is_directive(k)).map(|(k, v)| (k.clone(), strip_directives(v))).collect()
        }
        Value::Array(list) => list.iter().map(strip_directives).collect(),
        plain => plain.clone(),
    }
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
