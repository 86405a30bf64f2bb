//! ConfigMaps and Secrets.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    schema::json_name,
    value::{bool_at, default_to, map_at, object_mut, remove, str_at},
};

const SIZE_MAX: usize = 1024 * 1024;
const SSH_KEY: &str = "ssh-privatekey";
const FROZEN: &str = "field is immutable when `immutable` is set";

fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    map_at(object, field).into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

/// How many bytes a base64 text stands for.
fn decoded_len(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

fn key_problems(field: &str, key: &str) -> Vec<FieldError> {
    FieldError::each_invalid(&Path::new(field).key(key), key, names::config_key(key))
}

pub(in crate::resources) fn config_map(map: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let bytes = map_at(map, "binaryData");
    for (key, _) in entries(map, "data") {
        errors.extend(key_problems("data", key));
        if bytes.is_some_and(|b| b.contains_key(key)) {
            let detail = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(&Path::new("data").key(key), key.as_str(), detail));
        }
    }
    errors.extend(entries(map, "binaryData").flat_map(|(key, _)| key_problems("binaryData", key)));
    let size: usize = entries(map, "data").map(|(_, v)| v.len()).sum::<usize>()
        + entries(map, "binaryData").map(|(_, v)| decoded_len(v)).sum::<usize>();
    if size > SIZE_MAX {
        // upstream's path has one part without a name, which is shown so
        errors.push(FieldError::too_long(&Path::new("[]"), SIZE_MAX));
    }
    errors
}

/// What `immutable: true` forbids.
fn frozen(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    if !bool_at(old, "immutable") {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if !bool_at(new, "immutable") {
        errors.push(FieldError::forbidden(&Path::new("immutable"), FROZEN));
    }
    let content = |object: &Value, field: &str| map_at(object, field).cloned().unwrap_or_else(Map::new);
    for field in fields {
        if content(new, field) != content(old, field) {
            errors.push(FieldError::forbidden(&Path::new(field), FROZEN));
        }
    }
    errors
}

pub(in crate::resources) fn config_map_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = frozen(new, old, &["data", "binaryData"]);
    errors.extend(config_map(new));
    errors
}

/// Folds `stringData` into `data`; it is never stored.
pub(in crate::resources) fn secret_defaults(secret: &mut Value) {
    default_to(secret, "type", "Opaque");
    let Some(Value::Object(texts)) = remove(secret, "stringData") else { return };
    let Some(data) = object_mut(secret, "data").and_then(Value::as_object_mut) else { return };
    for (key, text) in texts {
        data.insert(key, STANDARD.encode(text.as_str().unwrap_or_default()).into());
    }
}

pub(in crate::resources) fn secret(secret: &Value) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = entries(secret, "data").flat_map(|(key, _)| key_problems("data", key)).collect();
    if entries(secret, "data").map(|(_, v)| decoded_len(v)).sum::<usize>() > SIZE_MAX {
        errors.push(FieldError::too_long(&Path::new("data"), SIZE_MAX));
    }
    let data = Path::new("data");
    let has = |key: &str| map_at(secret, "data").is_some_and(|d| d.contains_key(key));
    let mut need = |key: &str| {
        if !has(key) {
            errors.push(FieldError::required(&data.key(key), ""));
        }
    };
    match str_at(secret, "type") {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(&mut need),
        "kubernetes.io/dockerconfigjson" => errors.extend(registries(secret, ".dockerconfigjson", &data)),
        "kubernetes.io/dockercfg" => errors.extend(registries(secret, ".dockercfg", &data)),
        "kubernetes.io/ssh-auth" if entries(secret, "data").all(|(key, v)| key != SSH_KEY || v.is_empty()) => {
            errors.push(FieldError::required(&data.key(SSH_KEY), ""));
        }
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            ["username", "password"].into_iter().for_each(&mut need)
        }
        "kubernetes.io/service-account-token" => errors.extend(account_name(secret)),
        _ => {}
    }
    errors
}

