//! Asking for a certificate by CertificateSigningRequest and waiting for it by watch.
//!
//! In: a client, the kind, the subject. Out: what was issued, with the key that was made for it and never left this process.
//! Depends on `certs`, and on `client` only for code that kinds share.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use certs::{Issued, Subject};
// the code of kinds that others use too comes from there (see client::kinds)
use client as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};

/// After this long without an answer a new request is made: the old one may have been garbage collected.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A node's, to call the API server.
    KubeletClient,
    /// A node's, to be called with.
    KubeletServing,
    /// Anybody's, to call the API server.
    Client,
}

impl Kind {
    fn signer(self) -> &'static str {
        match self {
            Kind::KubeletClient => "kubernetes.io/kube-apiserver-client-kubelet",
            Kind::KubeletServing => "kubernetes.io/kubelet-serving",
            Kind::Client => "kubernetes.io/kube-apiserver-client",
        }
    }

    fn usages(self) -> Vec<String> {
        let extended = match self {
            Kind::KubeletClient | Kind::Client => "client auth",
            Kind::KubeletServing => "server auth",
        };
        vec!["digital signature".into(), extended.into()]
    }
}

/// Gets a certificate signed, however long that takes.
pub async fn issue(client: &kube::Client, kind: Kind, subject: &Subject, names: &[String]) -> Issued {
    let mut delay = Duration::from_millis(100);
    loop {
        match attempt(client, kind, subject, names).await {
            Ok(issued) => return issued,
            Err(error) => tracing::warn!("no {kind:?} certificate yet: {error:#}"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(5));
    }
}

async fn attempt(client: &kube::Client, kind: Kind, subject: &Subject, names: &[String]) -> Result<Issued> {
    let key_pem = certs::generate_key()?;
    let csr = certs::create_csr(&key_pem, subject, names)?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".into()), ..Default::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(csr.into_bytes()),
            signer_name: kind.signer().into(),
            usages: Some(kind.usages()),
            ..Default::default()
        },
        status: None,
    };
    let created = api.create(&PostParams::default(), &request).await.context("cannot create a signing request")?;
    let name = created.name_any();
    let decided = tokio::time::timeout(PATIENCE, await_condition(api, &name, is_decided))
        .await
        .with_context(|| {
            format!("signing request {name} was not answered: approve it with `kubectl certificate approve {name}`")
        })?
        .with_context(|| format!("cannot watch signing request {name}"))?
        .with_context(|| format!("signing request {name} was deleted before it was signed"))?;
    match decided.status.as_ref().and_then(|s| s.certificate.as_ref()) {
        Some(certificate) => {
            let certificate = std::str::from_utf8(&certificate.0).context("the signed certificate is not PEM")?;
            Ok(Issued { cert_pem: format!("{}\n", certificate.trim_end()), key_pem })
        }
        None => bail!("signing request {name} was refused: {}", refusal(&decided)),
    }
}

fn is_decided(request: Option<&CertificateSigningRequest>) -> bool {
    let Some(request) = request else { return true };
    let Some(status) = &request.status else { return false };
    status.certificate.as_ref().is_some_and(|c| !c.0.is_empty()) || !refusal(request).is_empty()
}

fn refusal(request: &CertificateSigningRequest) -> String {
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .filter(|c| matches!(c.type_.as_str(), "Denied" | "Failed"))
        .map(|c| format!("{} {}", c.type_, c.message.as_deref().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(", ")
}
