//! Certificates that a kubelet gets for pods. The harness is their signer: it names workloads by SPIFFE URIs.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use certs::Ca;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::containers::{log, projected, shell};
use super::objects::condition;
use super::service_accounts::succeeded;
use crate::client::MERGE;
use crate::context::{T, same};
use crate::resource::Res;
use crate::runner::Entry;

const AREA: &str = "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection]";
const LIVES: &str = "MaxExpirationSeconds validations";
const WHY: &str = "a kubelet asks for the certificate and mounts it";
/// By this annotation of the projection a pod chooses the path of its URI.
const PATH: &str = "spiffe/path-overriding";
const DAY: i64 = 24 * 3600;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("should issue certificate with default life time (24h) when MaxExpirationSeconds is not set", |t| {
            inspected(t, Value::Null, DAY, None)
        })
        .under(LIVES),
        Entry::new("should issue certificate with specified duration (1h) when MaxExpirationSeconds is set", |t| {
            inspected(t, json!({"maxExpirationSeconds": 3600}), 3600, None)
        })
        .under(LIVES),
        Entry::new("should allow server and client pods to establish an mTLS connection", mutual),
        Entry::new("should honor UserAnnotations for SPIFFE URI path", |t| {
            inspected(t, json!({"userAnnotations": {PATH: "/custom-workload"}}), DAY, Some("/custom-workload"))
        }),
    ]
    .into_iter()
    .map(|entry| entry.of_kubelets("1.37").under(AREA))
    .collect()
}