/// Credentials of registries are an object in JSON. Nothing of them is shown.
fn registries(secret: &Value, key: &str, path: &Path) -> Option<FieldError> {
    let Some((_, encoded)) = entries(secret, "data").find(|(k, _)| *k == key) else {
        return Some(FieldError::required(&path.key(key), ""));
    };
    let text = STANDARD.decode(encoded).unwrap_or_default();
    let detail = match serde_json::from_slice::<Value>(&text) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(other) => {
            format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", json_name(&other))
        }
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(error) => bad_character(&text, error.column()),
    };
    Some(FieldError::invalid(&path.key(key), "<secret contents redacted>", detail))
}

/// Go names the character; where in the text it stands is told only for the first.
fn bad_character(text: &[u8], column: usize) -> String {
    let first = text.iter().find(|c| !c.is_ascii_whitespace());
    match first {
        Some(c) if !b"{[\"-0123456789tfn".contains(c) => {
            format!("invalid character '{}' looking for beginning of value", char::from(*c))
        }
        _ => {
            let c = text.get(column.saturating_sub(1)).map_or(' ', |c| char::from(*c));
            format!("invalid character '{c}' looking for beginning of object key string")
        }
    }
}

fn account_name(secret: &Value) -> Option<FieldError> {
    const KEY: &str = "kubernetes.io/service-account.name";
    let named = map_at(secret, "metadata.annotations")
        .and_then(|a| a.get(KEY))
        .and_then(Value::as_str)
        .is_some_and(|n| !n.is_empty());
    (!named).then(|| FieldError::required(&Path::new("metadata").child("annotations").key(KEY), ""))
}

pub(in crate::resources) fn secret_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::immutable(new, old, &["type"]);
    errors.extend(frozen(new, old, &["data"]));
    errors.extend(secret(new));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn string_data_becomes_data() {
        let mut s = json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "hi"}});
        secret_defaults(&mut s);
        assert_eq!(s, json!({"type": "Opaque", "data": {"a": "aGk=", "b": "eQ=="}}));
    }

    #[test]
    fn immutable_means_it() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        assert!(
            config_map_update(
                &json!({"immutable": true, "data": {"a": "1"}, "metadata": {"labels": {"x": "y"}}}),
                &old
            )
            .is_empty()
        );
        let texts: Vec<String> =
            config_map_update(&json!({"data": {"a": "2"}}), &old).iter().map(FieldError::to_string).collect();
        assert_eq!(
            texts,
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
    }

    #[test]
    fn each_fault_has_upstreams_words() {
        let texts = |errors: Vec<FieldError>| errors.iter().map(FieldError::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts(config_map(&json!({"data": {"a": "x".repeat(SIZE_MAX + 1)}, "binaryData": {"a": ""}}))),
            [
                "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
                "[]: Too long: may not be more than 1048576 bytes",
            ]
        );
        let docker = |text: &str| {
            let data = json!({".dockerconfigjson": STANDARD.encode(text)});
            texts(secret(&json!({"type": "kubernetes.io/dockerconfigjson", "data": data})))
        };
        assert_eq!(docker("{}"), [""; 0]);
        for (text, why) in [
            ("", "unexpected end of JSON input"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ] {
            let wanted = format!("data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": {why}");
            assert_eq!(docker(text), [wanted]);
        }
        assert_eq!(
            texts(secret(&json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}}))),
            ["data[ssh-privatekey]: Required value"]
        );
    }

    #[test]
    fn keys_and_types() {
        assert_eq!(config_map(&json!({"data": {"": "x"}})).len(), 1);
        assert_eq!(config_map(&json!({"data": {"a": "x"}, "binaryData": {"a": ""}})).len(), 1);
        assert_eq!(secret(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}})).len(), 1);
        assert_eq!(config_map(&json!({"data": {"a": "x".repeat(SIZE_MAX + 1)}})).len(), 1);
    }
}
