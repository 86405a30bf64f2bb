//! What names, labels and keys may look like (apimachinery `pkg/util/validation`), and generated names.
//!
//! Each check returns the problems it found, in upstream's words; none means valid.

use rand::Rng;

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;

pub const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1123_SUBDOMAIN_UNDERSCORE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

type Problems = Vec<String>;

fn max_length(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_dns_label(text: &str) -> bool {
    let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-')
}

fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

pub fn dns1123_label(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > LABEL_MAX {
        problems.push(max_length(LABEL_MAX));
    }
    if !is_dns_label(text) {
        let dotted = text.split('.').all(is_dns_label);
        problems.push(if dotted { "must not contain dots" } else { DNS1123_LABEL }.into());
    }
    problems
}

pub fn dns1123_subdomain(text: &str) -> Problems {
    subdomain(text, is_dns_label, DNS1123_SUBDOMAIN)
}

fn subdomain(text: &str, is_label: impl Fn(&str) -> bool, rule: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > SUBDOMAIN_MAX {
        problems.push(max_length(SUBDOMAIN_MAX));
    }
    if !text.split('.').all(is_label) {
        problems.push(rule.into());
    }
    problems
}

/// A subdomain whose labels may have underscores, and begin with one: what resolvers are given to search.
pub fn dns1123_subdomain_underscore(text: &str) -> Problems {
    let is_label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(rest.chars().next())
            && edge(rest.chars().last())
            && rest.chars().all(|c| c == '-' || c == '_' || edge(Some(c)))
    };
    subdomain(text, is_label, DNS1123_SUBDOMAIN_UNDERSCORE)
}

/// Names of HTTP headers, as probes send them.
pub fn http_header(text: &str) -> Problems {
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Problems::new();
    }
    vec!["a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".into()]
}

/// A subdomain that may begin with `*.`, for ingress hosts.
pub fn wildcard_dns1123_subdomain(text: &str) -> Problems {
    match text.strip_prefix("*.") {
        Some(rest) if dns1123_subdomain(rest).is_empty() => Problems::new(),
        _ => vec!["a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into()],
    }
}

pub fn dns1035_label(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > LABEL_MAX {
        problems.push(max_length(LABEL_MAX));
    }
    if !is_dns_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        problems.push(DNS1035_LABEL.into());
    }
    problems
}

/// Names that only have to fit into a URL: RBAC objects.
pub fn path_segment(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text == "." || text == ".." {
        problems.push(format!("may not be '{text}'"));
    }
    for illegal in ["/", "%"] {
        if text.contains(illegal) {
            problems.push(format!("may not contain '{illegal}'"));
        }
    }
    problems
}

/// `[prefix/]name`: label keys, taint keys, extended resources.
pub fn qualified_name(text: &str) -> Problems {
    let mut problems = Problems::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                problems.extend(dns1123_subdomain(prefix).into_iter().map(|p| format!("prefix part {p}")));
            }
            name
        }
        _ => {
            problems.push("a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')".into());
            return problems;
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part {}", max_length(LABEL_MAX)));
    }
    if !is_label_text(name) {
        problems.push(QUALIFIED.into());
    }
    problems
}

pub fn label_value(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > LABEL_MAX {
        problems.push(max_length(LABEL_MAX));
    }
    if !text.is_empty() && !is_label_text(text) {
        problems.push(LABEL_VALUE.into());
    }
    problems
}

/// Keys of ConfigMaps and Secrets.
pub fn config_key(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > SUBDOMAIN_MAX {
        problems.push(max_length(SUBDOMAIN_MAX));
    }
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        problems.push(CONFIG_KEY.into());
    }
    if text == "." || text.starts_with("..") {
        problems.push(
            if text == "." {
                "must not be '.'"
            } else if text == ".." {
                "must not be '..'"
            } else {
                "must not start with '..'"
            }
            .into(),
        );
    }
    problems
}

/// Relaxed environment variable names (KEP-4369).
pub fn env_name(text: &str) -> Problems {
    if text.is_empty() {
        vec!["environment variable name must be non-empty".into()]
    } else if !text.bytes().all(|c| (0x20..0x7f).contains(&c) && c != b'=') {
        vec![ENV_NAME.into()]
    } else {
        Problems::new()
    }
}

/// Names of ports: at most 15 of `[a-z0-9-]`, with a letter, no double or outer hyphens (IANA_SVC_NAME).
pub fn port_name(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > 15 {
        problems.push(max_length(15));
    }
    if !text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

pub fn port_number(port: i64) -> Problems {
    if (1..=65535).contains(&port) { Problems::new() } else { vec!["must be between 1 and 65535, inclusive".into()] }
}

/// No vowels and no look-alikes, as upstream, so that no word comes out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub fn random_suffix(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

/// `generateName` and five random characters; a base too long is cut.
pub fn generate(base: &str) -> String {
    const SUFFIX: usize = 5;
    let mut end = base.len().min(LABEL_MAX - SUFFIX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], random_suffix(SUFFIX))
}

/// A random (version 4) UID.
pub fn uid() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_rules() {
        assert!(dns1123_label("a-1").is_empty() && !dns1123_label("A").is_empty() && !dns1123_label("a.b").is_empty());
        assert!(
            dns1123_subdomain("a.b-c").is_empty()
                && !dns1123_subdomain("a..b").is_empty()
                && !dns1123_subdomain("").is_empty()
        );
        assert!(!dns1035_label("1a").is_empty() && dns1035_label("a1").is_empty());
        assert!(
            qualified_name("x.y/Z_a").is_empty()
                && !qualified_name("x/y/z").is_empty()
                && !qualified_name("/z").is_empty()
        );
        assert!(
            config_key(".dockerconfigjson").is_empty() && !config_key("..x").is_empty() && !config_key("").is_empty()
        );
        assert!(port_name("http").is_empty() && !port_name("80").is_empty() && !port_name("a--b").is_empty());
        assert!(path_segment("system:node").is_empty() && !path_segment("a/b").is_empty());
        assert!(wildcard_dns1123_subdomain("*.a.b").is_empty() && !wildcard_dns1123_subdomain("*a").is_empty());
    }

    #[test]
    fn generated_names_fit() {
        assert_eq!(generate(&"x".repeat(100)).len(), 63);
        assert!(generate("web-").starts_with("web-"));
    }
}
