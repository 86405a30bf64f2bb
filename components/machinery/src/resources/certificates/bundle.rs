//! ClusterTrustBundles (kubernetes `pkg/apis/certificates/validation`).

use serde_json::Value;

use super::request::signer_name;
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{name, str_at},
};

const BUNDLE_MAX: usize = 1024 * 1024;
const BEGIN: &str = "-----BEGIN ";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

pub(super) fn validate(bundle: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let signer = str_at(bundle, "spec.signerName");
    let mut errors = own_name(name(bundle), signer);
    if !signer.is_empty() {
        errors.extend(signer_name(signer, &path.child("signerName")));
    }
    errors.extend(certificates(str_at(bundle, "spec.trustBundle"), &path.child("trustBundle")));
    errors
}

/// A bundle of a signer carries the signer's name; one of nobody must not look as if it were.
fn own_name(name: &str, signer: &str) -> Vec<FieldError> {
    FieldError::each_invalid(&Path::new("metadata").child("name"), name, signed_name_problems(name, signer))
}

fn signed_name_problems(name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        return match name.contains(':') {
            true => vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()],
            false => names::dns1123_subdomain(name),
        };
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => names::dns1123_subdomain(rest),
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")],
    }
}

/// What is wrong with the name of a bundle of which nothing else is known: the signer is what stands before the last colon.
pub(in crate::resources) fn name_problems(name: &str) -> Vec<String> {
    let signer = name.rsplit_once(':').map(|(signer, _)| signer.replace(':', "/"));
    signed_name_problems(name, signer.as_deref().unwrap_or_default())
}

fn certificates(bundle: &str, path: &Path) -> Vec<FieldError> {
    let invalid = |detail: &str| vec![FieldError::invalid(path, "<value omitted>", detail)];
    if bundle.len() > BUNDLE_MAX {
        return vec![FieldError::too_long(path, BUNDLE_MAX)];
    }
    if bundle.matches(CERTIFICATE).count() == 0 {
        return invalid("at least one trust anchor must be provided");
    }
    if bundle.matches(BEGIN).count() != bundle.matches(CERTIFICATE).count() {
        return invalid("entry 0 has bad block type");
    }
    let blocks: Vec<&str> = bundle.split(CERTIFICATE).skip(1).map(str::trim).collect();
    if blocks.iter().enumerate().any(|(i, block)| blocks[..i].contains(block)) {
        return invalid("duplicate trust anchor");
    }
    Vec::new()
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    errors.extend(meta::immutable(new, old, &["spec.signerName"]));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_follow_the_signer() {
        let pem = format!("{CERTIFICATE}\neA==\n-----END CERTIFICATE-----\n");
        let of = |name: &str, signer: &str| json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": pem}});
        assert!(validate(&of("a.b:c:x", "a.b/c")).is_empty(), "{:?}", validate(&of("a.b:c:x", "a.b/c")));
        assert!(validate(&of("x", "")).is_empty());
        assert_eq!((validate(&of("x", "a.b/c")).len(), validate(&of("a:b", "")).len()), (1, 1));
        assert_eq!(validate(&json!({"metadata": {"name": "x"}, "spec": {"trustBundle": ""}})).len(), 1);
    }
}