/// Signs what pods of the test's namespace ask for, until dropped.
struct Signer {
    name: String,
    anchor: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Signer {
    fn start(t: &Arc<T>) -> Result<Self> {
        let ca = Ca::generate("spiffe")?;
        let (name, anchor) = (format!("{}.example.com/spiffe", t.ns), ca.cert_pem().to_owned());
        let (t, own) = (t.clone(), name.clone());
        let task = tokio::spawn(async move {
            while let Err(error) = sign_all(&t, &own, &ca).await {
                eprintln!("signer of {}: {error:#}", t.ns);
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        });
        Ok(Signer { name, anchor, task })
    }
}

async fn sign_all(t: &T, signer: &str, ca: &Ca) -> Result<()> {
    let mut watch = t.api.watch(&Res::POD_CERTIFICATE.collection(&t.ns)).await?;
    while let Some(event) = watch.next().await? {
        let (spec, status) = (&event.object["spec"], &event.object["status"]);
        let new = matches!(event.kind.as_str(), "ADDED" | "MODIFIED") && status["conditions"].is_null();
        if new && spec["signerName"] == signer {
            sign(t, &event.object, ca).await?;
        }
    }
    anyhow::bail!("the watch ended")
}

async fn sign(t: &T, request: &Value, ca: &Ca) -> Result<()> {
    let spec = &request["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seconds = spec["maxExpirationSeconds"].as_i64().context("no maxExpirationSeconds in the request")?;
    let path = match spec["unverifiedUserAnnotations"][PATH].as_str() {
        Some(path) => path.to_owned(),
        None => format!("/ns/{}/sa/{}", t.ns, text(&spec["serviceAccountName"])),
    };
    let from = OffsetDateTime::now_utc().replace_nanosecond(0)?;
    let after = |seconds: i64| from + time::Duration::seconds(seconds);
    let stub = BASE64_STANDARD.decode(text(&spec["stubPKCS10Request"]))?;
    let chain = ca.sign_workload(&stub, (from, after(seconds)), &[format!("spiffe://cluster.local{path}")])?;
    let status = json!({"status": {
        "certificateChain": chain, "notBefore": from.format(&Rfc3339)?, "notAfter": after(seconds).format(&Rfc3339)?,
        "beginRefreshAt": after(seconds / 2).format(&Rfc3339)?, "conditions": [condition("Issued", "True")],
    }});
    let path = format!("{}/status", t.path(&Res::POD_CERTIFICATE, &text(&request["metadata"]["name"])));
    let answer = t.api.call("PATCH", &path, MERGE, &status).await?;
    // an event of before the signature is no news
    if answer.status == 404 || answer.status == 422 {
        return Ok(());
    }
    answer.ok().map(drop)
}

fn source(signer: &str, more: &Value) -> Value {
    let mut source = json!({"signerName": signer, "keyType": "ECDSAP256", "credentialBundlePath": "credentials.pem"});
    for (name, value) in more.as_object().into_iter().flatten() {
        source[name] = value.clone();
    }
    json!({"podCertificate": source})
}

/// A pod checks that key and certificate fit and prints the certificate, which must live so long and name it so.
async fn inspected(t: Arc<T>, more: Value, seconds: i64, path: Option<&str>) -> Result<()> {
    t.needs_cluster(WHY)?;
    let signer = Signer::start(&t)?;
    let (volumes, mounts) = projected(&[vec![source(&signer.name, &more)]]);
    let file = "/v/0/credentials.pem";
    let script = format!(
        "test \"$(openssl pkey -in {file} -pubout)\" = \"$(openssl x509 -in {file} -noout -pubkey)\" && openssl x509 -in {file}"
    );
    let mut container = shell(&t, &script);
    container["volumeMounts"] = mounts;
    let spec = json!({"restartPolicy": "Never", "volumes": volumes, "containers": [container]});
    t.make(&Res::POD, json!({"metadata": {"name": "inspected"}, "spec": spec})).await?;
    succeeded(&t, "inspected").await?;
    let leaf = certs::inspect(&log(&t, "inspected").await?)?;
    same("life in seconds", &(leaf.not_after - leaf.not_before).whole_seconds(), &seconds)?;
    let path = path.map_or_else(|| format!("/ns/{}/sa/default", t.ns), str::to_owned);
    same("URIs", &leaf.uris, &vec![format!("spiffe://cluster.local{path}")])
}

/// A server that lets nobody in without a certificate of the same authority, and a client that has one.
async fn mutual(t: Arc<T>) -> Result<()> {
    t.needs_cluster(WHY)?;
    let signer = Signer::start(&t)?;
    let bundle = json!({"metadata": {"name": format!("{}:primary", signer.name.replace('/', ":"))},
        "spec": {"signerName": signer.name, "trustBundle": signer.anchor}});
    t.make(&Res::TRUST_BUNDLE, bundle).await?;
    let trust = json!({"clusterTrustBundle": {"signerName": signer.name, "labelSelector": {}, "path": "trust.pem"}});
    let (volumes, mounts) = projected(&[vec![source(&signer.name, &Value::Null), trust]]);
    let own = "-cert /v/0/credentials.pem -key /v/0/credentials.pem";
    let believe = "-CAfile /v/0/trust.pem -verify_return_error";
    let serve = format!("exec openssl s_server -accept 443 -www {own} {believe} -Verify 1");
    let ask = format!(
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect server.{}.svc:443 -quiet -ign_eof",
        t.ns
    );
    let fetch = format!(
        "until {ask} {own} {believe} > /tmp/page && grep URI: /tmp/page; do sleep 1; done; \
         {ask} {believe} > /tmp/stranger; grep -c 'HTTP/1.0 200' /tmp/stranger; exec sleep 3600"
    );
    for (name, script) in [("server", serve), ("client", fetch)] {
        let labels = json!({"app": name});
        let mut container = shell(&t, &script);
        container["volumeMounts"] = mounts.clone();
        let pod = json!({"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "volumes": volumes, "containers": [container]}});
        let spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": pod});
        t.make(&Res::DEPLOYMENT, json!({"metadata": {"name": name, "labels": labels}, "spec": spec})).await?;
    }
    let spec = json!({"selector": {"app": "server"}, "ports": [{"name": "https", "port": 443}]});
    t.make(&Res::SERVICE, json!({"metadata": {"name": "server"}, "spec": spec})).await?;
    let path = format!("{}?labelSelector=app%3Dclient", Res::POD.collection(&t.ns));
    let clients = t
        .until_list("a running client", &path, |pods| matches!(pods, [pod] if pod["status"]["phase"] == "Running"))
        .await?;
    let client = clients[0]["metadata"]["name"].as_str().context("no name")?.to_owned();
    t.eventually("the connection of both pods", || async {
        let printed = log(&t, &client).await?;
        let identity = format!("URI:spiffe://cluster.local/ns/{}/sa/default", t.ns);
        ensure!(printed.contains(&identity), "no {identity} in {printed}");
        // grep counts the pages that a client without a certificate got; what openssl says on stderr may come before or after it
        let served = printed.lines().find_map(|line| line.parse::<u32>().ok());
        ensure!(served == Some(0), "a stranger was served, or was not tried yet: {printed}");
        Ok(())
    })
    .await
}
