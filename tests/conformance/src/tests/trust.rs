//! Certificates and trust bundles inside of pods: only a kubelet can show these.

use std::sync::Arc;

use anyhow::Result;
use certs::Ca;
use serde_json::{Value, json};

use super::service_accounts::succeeded;
use crate::context::T;
use crate::resource::Res;
use crate::runner::Entry;

const CERTIFICATE: &str = "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection]";
const BUNDLE: &str = "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection]";

pub fn entries() -> Vec<Entry> {
    let mut all = Vec::new();
    for name in [
        "MaxExpirationSeconds validations should issue certificate with default life time (24h) when MaxExpirationSeconds is not set",
        "MaxExpirationSeconds validations should issue certificate with specified duration (1h) when MaxExpirationSeconds is set",
        "should allow server and client pods to establish an mTLS connection",
        "should honor UserAnnotations for SPIFFE URI path",
    ] {
        let hours = if name.contains("(1h)") { 1 } else { 24 };
        let name = format!("{name} [MinimumKubeletVersion:1.37]");
        all.push(Entry::new(&name, move |t| certificate(t, hours)).under(CERTIFICATE));
    }
    let cases: Vec<(&str, Case)> = vec![
        ("should be able to mount a big number (>100) of CTBs", Case { bundles: 120, ..Case::default() }),
        ("should be able to mount a single ClusterTrustBundle by name", Case { bundles: 1, ..Case::default() }),
        ("should be able to specify multiple CTB volumes", Case { bundles: 2, ..Case::default() }),
        (
            "should be capable to mount multiple trust bundles by signer+labels can combine all signer CTBs with an empty label selector",
            Case { by: By::Signer(json!({})), bundles: 2, ..Case::default() },
        ),
        (
            "should be capable to mount multiple trust bundles by signer+labels can combine multiple CTBs with signer name and label selector",
            Case { by: By::Signer(json!({"matchLabels": {"signer.alive": "true"}})), bundles: 2, ..Case::default() },
        ),
        (
            "should be capable to mount multiple trust bundles by signer+labels should start if only signer name and explicit label selector matches nothing + optional=true",
            Case { by: By::Signer(json!({"matchLabels": {"signer.alive": "no"}})), optional: true, ..Case::default() },
        ),
        (
            "should be capable to mount multiple trust bundles by signer+labels should start if only signer name and nil label selector + optional=true",
            Case { by: By::Signer(Value::Null), optional: true, ..Case::default() },
        ),
        (
            "should prevent a pod from starting if: sets optional=false and no trust bundle matches query",
            Case { by: By::Signer(json!({"matchLabels": {"signer.alive": "no"}})), starts: false, ..Case::default() },
        ),
        (
            "should prevent a pod from starting if: sets optional=false and the configured CTB does not exist",
            Case { bundles: 0, missing: true, starts: false, ..Case::default() },
        ),
    ];
    for (name, case) in cases {
        let name = format!("{name} [MinimumKubeletVersion:1.37]");
        all.push(Entry::new(&name, move |t| bundles(t, case.clone())).under(BUNDLE));
    }
    all
}

#[derive(Clone)]
enum By {
    Name,
    /// With this label selector.
    Signer(Value),
}

/// Bundles that exist, the volumes that want them, and whether the pod starts.
#[derive(Clone)]
struct Case {
    by: By,
    bundles: usize,
    /// A name that no bundle has.
    missing: bool,
    optional: bool,
    starts: bool,
}

impl Default for Case {
    fn default() -> Self {
        Case { by: By::Name, bundles: 0, missing: false, optional: false, starts: true }
    }
}

