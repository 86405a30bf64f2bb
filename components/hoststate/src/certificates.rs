//! Certificates as they lie in files: found by their form, never with their keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The certificates of one file on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFile {
    pub path: String,
    /// PEM, in the file's order; nothing but certificates.
    pub pem: String,
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Keys of a kubeconfig.
const CERTIFICATE: &str = "client-certificate-data:";
const KEY: &str = "client-key-data:";

/// Each certificate of a PEM text; whatever else is in it, such as a key, is left out.
pub fn in_pem(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let Some(length) = rest[begin..].find(END) else { break };
        let end = begin + length + END.len();
        found.push(format!("{}\n", &rest[begin..end]));
        rest = &rest[end..];
    }
    found
}

/// The client certificates that a kubeconfig holds.
pub fn in_kubeconfig(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(CERTIFICATE))
        .filter_map(|data| String::from_utf8(STANDARD.decode(data.trim().trim_matches(['"', '\''])).ok()?).ok())
        .flat_map(|pem| in_pem(&pem))
        .collect()
}

/// A kubeconfig with the client certificate and the key of another one. None where either holds none.
pub fn with_credentials_of(kubeconfig: &str, other: &str) -> Option<String> {
    exchanged(kubeconfig, data(other, CERTIFICATE)?, data(other, KEY)?)
}

/// A kubeconfig with this client certificate and its key, PEM. None where it holds none.
pub fn with_credentials(kubeconfig: &str, cert_pem: &str, key_pem: &str) -> Option<String> {
    exchanged(kubeconfig, &STANDARD.encode(cert_pem), &STANDARD.encode(key_pem))
}

fn exchanged(kubeconfig: &str, certificate: &str, key: &str) -> Option<String> {
    with_value(&with_value(kubeconfig, CERTIFICATE, certificate)?, KEY, key)
}

/// With another value behind the first of these keys.
fn with_value(kubeconfig: &str, key: &str, value: &str) -> Option<String> {
    let old = data(kubeconfig, key)?;
    let behind = kubeconfig.find(key)? + key.len();
    let (before, after) = kubeconfig.split_at(behind);
    Some(format!("{before}{}", after.replacen(old, value, 1)))
}

/// The first value of a key, as it stands there.
fn data<'a>(kubeconfig: &'a str, key: &str) -> Option<&'a str> {
    let value = kubeconfig.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key))?;
    Some(value.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_found_and_keys_are_not() {
        let one = format!("{BEGIN}\nAAAA\n{END}\n");
        let other = format!("{BEGIN}\nBBBB\n{END}\n");
        let key = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";
        assert_eq!(in_pem(&format!("{one}{key}# and\n{other}{BEGIN} cut off")), [one.clone(), other]);
        let kubeconfig = format!(
            "users:\n- name: a\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(&one),
            STANDARD.encode(key)
        );
        assert_eq!(in_kubeconfig(&kubeconfig), [one]);
        assert!(in_kubeconfig("client-certificate-data: '!'").is_empty());
    }

    #[test]
    fn a_value_that_stands_elsewhere_too_is_exchanged_in_its_own_place() {
        let text = "users:\n- name: a\n  user:\n    client-certificate-data: a\n    client-key-data: e\n";
        let exchanged = exchanged(text, "NEW", "KEY").unwrap_or_default();
        assert_eq!(exchanged, text.replace("data: a", "data: NEW").replace("data: e", "data: KEY"));
    }

    #[test]
    fn credentials_are_exchanged_and_nothing_else() {
        let of = |server: &str, certificate: &str, key: &str| {
            let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
            format!(
                "clusters:\n- cluster: {{server: {server}}}\nusers:\n- name: a\n  user:\n    client-certificate-data: \
                 {certificate}\n    client-key-data: {key}\n"
            )
        };
        let (wanted, there) = (of("new", "theirs", "their key"), of("old", "own", "own key"));
        assert_eq!(with_credentials_of(&wanted, &there), Some(of("new", "own", "own key")));
        assert_eq!(with_credentials(&there, "newer", "newer key"), Some(of("old", "newer", "newer key")));
        let neither = "users:\n- name: a\n  user: {client-certificate: /etc/x.crt}\n";
        assert_eq!((with_credentials_of(&wanted, neither), with_credentials_of(neither, &there)), (None, None));
    }
}
