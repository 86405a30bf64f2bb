//! Small helpers to read and fill `serde_json::Value` objects by dotted paths.

use serde_json::{Map, Value};

/// The value at a dotted path (`spec.template.spec`), if every step exists.
pub fn get<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |v, step| v.get(step))
}

/// The string at a path, or "".
pub fn str_at<'a>(value: &'a Value, path: &str) -> &'a str {
    get(value, path).and_then(Value::as_str).unwrap_or_default()
}

pub fn int_at(value: &Value, path: &str) -> Option<i64> {
    get(value, path).and_then(Value::as_i64)
}

pub fn bool_at(value: &Value, path: &str) -> bool {
    get(value, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The list at a path, or an empty one.
pub fn list_at<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    get(value, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn map_at<'a>(value: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    get(value, path).and_then(Value::as_object)
}

/// The object under `key`, made if it is absent or null.
pub fn object_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let map = value.as_object_mut()?;
    let slot = map.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    Some(slot)
}

/// Sets `key` where it is absent, null or an empty string: what "unset" means to a Go struct.
pub fn default_to(value: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(map) = value.as_object_mut() {
        let slot = map.entry(key).or_insert(Value::Null);
        if slot.is_null() || slot.as_str() == Some("") {
            *slot = default.into();
        }
    }
}

/// Sets what is absent. An empty text that a client wrote stays: where upstream has a pointer, it is a value.
pub fn default_absent(value: &mut Value, key: &str, default: impl Into<Value>) {
    if value.get(key).is_none_or(Value::is_null) {
        default_to(value, key, default);
    }
}

/// Every element of the list under `key`.
pub fn each_mut(value: &mut Value, key: &str, mut f: impl FnMut(&mut Value)) {
    if let Some(list) = value.get_mut(key).and_then(Value::as_array_mut) {
        list.iter_mut().for_each(&mut f);
    }
}

/// Runs `f` on the value under `key` if it is there and not null.
pub fn with_mut(value: &mut Value, key: &str, f: impl FnOnce(&mut Value)) {
    if let Some(inner) = value.get_mut(key).filter(|v| !v.is_null()) {
        f(inner);
    }
}

/// The value reached by a mutable dotted path.
pub fn get_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |v, step| v.get_mut(step))
}

/// Puts `new` at a dotted path; what lies on the way becomes an object if it is none.
pub fn set(value: &mut Value, path: &str, new: Value) {
    let place = path.split('.').fold(value, |place, step| {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        &mut place[step]
    });
    *place = new;
}

pub fn name(object: &Value) -> &str {
    str_at(object, "metadata.name")
}

pub fn namespace(object: &Value) -> &str {
    str_at(object, "metadata.namespace")
}

pub fn remove(value: &mut Value, key: &str) -> Option<Value> {
    value.as_object_mut().and_then(|m| m.remove(key))
}

/// A value as Go prints its dynamically typed ones (`map[a:1 b:[x y]]`).
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        plain => plain.to_string(),
    }
}
