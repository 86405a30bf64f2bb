//! One step of a field's path, in the form that `fieldsV1` writes it: `f:name`, `k:{"name":"x"}`, `v:"x"` or `i:0`.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::shape::Key;

/// The field `name` of a map or struct.
pub fn field(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push_str("f:");
    text.push_str(name);
    text
}

/// The element of a set.
pub fn value(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::Object(_) => Err("associative list without keys has an element that's a map type"),
        Value::Array(_) => Err("not supported: associative list with lists as elements"),
        Value::Null => Err("associative list without keys has an element that's an explicit null"),
        plain => Ok(format!("v:{plain}")),
    }
}

/// The element of a list of objects that its keys tell apart.
pub fn keyed(keys: &[Key], item: &Value) -> Result<String, String> {
    let map = match item {
        Value::Object(map) => map,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut text = String::from("k:{");
    for (index, key) in keys.iter().enumerate() {
        let Some(value) = map.get(&key.name).or(key.default.as_ref()) else {
            return Err(format!(
                "associative list with keys has an element that omits key field {:?} (and doesn't have default value)",
                key.name
            ));
        };
        if index > 0 {
            text.push(',');
        }
        // writing to a text cannot fail
        let _ = write!(text, "{:?}:{value}", key.name);
    }
    text.push('}');
    Ok(text)
}

/// The canonical form of what a client wrote; `None` for kinds of steps that nobody knows, which are ignored.
pub fn parse(text: &str) -> Result<Option<String>, String> {
    let bad = |what: &dyn std::fmt::Display| format!("parsing key as path element: {text:?}: {what}");
    match text.as_bytes().get(..2) {
        Some(b"f:") => Ok(Some(text.to_owned())),
        Some(b"v:") => {
            let value: Value = serde_json::from_str(&text[2..]).map_err(|e| bad(&e))?;
            Ok(Some(format!("v:{value}")))
        }
        // a map of ours writes its keys in order
        Some(b"k:") => {
            let keys: Map<String, Value> = serde_json::from_str(&text[2..]).map_err(|e| bad(&e))?;
            Ok(Some(format!("k:{}", Value::Object(keys))))
        }
        Some(b"i:") => {
            let index: i64 = text[2..].parse().map_err(|e| bad(&e))?;
            Ok(Some(format!("i:{index}")))
        }
        Some([_, b':']) => Ok(None),
        _ => Err(bad(&"missing colon")),
    }
}

/// As conflicts and errors name it: `.name`, `[name="x"]`, `[="x"]`, `[0]`.
pub fn display(element: &str) -> String {
    let (kind, rest) = element.split_at(element.len().min(2));
    match kind {
        "f:" => format!(".{rest}"),
        "v:" => format!("[={rest}]"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let parts: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", parts.join(","))
        }
        _ => format!("[{rest}]"),
    }
}
