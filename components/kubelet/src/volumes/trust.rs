//! `clusterTrustBundle` projections (KEP-3257): the anchors of the bundles a pod selects, in one file.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use kube::core::{Selector, SelectorExt};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::api::bundles::{Bundle, Snapshot};

/// Anchors have an order that lasts as long as this process, so that nobody comes to rely on one.
static ORDER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

const PEM_WIDTH: usize = 64;

/// The file's content: each anchor of the selected bundles once, or nothing at all where that is allowed.
pub fn anchors(bundles: &Snapshot, source: &ClusterTrustBundleProjection) -> Result<String> {
    let optional = source.optional == Some(true);
    let selected: Vec<&Bundle> = match source.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => match bundles.get(&(String::new(), name.to_owned())) {
            Some(bundle) => vec![bundle],
            None if optional => Vec::new(),
            None => bail!("clustertrustbundle.certificates.k8s.io {name:?} not found"),
        },
        None => by_signer(bundles, source)?,
    };
    if selected.is_empty() && !optional {
        bail!("combination of signerName and labelSelector matched zero ClusterTrustBundles");
    }
    unified(selected.into_iter().map(|bundle| bundle.pem.as_str()))
}

/// No selector selects nothing, an empty one everything of the signer.
fn by_signer<'a>(bundles: &'a Snapshot, source: &ClusterTrustBundleProjection) -> Result<Vec<&'a Bundle>> {
    let Some(selector) = source.label_selector.clone() else { return Ok(Vec::new()) };
    let selector = Selector::try_from(selector).context("while parsing label selector")?;
    let signer = source.signer_name.as_deref().unwrap_or_default();
    let fits = |bundle: &&Bundle| bundle.signer == signer && selector.matches(&bundle.labels);
    Ok(bundles.values().map(AsRef::as_ref).filter(fits).collect())
}

fn unified<'a>(texts: impl Iterator<Item = &'a str>) -> Result<String> {
    let mut known = BTreeSet::new();
    for text in texts {
        for der in certificates(text).context("while normalizing trust anchors")? {
            known.insert((ORDER.hash_one(&der), der));
        }
    }
    Ok(known.iter().map(|(_, der)| encode(der)).collect())
}

/// The certificates of a PEM text; what stands between them is dropped.
pub fn certificates(text: &str) -> Result<Vec<Vec<u8>>> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.as_bytes()).map(|der| der.map(|der| der.to_vec())).collect();
    Ok(found?)
}

/// PEM as everybody writes it: lines of 64, no headers.
pub fn encode(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_WIDTH));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn bundles() -> Snapshot {
        let bundle = |name: &str, signer: &str, alive: &str, anchors: &[&[u8]]| {
            let pem = anchors.iter().map(|der| format!("a note\n{}", encode(der))).collect();
            let labels = [("alive".to_owned(), alive.to_owned())].into();
            ((String::new(), name.to_owned()), Arc::new(Bundle { signer: signer.into(), labels, pem }))
        };
        Arc::new(
            [
                bundle("a", "x.y/z", "true", &[b"one", b"two"]),
                bundle("b", "x.y/z", "false", &[b"two", b"three"]),
                bundle("c", "", "true", &[b"four"]),
            ]
            .into(),
        )
    }

    fn select(source: Value) -> Result<BTreeSet<String>> {
        let source: ClusterTrustBundleProjection = serde_json::from_value(source).unwrap();
        let text = anchors(&bundles(), &source)?;
        let found = certificates(&text).unwrap();
        assert_eq!(text, anchors(&bundles(), &source).unwrap(), "the order lasts");
        assert_eq!(text, found.iter().map(|der| encode(der)).collect::<String>(), "nothing but certificates");
        assert_eq!(found.len(), found.iter().collect::<BTreeSet<_>>().len(), "each once");
        Ok(found.into_iter().map(|der| String::from_utf8(der).unwrap()).collect())
    }

    #[test]
    fn bundles_are_selected_unified_and_may_be_missing() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let signer = |more: Value| {
            let mut source = json!({"path": "p", "signerName": "x.y/z"});
            source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            source
        };
        assert_eq!(select(json!({"path": "p", "name": "c"})).unwrap(), set(&["four"]));
        assert_eq!(select(signer(json!({"labelSelector": {}}))).unwrap(), set(&["one", "two", "three"]));
        let alive = json!({"labelSelector": {"matchLabels": {"alive": "true"}}});
        assert_eq!(select(signer(alive)).unwrap(), set(&["one", "two"]));
        for (source, error) in [
            (json!({"path": "p", "name": "none"}), "clustertrustbundle.certificates.k8s.io \"none\" not found"),
            (signer(json!({})), "combination of signerName and labelSelector matched zero ClusterTrustBundles"),
        ] {
            assert_eq!(select(source.clone()).unwrap_err().to_string(), error);
            let mut optional = source;
            optional["optional"] = json!(true);
            assert_eq!(select(optional).unwrap(), set(&[]));
        }
    }

    #[test]
    fn pem_has_lines_of_64() {
        let lines: Vec<usize> = encode(&[7; 100]).lines().map(str::len).collect();
        assert_eq!(lines, [27, 64, 64, 8, 25]);
    }
}