async fn bundles(t: Arc<T>, case: Case) -> Result<()> {
    t.needs_cluster("a kubelet mounts the bundle")?;
    let signer = format!("{0}.test/{0}", t.ns);
    let mut sources = Vec::new();
    let mut expected = 0;
    for number in 0..case.bundles {
        let name = format!("{0}.test:{0}:{number}", t.ns);
        let ca = Ca::generate(&format!("root-{number}"))?;
        let body = json!({"metadata": {"name": name, "labels": {"signer.alive": "true"}},
            "spec": {"signerName": signer, "trustBundle": ca.cert_pem()}});
        t.make(&Res::TRUST_BUNDLE, body).await?;
        expected += 1;
        if matches!(case.by, By::Name) {
            sources.push(json!({"name": name, "path": format!("{number}.pem")}));
        }
    }
    if case.missing {
        sources.push(json!({"name": format!("{0}.test:{0}:missing", t.ns), "path": "missing.pem"}));
    }
    if let By::Signer(selector) = &case.by {
        let mut source = json!({"signerName": signer, "path": "all.pem", "optional": case.optional});
        if !selector.is_null() {
            source["labelSelector"] = selector.clone();
        }
        sources.push(source);
    }
    let volumes: Vec<Value> = sources
        .iter()
        .enumerate()
        .map(|(number, source)| {
            json!({"name": format!("v{number}"), "projected": {"sources": [{"clusterTrustBundle": source}]}})
        })
        .collect();
    let mounts: Vec<Value> = (0..volumes.len())
        .map(|number| json!({"name": format!("v{number}"), "mountPath": format!("/ctb/{number}")}))
        .collect();
    let script = format!("test $(cat /ctb/*/*.pem | grep -c BEGIN) = {expected}");
    let container = json!({"name": "main", "image": t.env.surroundings.shell_image, "command": ["sh", "-c", script], "volumeMounts": mounts});
    let body = json!({"metadata": {"name": "mounts"}, "spec": {"restartPolicy": "Never", "volumes": volumes, "containers": [container]}});
    t.make(&Res::POD, body).await?;
    if case.starts {
        return succeeded(&t, "mounts").await;
    }
    let path = format!("{}?fieldSelector=reason%3DFailedMount", Res::CORE_EVENT.collection(&t.ns));
    t.until_list("word of the failed mount", &path, |events| !events.is_empty()).await?;
    crate::context::same("phase", &t.read(&Res::POD, "mounts").await?["status"]["phase"], &json!("Pending"))
}

/// The harness is the signer; the pod checks what it is given.
async fn certificate(t: Arc<T>, hours: u32) -> Result<()> {
    t.needs_cluster("a kubelet asks for the certificate and mounts it")?;
    let signer = format!("{}.example.com/signer", t.ns);
    let mut source = json!({"signerName": signer, "keyType": "ECDSAP256", "credentialBundlePath": "bundle.pem"});
    if hours == 1 {
        source["maxExpirationSeconds"] = json!(3600);
    }
    let container = json!({"name": "main", "image": t.env.surroundings.shell_image, "command": ["grep", "CERTIFICATE", "/c/bundle.pem"],
        "volumeMounts": [{"name": "c", "mountPath": "/c"}]});
    let body = json!({"metadata": {"name": "certified"}, "spec": {"restartPolicy": "Never", "containers": [container],
        "volumes": [{"name": "c", "projected": {"sources": [{"podCertificate": source}]}}]}});
    t.make(&Res::POD, body).await?;
    let path = Res::POD_CERTIFICATE.collection(&t.ns);
    let asked = t.until_list("the kubelet's request", &path, |requests| !requests.is_empty()).await?;
    let seconds = i64::from(hours) * 3600;
    crate::context::same("maxExpirationSeconds", &asked[0]["spec"]["maxExpirationSeconds"], &json!(seconds))?;
    sign(&t, &asked[0], seconds).await?;
    succeeded(&t, "certified").await
}

async fn sign(t: &T, request: &Value, seconds: i64) -> Result<()> {
    use time::format_description::well_known::Rfc3339;
    let stub = request["spec"]["stubPKCS10Request"].as_str().unwrap_or_default();
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{stub}\n-----END CERTIFICATE REQUEST-----\n");
    let issued = Ca::generate("conformance")?.sign(&certs::Csr::parse(&pem)?, certs::Usage::Both, 1)?;
    let info = certs::inspect(&issued)?;
    let text = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let (from, to) = (info.not_before, info.not_before + time::Duration::seconds(seconds));
    let status = json!({"status": {
        "certificateChain": issued, "notBefore": text(from), "notAfter": text(to.min(info.not_after)),
        "beginRefreshAt": text(from + time::Duration::seconds(seconds / 2)),
        "conditions": [super::objects::condition("Issued", "True")],
    }});
    let name = request["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{}/status", t.path(&Res::POD_CERTIFICATE, name));
    t.api.patch(&path, crate::client::MERGE, &status).await.map(drop)
}
