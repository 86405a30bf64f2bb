//! PodCertificateRequests (kubernetes `pkg/apis/certificates/validation`): a kubelet asks for a certificate for a pod.

use serde_json::Value;

use super::request::signer_name;
use crate::{
    field::{FieldError, Path},
    names,
    resources::{cells, meta},
    value::{default_to, get, int_at, list_at, str_at, with_mut},
};

const SECONDS_DEFAULT: i64 = 86_400;
const SECONDS_MIN: i64 = 3600;
const SECONDS_MAX: i64 = 91 * 24 * 3600;
const FINAL: &[&str] = &["Denied", "Failed", "Issued"];

pub(super) fn state(request: &Value) -> Value {
    FINAL.iter().find(|kind| cells::condition_true(request, kind)).map_or("Pending", |kind| *kind).into()
}

pub(super) fn defaults(request: &mut Value) {
    with_mut(request, "spec", |spec| default_to(spec, "maxExpirationSeconds", SECONDS_DEFAULT));
}

pub(super) fn validate(request: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = signer_name(str_at(request, "spec.signerName"), &path.child("signerName"));
    for field in ["podName", "serviceAccountName", "nodeName"] {
        let (value, at) = (str_at(request, &format!("spec.{field}")), path.child(field));
        errors.extend(names::dns1123_subdomain(value).into_iter().map(|p| FieldError::invalid(&at, value, p)));
    }
    for field in ["podUID", "serviceAccountUID", "nodeUID"] {
        if str_at(request, &format!("spec.{field}")).is_empty() {
            errors.push(FieldError::required(&path.child(field), "must not be empty"));
        }
    }
    let seconds = int_at(request, "spec.maxExpirationSeconds").unwrap_or(0);
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        let detail = format!("must be in the range [{SECONDS_MIN}, {SECONDS_MAX}]");
        errors.push(FieldError::invalid(&path.child("maxExpirationSeconds"), seconds, detail));
    }
    if str_at(request, "spec.stubPKCS10Request").is_empty() {
        errors.push(FieldError::required(&path.child("stubPKCS10Request"), ""));
    }
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    meta::immutable(new, old, &["spec"])
}

/// One of the final conditions once, and nothing after it.
pub(super) fn validate_status_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = Path::new("status").child("conditions");
    let mut errors = meta::immutable(new, old, &["spec"]);
    let conditions = list_at(new, "status.conditions");
    for (i, condition) in conditions.iter().enumerate() {
        errors.extend(meta::one_of(condition, "type", &at.index(i), FINAL));
        errors.extend(meta::one_of(condition, "status", &at.index(i), &["True"]));
    }
    if conditions.len() > 1 {
        errors.push(FieldError::invalid(
            &at,
            conditions.to_vec(),
            "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"",
        ));
    }
    if list_at(old, "status.conditions").iter().any(|c| FINAL.contains(&str_at(c, "type")))
        && get(new, "status") != get(old, "status")
    {
        let value = get(new, "status").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(
            &Path::new("status"),
            value,
            "immutable after PodCertificateRequest is issued, denied, or failed",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_end_once() {
        let mut request = json!({"spec": {"signerName": "a.b/c", "podName": "p", "podUID": "1", "serviceAccountName": "s",
            "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": "eA=="}});
        defaults(&mut request);
        assert!(validate(&request).is_empty(), "{:?}", validate(&request));
        assert_eq!(state(&request), "Pending");
        let mut issued = request.clone();
        issued["status"] = json!({"conditions": [{"type": "Issued", "status": "True"}]});
        assert!(validate_status_update(&issued, &request).is_empty());
        assert_eq!(state(&issued), "Issued");
        let mut again = issued.clone();
        again["status"]["certificateChain"] = "x".into();
        assert_eq!(validate_status_update(&again, &issued).len(), 1);
        request["spec"]["maxExpirationSeconds"] = 5.into();
        assert_eq!(validate(&request).len(), 1);
    }
}
