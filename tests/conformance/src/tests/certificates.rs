//! certificates.k8s.io: signing requests, requests for pods, trust bundles.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use certs::{Ca, Subject};
use serde_json::{Value, json};

use super::objects::{condition, pod};
use crate::client::{JSON, MERGE};
use crate::context::{T, names, same};
use crate::lifecycle::{Lifecycle, discovered, write_status};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    let mut all = vec![
        Entry::new("[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations", csr),
        Entry::new(
            "[sig-auth] PodCertificateRequest API [Privileged:ClusterAdmin] should support PodCertificateRequest API operations",
            pod_certificate,
        ),
        Entry::new(
            "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] CRUD Tests certificates.k8s.io/v1 ClusterTrustBundles [MinimumKubeletVersion:1.37]",
            trust_bundle,
        ),
    ];
    let limits = vec![
        Entry::new(
            "reject pod creation when MaxExpirationSeconds exceeds maximum (91d) [MinimumKubeletVersion:1.37]",
            |t| lifetime(t, 91 * 24 * 3600 + 1),
        ),
        Entry::new(
            "reject pod creation when MaxExpirationSeconds is less than minimum (1h) [MinimumKubeletVersion:1.37]",
            |t| lifetime(t, 3599),
        ),
    ];
    all.extend(limits.into_iter().map(|entry| {
        entry.under("[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] MaxExpirationSeconds validations should")
    }));
    all
}

fn request(subject: &Subject) -> Result<String> {
    let key = certs::generate_key()?;
    Ok(certs::create_csr(&key, subject, &[])?)
}

async fn csr(t: Arc<T>) -> Result<()> {
    discovered(&t, &Res::CSR, &["status", "approval"]).await?;
    let pem = request(&Subject::new("e2e-example.com", &["e2e"]))?;
    // nobody signs for this signer, so that the test alone changes the requests
    let signer = format!("{}.example.com/signer", t.ns);
    let spec = json!({"request": BASE64_STANDARD.encode(&pem), "signerName": signer, "usages": ["digital signature", "key encipherment", "server auth"],
        "expirationSeconds": 3600});
    for number in 0..3 {
        let labels = json!({"conformance": t.ns});
        let body = json!({"metadata": {"name": format!("{}-{number}", t.ns), "labels": labels}, "spec": spec});
        let made = t.make(&Res::CSR, body).await?;
        ensure!(made["spec"]["username"].is_string(), "the requester is not written down: {made}");
    }
    let path = Res::CSR.named("", &format!("{}-0", t.ns));
    let selected = format!("{}?fieldSelector=spec.signerName%3D{}", Res::CSR.everywhere(), signer.replace('/', "%2F"));
    let list = t.api.get(&selected).await?;
    same("requests for the signer", &names(&list).len(), &3)?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let mut watch = t.api.watch(&format!("{selected}&resourceVersion={version}")).await?;
    t.api.patch(&path, MERGE, &json!({"metadata": {"annotations": {"patched": "true"}}})).await?;
    t.update(&path, |csr| csr["metadata"]["annotations"]["updated"] = json!("true")).await?;
    watch
        .until("both changes", |event| {
            event.kind == "MODIFIED" && event.object["metadata"]["annotations"]["updated"] == "true"
        })
        .await?;

    let approval = format!("{path}/approval");
    same("by /approval", &t.api.get(&approval).await?["spec"]["signerName"], &json!(signer))?;
    let approved = json!({"metadata": {"annotations": {"patchedapproval": "true"}}, "status": {"conditions": [
        {"type": "ApprovalPatch", "status": "True", "reason": "e2e"}]}});
    let patched = t.api.patch(&approval, MERGE, &approved).await?;
    same("condition", &patched["status"]["conditions"][0]["type"], &json!("ApprovalPatch"))?;
    t.update(&approval, |csr| {
        if let Some(all) = csr["status"]["conditions"].as_array_mut() {
            all.push(json!({"type": "Approved", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}));
        }
    })
    .await?;
    let certificate = BASE64_STANDARD.encode(Ca::generate("conformance")?.cert_pem());
    let status = json!({"status": {"certificate": certificate}});
    write_status(&t, &path, &status, "/status/certificate").await?;
    let main = t.api.patch(&path, MERGE, &json!({"status": null})).await?;
    ensure!(main["status"]["certificate"].is_string(), "a main patch took the status away: {main}");

    t.api.delete(&path, &Value::Null).await?;
    watch.until("the deletion", |event| event.kind == "DELETED").await?;
    same("left", &names(&t.api.get(&selected).await?).len(), &2)?;
    t.api.call("DELETE", &selected, JSON, &Value::Null).await?.ok()?;
    t.until_list("end of the requests", &selected, <[Value]>::is_empty).await.map(drop)
}

