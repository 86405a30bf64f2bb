//! A host that goes while `up` waits for addons: told, and its pods are not waited for.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use apiserver::{ApiServer, Config};
use k8s_openapi::api::core::v1::Node;
use kinstall::api::Servers;
use kinstall::api::apply::{Applier, documents};
use kinstall::validate::addons_available;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

const ADDON: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: addon, namespace: kube-system}
spec:
  selector: {matchLabels: {app: addon}}
  template:
    metadata: {labels: {app: addon}}
    spec: {containers: [{name: addon, image: addon}]}
";
const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: h2}
";

async fn ready(client: &Client, status: &str) {
    let condition = json!({"type": "Ready", "status": status, "reason": "Test", "message": ""});
    let patch = json!({"status": {"conditions": [condition]}});
    let nodes = Api::<Node>::all(client.clone());
    nodes.patch_status("h2", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_is_not_waited_for() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    apiserver::testing::prepare(directory.path()).unwrap();
    let api = ApiServer::start(Config::in_dir(directory.path(), 0)).await.unwrap();
    let path = apiserver::testing::kubeconfig(directory.path(), api.address(), "admin").unwrap();
    let servers = Servers::open(&std::fs::read_to_string(path).unwrap()).await.unwrap();
    let client = servers.ready(Duration::from_secs(10)).await.unwrap().client;
    let addons = documents(ADDON).unwrap();
    Applier::new(client.clone()).apply(&[addons.clone(), documents(NODE).unwrap()].concat()).await.unwrap();
    ready(&client, "True").await;

    let waits = |timeout, back_within| {
        let (client, addons) = (client.clone(), addons.clone());
        tokio::spawn(async move {
            let waited = addons_available(&client, &addons, timeout, back_within).await;
            waited.unwrap_err().to_string()
        })
    };
    // one that comes back is waited for as before
    let waiting = waits(Duration::from_secs(2), Duration::from_secs(60));
    ready(&client, "Unknown").await;
    ready(&client, "True").await;
    let said = waiting.await.unwrap();
    assert!(said.contains("not available") && said.contains("DaemonSet kube-system/addon"), "{said}");

    let waiting = waits(Duration::from_secs(120), Duration::from_millis(300));
    ready(&client, "Unknown").await;
    let said = tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
    assert!(said.starts_with("h2 has not said a word"), "{said}");
}
