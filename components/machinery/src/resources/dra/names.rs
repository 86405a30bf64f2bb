//! What names in resource.k8s.io look like (kubernetes `pkg/apis/resource/validation`), and lists that are sets.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::storage::driver_name,
};

const POOL_NAME_MAX: usize = 253;
const ID_MAX: usize = 32;
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
    alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
    '[A-Za-z_][A-Za-z0-9_]*')";

/// A list of at most `max` items that are all good; a longer one is not even looked at.
pub(super) fn each(
    list: &[Value],
    max: usize,
    path: &Path,
    item: impl Fn(&Value, &Path) -> Vec<FieldError>,
) -> Vec<FieldError> {
    if list.len() > max {
        return vec![FieldError::too_many(path, list.len(), max)];
    }
    list.iter().enumerate().flat_map(|(i, it)| item(it, &path.index(i))).collect()
}

/// As `each`, and no two items have the same key.
pub(super) fn set(
    list: &[Value],
    max: usize,
    path: &Path,
    item: impl Fn(&Value, &Path) -> Vec<FieldError>,
    key: impl Fn(&Value) -> &str,
) -> Vec<FieldError> {
    let mut errors = each(list, max, path, item);
    if list.len() <= max {
        let repeated = list.iter().enumerate().filter(|(i, it)| list[..*i].iter().any(|other| key(other) == key(it)));
        errors.extend(repeated.map(|(i, it)| FieldError::duplicate(&path.index(i), key(it))));
    }
    errors
}

/// A text that is its own key.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn label(name: &str, path: &Path) -> Vec<FieldError> {
    FieldError::each_invalid(path, name, names::dns1123_label(name))
}

/// Subdomains with slashes between them.
pub(super) fn pool(name: &str, path: &Path) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > POOL_NAME_MAX {
        errors.push(FieldError::too_long(path, POOL_NAME_MAX));
    }
    errors
        .extend(name.split('/').flat_map(|part| FieldError::each_invalid(path, part, names::dns1123_subdomain(part))));
    errors
}

fn identifier(id: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if id.len() > ID_MAX {
        errors.push(FieldError::too_long(path, ID_MAX));
    }
    let mut bytes = id.bytes();
    let begins = bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
    if !begins || !bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        errors.push(FieldError::invalid(path, id, C_IDENTIFIER));
    }
    errors
}

/// The name of an attribute or capacity: an identifier, perhaps with a domain before it.
pub(super) fn qualified(name: &str, path: &Path) -> Vec<FieldError> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(id, path),
        [domain, id] => {
            let mut errors = match domain {
                "" => vec![FieldError::invalid(path, "", "the domain must not be empty")],
                _ => driver_name(domain, path),
            };
            match id {
                "" => errors.push(FieldError::invalid(path, "", "the name must not be empty")),
                _ => errors.extend(identifier(id, path)),
            }
            errors
        }
        _ => vec![FieldError::invalid(path, name, "must not contain more than one slash")],
    }
}

/// As `qualified`, where the domain must be there.
pub(super) fn fully_qualified(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = qualified(name, path);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(FieldError::invalid(path, name, detail));
    }
    errors
}

/// A UUID in its plain form.
pub(super) fn uid(uid: &str, path: &Path) -> Option<FieldError> {
    const DETAIL: &str = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
        hexadecimal characters";
    let plain = uid.strip_prefix("urn:uuid:").unwrap_or(uid);
    let inner = plain.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(plain);
    let dashes = |text: &str| text.bytes().enumerate().all(|(i, c)| (c == b'-') == matches!(i, 8 | 13 | 18 | 23));
    let digits = inner.bytes().all(|c| c == b'-' || c.is_ascii_hexdigit());
    let known = match inner.len() {
        36 => digits && dashes(inner),
        32 => digits && !inner.contains('-') && inner == uid,
        length => {
            let detail = format!("error validating uid: invalid UUID length: {}", uid.len().max(length));
            return Some(FieldError::invalid(path, uid, detail));
        }
    };
    if !known {
        return Some(FieldError::invalid(path, uid, "error validating uid: invalid UUID format"));
    }
    let normal = uid.len() == 36 && !uid.bytes().any(|c| c.is_ascii_uppercase());
    (!normal).then(|| FieldError::invalid(path, uid, DETAIL))
}

/// A key of a map as paths show it: what is too long loses its middle.
pub(super) fn shortened(key: &str, max: usize) -> String {
    if key.len() <= max || !key.is_ascii() {
        return key.to_owned();
    }
    let rest = max - 3;
    format!("{}...{}", &key[..rest.div_ceil(2)], &key[key.len() - rest / 2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attributes() {
        let at = Path::new("x");
        let details = |errors: Vec<FieldError>| errors.into_iter().map(|e| e.detail).collect::<Vec<_>>();
        assert!(qualified("model_1", &at).is_empty() && fully_qualified("d.io/model", &at).is_empty());
        assert_eq!(details(qualified("a-b", &at)), [C_IDENTIFIER]);
        assert_eq!(details(qualified("/a", &at)), ["the domain must not be empty"]);
        assert_eq!(details(qualified("a/b/c", &at)), ["must not contain more than one slash"]);
        assert_eq!(
            details(fully_qualified("model", &at)),
            ["a fully qualified name must be a domain and a name separated by a slash"]
        );
        assert_eq!(details(qualified(&"a".repeat(33), &at)), ["may not be more than 32 bytes"]);
    }

    #[test]
    fn uids_are_plain() {
        let detail = |text: &str| uid(text, &Path::new("x")).map(|e| e.detail);
        assert_eq!(detail("11111111-2222-3333-4444-555555555555"), None);
        assert_eq!(detail("x").as_deref(), Some("error validating uid: invalid UUID length: 1"));
        assert_eq!(
            detail("1111111g-2222-3333-4444-555555555555").as_deref(),
            Some("error validating uid: invalid UUID format")
        );
        assert!(
            detail("A1111111-2222-3333-4444-555555555555").is_some_and(|d| d.starts_with("uid must be in RFC 4122"))
        );
    }

    #[test]
    fn long_keys_lose_their_middle() {
        assert_eq!(shortened("short", 16), "short");
        assert_eq!(shortened("abcdefghijklmnopqrstuvwxyz", 16), "abcdefg...uvwxyz");
    }
}
