//! How an object lies in the store, and how it is served from there without being parsed.
//!
//! A stored value is the object's JSON without `apiVersion`, `kind` and `metadata.resourceVersion` (which the row, the table and the
//! store's revision say), with `metadata` first: it begins `{"metadata":{`. So serving splices a short head before the bytes.

use std::io::Write;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::numbers::GoNumbers;

/// Every stored value begins so.
const HEAD: &[u8] = b"{\"metadata\":{";

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the stored object cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the stored object does not begin with its metadata")]
    Head,
}

/// The stored form of `object`.
pub fn encode_stored(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    out.extend_from_slice(b"{\"metadata\":");
    write_map(&mut out, metadata, &["resourceVersion"], b"{", b"}");
    write_rest(&mut out, fields);
    out.push(b'}');
    // it may lie in memory for long: without the room that was left for writing
    out.into_boxed_slice().into()
}

fn write_rest(out: &mut Vec<u8>, fields: &Map<String, Value>) {
    for (key, value) in fields.iter().filter(|(k, _)| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata")) {
        out.push(b',');
        write_field(out, key, value);
    }
}

fn write_map(out: &mut Vec<u8>, map: &Map<String, Value>, skip: &[&str], open: &[u8], close: &[u8]) {
    out.extend_from_slice(open);
    let mut first = true;
    for (key, value) in map.iter().filter(|(k, _)| !skip.contains(&k.as_str())) {
        if !first {
            out.push(b',');
        }
        first = false;
        write_field(out, key, value);
    }
    out.extend_from_slice(close);
}

fn write_field(out: &mut Vec<u8>, key: &str, value: &Value) {
    write_json(out, &key);
    out.push(b':');
    write_json(out, value);
}

/// Writing a `Value` or a string into memory cannot fail.
fn write_json<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(out, GoNumbers));
    debug_assert!(written.is_ok());
}

/// A stored value with a note behind it, on a line of its own: JSON as it is written here holds no line ends. Custom resources
/// note the version and schema they were written with.
pub fn with_note(stored: &[u8], note: &str) -> Bytes {
    [stored, b"\n", note.as_bytes()].concat().into()
}

/// The stored value without its note, and the note.
pub fn split_note(stored: &Bytes) -> (Bytes, &str) {
    match stored.iter().rposition(|b| *b == b'\n') {
        Some(at) => (stored.slice(..at), std::str::from_utf8(&stored[at + 1..]).unwrap_or_default()),
        None => (stored.clone(), ""),
    }
}

/// Appends the whole object, with kind, apiVersion and resourceVersion.
pub fn write_object(out: &mut Vec<u8>, api_version: &str, kind: &str, revision: u64, stored: &[u8]) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"apiVersion\":\"");
    out.extend_from_slice(api_version.as_bytes());
    out.extend_from_slice(b"\",");
    write_tail(out, revision, stored);
}

/// Appends the object as an item of a typed list: upstream omits kind and apiVersion there.
pub fn write_list_item(out: &mut Vec<u8>, revision: u64, stored: &[u8]) {
    out.push(b'{');
    write_tail(out, revision, stored);
}

fn write_tail(out: &mut Vec<u8>, revision: u64, stored: &[u8]) {
    debug_assert!(stored.starts_with(HEAD));
    let rest = stored.get(HEAD.len()..).unwrap_or_default();
    out.extend_from_slice(b"\"metadata\":{\"resourceVersion\":\"");
    let written = write!(out, "{revision}");
    debug_assert!(written.is_ok());
    out.push(b'"');
    if rest.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(rest);
}

/// The object as a value, complete.
pub fn decode_stored(stored: &[u8], api_version: &str, kind: &str, revision: u64) -> Result<Value, DecodeError> {
    if !stored.starts_with(HEAD) {
        return Err(DecodeError::Head);
    }
    let mut object: Value = serde_json::from_slice(stored)?;
    object["kind"] = kind.into();
    object["apiVersion"] = api_version.into();
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    Ok(object)
}

/// Appends the head of a list up to the opening bracket of `items`; close it with [`write_list_end`].
pub fn write_list_start(
    out: &mut Vec<u8>,
    api_version: &str,
    list_kind: &str,
    revision: u64,
    continue_token: Option<&str>,
    remaining: Option<usize>,
) {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), revision.to_string().into());
    if let Some(token) = continue_token.filter(|t| !t.is_empty()) {
        metadata.insert("continue".into(), token.into());
    }
    if let Some(count) = remaining.filter(|n| *n > 0) {
        metadata.insert("remainingItemCount".into(), count.into());
    }
    let written = write!(
        out,
        "{{\"kind\":\"{list_kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{},\"items\":[",
        Value::Object(metadata)
    );
    debug_assert!(written.is_ok());
}

pub fn write_list_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stored_comes_back() {
        for metadata in [json!({}), json!({"name": "a", "labels": {"x": "ü\""}})] {
            let object =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"a": [1, "b", null]}});
            let stored = encode_stored(&object);
            assert!(stored.starts_with(HEAD));
            let mut wanted = object.clone();
            wanted["metadata"]["resourceVersion"] = "7".into();
            assert_eq!(decode_stored(&stored, "v1", "Pod", 7).unwrap(), wanted);
            let mut out = Vec::new();
            write_object(&mut out, "v1", "Pod", 7, &stored);
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), wanted);
        }
    }

    #[test]
    fn old_revision_is_not_stored() {
        let stored = encode_stored(&json!({"metadata": {"resourceVersion": "3"}}));
        assert_eq!(&stored[..], b"{\"metadata\":{}}");
    }

    #[test]
    fn lists_are_json() {
        let mut out = Vec::new();
        write_list_start(&mut out, "v1", "PodList", 9, Some("abc"), Some(3));
        write_list_item(&mut out, 4, b"{\"metadata\":{\"name\":\"a\"}}");
        write_list_end(&mut out);
        let list: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(list["metadata"]["remainingItemCount"], 3);
        assert_eq!(list["items"][0], json!({"metadata": {"resourceVersion": "4", "name": "a"}}));
    }
}