/// DER of an empty signing request, as a kubelet makes it.
fn stub() -> Result<String> {
    let pem = request(&Subject::new("", &[]))?;
    Ok(pem.lines().filter(|line| !line.starts_with("-----")).collect())
}

async fn pod_certificate(t: Arc<T>) -> Result<()> {
    let running = t.make(&Res::POD, pod(&t, "asker")).await?;
    let bound = t.until("a bound pod", &t.path(&Res::POD, "asker"), |pod| pod["spec"]["nodeName"].is_string()).await?;
    let node = bound["spec"]["nodeName"].as_str().context("no node")?.to_owned();
    let node_uid = t.api.get(&Res::NODE.named("", &node)).await?["metadata"]["uid"].clone();
    let account = t.read(&Res::SERVICE_ACCOUNT, "default").await?;
    let signer = format!("{}.example.com/signer", t.ns);
    let stub = stub()?;
    let spec = json!({
        "signerName": signer, "podName": "asker", "podUID": running["metadata"]["uid"], "serviceAccountName": "default",
        "serviceAccountUID": account["metadata"]["uid"], "nodeName": node, "nodeUID": node_uid, "stubPKCS10Request": stub,
    });
    let life = Lifecycle {
        res: Res::POD_CERTIFICATE,
        object: Box::new(move |_, number| json!({"metadata": {"name": format!("request-{number}")}, "spec": spec})),
        change: None,
        status: Some((json!({"status": {"conditions": [condition("Denied", "True")]}}), "/status/conditions/0/type")),
        deletes_collection: true,
    };
    life.run(&t).await
}

async fn trust_bundle(t: Arc<T>) -> Result<()> {
    let life = Lifecycle {
        res: Res::TRUST_BUNDLE,
        object: Box::new(|t, number| {
            let ca = Ca::generate(&format!("root-{number}")).map(|ca| ca.cert_pem().to_owned()).unwrap_or_default();
            json!({"metadata": {"name": format!("{0}.test:{0}:{number}", t.ns)},
                "spec": {"signerName": format!("{0}.test/{0}", t.ns), "trustBundle": ca}})
        }),
        change: Some((json!({"spec": {"trustBundle": Ca::generate("another")?.cert_pem()}}), "/spec/trustBundle")),
        status: None,
        deletes_collection: true,
    };
    life.run(&t).await?;
    let bad = json!({"metadata": {"name": format!("{}-bad", t.ns)}, "spec": {"trustBundle": "no certificate"}});
    t.try_make(&Res::TRUST_BUNDLE, bad).await?.refused(422, "spec.trustBundle").map(drop)
}

/// A pod that asks for a certificate with a life outside of the limits is not created.
async fn lifetime(t: Arc<T>, seconds: u32) -> Result<()> {
    let source = |seconds: u32| {
        let mut body = pod(&t, "certified");
        let projection = json!({"signerName": format!("{}.example.com/signer", t.ns), "keyType": "ED25519",
            "credentialBundlePath": "bundle.pem", "maxExpirationSeconds": seconds});
        body["spec"]["volumes"] = json!([{"name": "c", "projected": {"sources": [{"podCertificate": projection}]}}]);
        body["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "c", "mountPath": "/c"}]);
        body
    };
    t.try_make(&Res::POD, source(seconds)).await?.refused(422, "maxExpirationSeconds")?;
    let good = t.make(&Res::POD, source(3600)).await?;
    let projection = &good["spec"]["volumes"][0]["projected"]["sources"][0]["podCertificate"];
    same("maxExpirationSeconds", &projection["maxExpirationSeconds"], &json!(3600))
}
