//! A hash of an object's JSON that never changes between builds: keys sorted, nulls dropped, SHA-256, written in the
//! alphabet Kubernetes uses for generated names (no vowels, no confusable digits).

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Ten characters that identify `value`; `collision` changes them, as a Deployment's collisionCount does.
pub fn short_hash(value: &impl Serialize, collision: Option<i32>) -> String {
    let json = serde_json::to_value(value).unwrap_or(Value::Null);
    let mut text = String::new();
    write_canonical(&json, &mut text);
    let mut hasher = Sha256::new();
    hasher.update(text.as_bytes());
    if let Some(collision) = collision {
        hasher.update(collision.to_be_bytes());
    }
    hasher.finalize().iter().take(10).map(|byte| ALPHABET[*byte as usize % ALPHABET.len()] as char).collect()
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (key, value) in entries {
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_and_nulls_do_not_matter_and_the_value_is_pinned() {
        let hash = short_hash(&json!({"b": 1, "a": [true, null], "c": null}), None);
        assert_eq!(hash, short_hash(&json!({"a": [true, null], "b": 1}), None));
        assert_ne!(hash, short_hash(&json!({"a": [true, null], "b": 1}), Some(1)));
        // Pinned: a new hash would restart every pod of every cluster on upgrade.
        assert_eq!(short_hash(&json!({"spec": {"containers": [{"image": "x"}]}}), None), "8vlpkfc2vm");
    }
}
