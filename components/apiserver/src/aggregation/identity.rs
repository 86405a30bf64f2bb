//! Telling an extension server who asks (client-go `transport.SetAuthProxyHeaders`).

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{backend, identity::Identity};

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// Replaces whatever the client said of itself; an error if it cannot be said in headers.
pub fn introduce(headers: &mut HeaderMap, who: &Identity) -> Result<(), http::Error> {
    backend::strip_identity(headers);
    headers.insert(USER, HeaderValue::from_bytes(who.user.as_bytes())?);
    if !who.uid.is_empty() {
        headers.insert(UID, HeaderValue::from_bytes(who.uid.as_bytes())?);
    }
    for group in &who.groups {
        headers.append(GROUP, HeaderValue::from_bytes(group.as_bytes())?);
    }
    for (key, values) in &who.extra {
        let name = HeaderName::from_bytes(format!("{EXTRA}{}", escaped(key)).as_bytes())?;
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes())?);
        }
    }
    Ok(())
}

/// Keys may have characters that names of headers may not.
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                text.push(byte.into());
            }
            _ if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            // writing into a string does not fail
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_client_said_is_replaced() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-remote-user", "root"), ("x-remote-extra-a", "b"), ("impersonate-user", "x")] {
            headers.insert(name, value.parse().unwrap());
        }
        headers.append("x-remote-group", "system:masters".parse().unwrap());
        headers.insert("authorization", "Bearer x".parse().unwrap());
        headers.insert("accept", "application/json".parse().unwrap());
        let mut who = Identity::new("jürgen", ["dev"]);
        who.extra.insert("example.org/scopes".into(), vec!["a".into(), "b".into()]);
        introduce(&mut headers, &who).unwrap();
        assert_eq!(headers["x-remote-user"].as_bytes(), "jürgen".as_bytes());
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-example.org%2fscopes"), ["a", "b"]);
        assert_eq!(headers["accept"], "application/json");
        for name in ["authorization", "impersonate-user", "x-remote-extra-a", "x-remote-uid"] {
            assert!(!headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_name_that_breaks_out_of_its_header_is_an_error() {
        assert!(introduce(&mut HeaderMap::new(), &Identity::new("a\r\nx-remote-group: b", ["dev"])).is_err());
    }
}
