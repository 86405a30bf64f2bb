//! Certificate signing requests (kubernetes `pkg/apis/certificates`). Who asks (`spec.username`, …) is set by the API server.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{int_at, list_at, str_at},
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
        errors.push(FieldError::required(&path.child("usages"), ""));
    }
    errors.extend(usages(csr, &path.child("usages")));
    let signer = str_at(csr, "spec.signerName");
    let at = path.child("signerName");
    match signer {
        "kubernetes.io/legacy-unknown" => {
            errors.push(FieldError::invalid(&at, signer, "the legacy signerName is not allowed via this API version"));
        }
        signer => errors.extend(signer_name(signer, &at)),
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
    let list: Vec<&str> = list_at(csr, "spec.usages").iter().map(|usage| usage.as_str().unwrap_or_default()).collect();
    let unknown = list.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage));
    let mut errors: Vec<FieldError> =
        unknown.map(|(i, usage)| FieldError::not_supported(&path.index(i), *usage, USAGES)).collect();
    let twice = list.iter().enumerate().filter(|(i, usage)| list[..*i].contains(usage));
    errors.extend(twice.map(|(i, usage)| FieldError::duplicate(&path.index(i), *usage)));
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
    let at = path.child("conditions");
    let mut errors = meta::immutable(new, old, &["spec"]);
    errors.extend(conditions(new, old, &at));
    errors.extend(certificate(new, old, &path.child("certificate")));
    for kind in DECISIONS {
        if has(old, kind) && !has(new, kind) {
            errors.push(FieldError::forbidden(&at, format!("updates may not remove a condition of type \"{kind}\"")));
        }
    }
    let (after, before) = (str_at(new, "status.certificate"), str_at(old, "status.certificate"));
    if !before.is_empty() && after != before {
        let detail = "updates may not modify existing certificate content";
        errors.push(FieldError::forbidden(&path.child("certificate"), detail));
    }
    errors
}

const DECISIONS: &[&str] = &["Approved", "Denied", "Failed"];

fn has(csr: &Value, kind: &str) -> bool {
    list_at(csr, "status.conditions").iter().any(|c| str_at(c, "type") == kind)
}

/// Decisions are made once and not both ways; what was stored otherwise may stay.
fn conditions(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let types = |csr: &Value| -> Vec<String> {
        list_at(csr, "status.conditions").iter().map(|c| str_at(c, "type").to_owned()).collect()
    };
    let repeated = |types: &[String]| types.iter().enumerate().any(|(i, t)| types[..i].contains(t));
    let (old_types, all) = (types(old), list_at(new, "status.conditions"));
    let (both_ways, twice) = (has(old, "Approved") && has(old, "Denied"), repeated(&old_types));
    for (i, condition) in all.iter().enumerate() {
        let (at, kind) = (path.index(i), str_at(condition, "type"));
        let earlier = |kind: &str| all[..i].iter().any(|c| str_at(c, "type") == kind);
        if kind.is_empty() && !old_types.iter().any(String::is_empty) {
            errors.push(FieldError::required(&at.child("type"), ""));
        }
        let statuses: &[&str] = if DECISIONS.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        errors.extend(meta::one_of(condition, "status", &at, statuses));
        let against = match kind {
            "Approved" => earlier("Denied"),
            "Denied" => earlier("Approved"),
            _ => false,
        };
        if against && !both_ways {
            errors.push(FieldError::invalid(path, kind, "Approved and Denied conditions are mutually exclusive"));
        }
        if earlier(kind) && !twice {
            errors.push(FieldError::duplicate(&at.child("type"), kind));
        }
    }
    errors
}

fn certificate(new: &Value, old: &Value, path: &Path) -> Option<FieldError> {
    let good = |base64: &str| {
        let text = STANDARD.decode(base64).unwrap_or_default();
        base64.is_empty() || String::from_utf8_lossy(&text).contains(CERTIFICATE)
    };
    let (after, before) = (str_at(new, "status.certificate"), str_at(old, "status.certificate"));
    let detail = "must contain at least one CERTIFICATE PEM block";
    (after != before && good(before) && !good(after)).then(|| FieldError::invalid(path, "<certificate data>", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn requests_fail_in_upstreams_words() {
        let pem = STANDARD.encode(format!("{REQUEST}\nx\n"));
        let of = |signer: &str, usages: Value| {
            texts(&csr(&json!({"spec": {"request": pem, "signerName": signer, "usages": usages}})))
        };
        assert_eq!(of("a.b/c", json!([])), ["spec.usages: Required value"]);
        assert_eq!(
            of("kubernetes.io/legacy-unknown", json!(["any"])),
            [
                "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version"
            ]
        );
        let found = of("a.b/c", json!(["x", "any", "any", "x"]));
        let starts = [
            "spec.usages[0]: Unsupported value: \"x\"",
            "spec.usages[3]: Unsupported value: \"x\"",
            "spec.usages[2]: Duplicate value: \"any\"",
            "spec.usages[3]: Duplicate value: \"x\"",
        ];
        assert!(found.iter().zip(starts).all(|(text, start)| text.starts_with(start)), "{found:#?}");
        assert_eq!(found.len(), starts.len());
    }

    #[test]
    fn decisions_are_made_once() {
        let of = |conditions: Value, certificate: &str| json!({"status": {"conditions": conditions, "certificate": certificate}});
        let (yes, no) = (json!({"type": "Approved", "status": "True"}), json!({"type": "Denied", "status": "False"}));
        let pem = STANDARD.encode(CERTIFICATE);
        let old = of(json!([yes]), &pem);
        assert_eq!(
            texts(&csr_status_update(&of(json!([yes, no, yes, {}]), "eA=="), &old)),
            [
                "status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\"",
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
                "status.conditions: Invalid value: \"Approved\": Approved and Denied conditions are mutually exclusive",
                "status.conditions[2].type: Duplicate value: \"Approved\"",
                "status.conditions[3].type: Required value",
                "status.conditions[3].status: Required value",
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
                "status.certificate: Forbidden: updates may not modify existing certificate content",
            ]
        );
        let odd = of(json!([yes, {"type": "Denied", "status": "True"}, yes]), "");
        assert_eq!(texts(&csr_status_update(&odd, &odd)), [""; 0]);
    }

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
