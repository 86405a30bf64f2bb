//! Certificate requests carry who asked; approving and signing need the right for that signer
//! (CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest).

use base64::{Engine, engine::general_purpose::STANDARD};
use machinery::{
    ApiError,
    value::{get, list_at, str_at},
};
use serde_json::{Value, json};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use super::{Attempt, Operation};
use crate::{
    authz::{self, Attributes},
    identity::MASTERS,
};

pub async fn admit(attempt: &Attempt<'_>, request: &mut Value) -> Result<(), ApiError> {
    if !attempt.is_of("certificates.k8s.io", "certificatesigningrequests") {
        return Ok(());
    }
    match (attempt.operation, attempt.subresource) {
        (Operation::Create, "") => {
            set_requester(attempt, request);
            subject(attempt, request)?;
        }
        (Operation::Update, "approval") => require(attempt, "approve").await?,
        (Operation::Update, "status") => {
            for kind in ["Approved", "Denied"] {
                if decisions(request, kind).ne(attempt.old.into_iter().flat_map(|old| decisions(old, kind))) {
                    let why =
                        format!("status.conditions: updates of the status may not set a condition of type {kind:?}");
                    return Err(attempt.target.forbidden(&why));
                }
            }
            let before = attempt.old.and_then(|o| get(o, "status.certificate"));
            if before != get(request, "status.certificate") {
                require(attempt, "sign").await?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn set_requester(attempt: &Attempt<'_>, request: &mut Value) {
    let who = &attempt.call.identity;
    let spec = &mut request["spec"];
    spec["username"] = who.user.as_str().into();
    spec["groups"] = json!(who.groups);
    for (key, value) in [
        ("uid", (!who.uid.is_empty()).then(|| who.uid.as_str().into())),
        ("extra", (!who.extra.is_empty()).then(|| json!(who.extra))),
    ] {
        match value {
            Some(value) => spec[key] = value,
            None => drop(machinery::value::remove(spec, key)),
        }
    }
}

/// Nobody gets a client certificate that says `system:masters` (CertificateSubjectRestriction).
fn subject(attempt: &Attempt<'_>, request: &Value) -> Result<(), ApiError> {
    const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
    if str_at(request, "spec.signerName") != SIGNER {
        return Ok(());
    }
    let pem = STANDARD.decode(str_at(request, "spec.request")).unwrap_or_default();
    let organizations = organizations(&pem)
        .ok_or_else(|| attempt.target.forbidden("could not parse CSR: spec.request is no certificate request"))?;
    if organizations.iter().any(|o| o == MASTERS) {
        let why = format!("use of {SIGNER} signer with {MASTERS} group is not allowed");
        return Err(attempt.target.forbidden(&why));
    }
    Ok(())
}

fn organizations(pem: &[u8]) -> Option<Vec<String>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    Some(subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect())
}

/// Who writes a bundle of a signer must be allowed to attest for it (ClusterTrustBundleAttest).
pub async fn attest(attempt: &Attempt<'_>, bundle: &Value) -> Result<(), ApiError> {
    let written = matches!(attempt.operation, Operation::Create | Operation::Update);
    let signer = str_at(bundle, "spec.signerName");
    if !written || !attempt.is_of("certificates.k8s.io", "clustertrustbundles") || signer.is_empty() {
        return Ok(());
    }
    if attempt.old.is_some_and(|old| old["spec"] == bundle["spec"]) || may(attempt, "attest", signer).await {
        return Ok(());
    }
    Err(attempt.target.forbidden(&format!("user not permitted to attest for signerName {signer:?}")))
}

fn decisions<'a>(request: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    list_at(request, "status.conditions").iter().filter(move |c| str_at(c, "type") == kind)
}

/// The verb on the signer itself, or on all of its domain (`kubernetes.io/*`).
async fn require(attempt: &Attempt<'_>, verb: &str) -> Result<(), ApiError> {
    let signer = attempt.old.map(|o| str_at(o, "spec.signerName")).unwrap_or_default();
    if may(attempt, verb, signer).await {
        return Ok(());
    }
    Err(attempt.target.forbidden(&format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

async fn may(attempt: &Attempt<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let what = Attributes {
            is_resource: true,
            verb: verb.into(),
            group: "certificates.k8s.io".into(),
            version: "*".into(),
            resource: "signers".into(),
            name,
            ..Attributes::default()
        };
        if authz::allows(&attempt.call.core, &attempt.call.identity, &what).await {
            return true;
        }
    }
    false
}
