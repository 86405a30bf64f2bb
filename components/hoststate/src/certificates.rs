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
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("client-certificate-data:"))
        .filter_map(|data| String::from_utf8(STANDARD.decode(data.trim().trim_matches(['"', '\''])).ok()?).ok())
        .flat_map(|pem| in_pem(&pem))
        .collect()
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
}
