//! Asking for a certificate by CertificateSigningRequest and waiting for it by watch.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use certs::Subject;
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
    Client,
    Serving,
}

impl Kind {
    fn signer(self) -> &'static str {
        match self {
            Kind::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Kind::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(self) -> Vec<String> {
        let extended = match self {
            Kind::Client => "client auth",
            Kind::Serving => "server auth",
        };
        vec!["digital signature".into(), extended.into()]
    }
}

/// Gets a certificate signed, however long that takes; gives certificate and key in one PEM text.
pub async fn issue(client: &kube::Client, kind: Kind, subject: &Subject, names: &[String]) -> Result<String> {
    let mut delay = Duration::from_millis(100);
    loop {
        match attempt(client, kind, subject, names).await {
            Ok(pem) => return Ok(pem),
            Err(error) => tracing::warn!("no {kind:?} certificate yet: {error:#}"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(5));
    }
}

async fn attempt(client: &kube::Client, kind: Kind, subject: &Subject, names: &[String]) -> Result<String> {
    let key = certs::generate_key()?;
    let csr = certs::create_csr(&key, subject, names)?;
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
            Ok(format!("{}\n{key}", certificate.trim_end()))
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
