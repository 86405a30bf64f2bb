//! Certificate signing requests (kubernetes `pkg/apis/certificates`). Who asks (`spec.username`, …) is set by the API server.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, get, int_at, list_at, object_mut, str_at},
};

const EXPIRATION_MIN: i64 = 600;
const DOMAIN_MAX: usize = 253;
const SIGNER_MAX: usize = 571;
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----";

pub(super) fn csr_defaults(csr: &mut Value) {
    if let Some(spec) = object_mut(csr, "spec") {
        default_to(spec, "usages", json!(["digital signature", "key encipherment"]));
    }
}

pub(super) fn csr(csr: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let decoded = STANDARD.decode(str_at(csr, "spec.request")).unwrap_or_default();
    if !String::from_utf8_lossy(&decoded).trim_start().starts_with(REQUEST) {
        errors.push(FieldError::invalid(
            &path.child("request"),
            str_at(csr, "spec.request"),
            "PEM block type must be CERTIFICATE REQUEST",
        ));
    }
    if list_at(csr, "spec.usages").is_empty() {
        errors.push(FieldError::required(&path.child("usages"), "usages must be specified"));
    }
    errors.extend(usages(csr, &path.child("usages")));
    let signer = str_at(csr, "spec.signerName");
    let at = path.child("signerName");
    errors.extend(signer_name(signer, &at));
    if signer == "kubernetes.io/legacy-unknown" {
        errors.push(FieldError::invalid(&at, signer, "the legacy signerName is not allowed via this API version"));
    }
    if let Some(seconds) = int_at(csr, "spec.expirationSeconds").filter(|s| *s < EXPIRATION_MIN) {
        errors.push(FieldError::invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    errors
}

fn usages(csr: &Value, path: &Path) -> Vec<FieldError> {
    let list = list_at(csr, "spec.usages");
    let mut errors = Vec::new();
    for (i, usage) in list.iter().enumerate() {
        let text = usage.as_str().unwrap_or_default();
        if !USAGES.contains(&text) {
            errors.push(FieldError::not_supported(&path.index(i), text, USAGES));
        } else if list[..i].contains(usage) {
            errors.push(FieldError::duplicate(&path.index(i), text));
        }
    }
    errors
}

/// `example.com/signer-name`: a domain of two parts or more, and a name.
pub(in crate::resources) fn signer_name(signer: &str, path: &Path) -> Vec<FieldError> {
    if signer.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let segments: Vec<&str> = signer.split('/').collect();
    let [domain, name] = segments[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![FieldError::invalid(path, signer, detail)];
    };
    let mut errors = Vec::new();
    if domain.len() > DOMAIN_MAX {
        errors.push(FieldError::too_long(path, DOMAIN_MAX));
    }
    errors.extend(label_problem(domain, names::dns1123_label, path));
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    errors.extend(label_problem(name, names::dns1123_subdomain, path));
    if signer.len() > SIGNER_MAX {
        errors.push(FieldError::too_long(path, SIGNER_MAX));
    }
    errors
}

/// The problems of the first label that has any.
fn label_problem(segment: &str, rule: fn(&str) -> Vec<String>, path: &Path) -> Vec<FieldError> {
    let bad = segment.split('.').map(|label| (label, rule(label))).find(|(_, problems)| !problems.is_empty());
    let problems = bad.into_iter().flat_map(|(label, problems)| problems.into_iter().map(move |p| (label, p)));
    problems.map(|(label, p)| FieldError::invalid(path, segment, format!("validating label {label:?}: {p}"))).collect()
}

/// For `/status` and `/approval` alike: decisions stay, a certificate never changes.
pub(super) fn csr_status_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = meta::immutable(new, old, &["spec"]);
    let has = |csr: &Value, kind: &str| list_at(csr, "status.conditions").iter().any(|c| str_at(c, "type") == kind);
    let at = path.child("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        if has(old, kind) && !has(new, kind) {
            errors.push(FieldError::forbidden(&at, format!("updates may not remove a condition of type \"{kind}\"")));
        }
    }
    if has(new, "Approved") && has(new, "Denied") {
        errors.push(FieldError::invalid(&at, "Denied", "Approved and Denied conditions are mutually exclusive"));
    }
    for (i, condition) in list_at(new, "status.conditions").iter().enumerate() {
        let at = at.index(i);
        if str_at(condition, "type").is_empty() {
            errors.push(FieldError::required(&at.child("type"), ""));
        }
        let statuses: &[&str] = if matches!(str_at(condition, "type"), "Approved" | "Denied" | "Failed") {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        errors.extend(meta::one_of(condition, "status", &at, statuses));
    }
    let after = str_at(new, "status.certificate");
    let decoded = STANDARD.decode(after).unwrap_or_default();
    if !after.is_empty() && !String::from_utf8_lossy(&decoded).contains(CERTIFICATE) {
        let detail = "must contain at least one CERTIFICATE PEM block";
        errors.push(FieldError::invalid(&path.child("certificate"), after, detail));
    }
    let before = str_at(old, "status.certificate");
    if !before.is_empty() && str_at(new, "status.certificate") != before {
        let value = get(new, "status.certificate").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&path.child("certificate"), value, meta::IMMUTABLE));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_decisions() {
        let pem = STANDARD.encode(format!("{REQUEST}\nx\n"));
        let good =
            json!({"spec": {"request": pem, "signerName": "kubernetes.io/kubelet-serving", "usages": ["server auth"]}});
        assert!(csr(&good).is_empty());
        assert_eq!(csr(&json!({"spec": {}})).len(), 3);
        let mut approved = good.clone();
        approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": STANDARD.encode(CERTIFICATE)});
        assert!(csr_status_update(&approved, &good).is_empty());
        assert_eq!(csr_status_update(&good, &approved).len(), 2);
    }
}
