//! A host that goes, or whose disk is full, while `up` waits for addons: told, and its pods are not waited for.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use apiserver::{ApiServer, Config};
use k8s_openapi::api::core::v1::Node;
use kinstall::api::Servers;
use kinstall::api::apply::{Applier, documents};
use kinstall::validate::{Patience, addons_available};
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

/// What the node's kubelet, or the cluster in its place, says of it.
async fn told(client: &Client, type_: &str, status: &str) {
    let condition = json!({"type": type_, "status": status, "reason": "Test", "message": ""});
    let patch = json!({"status": {"conditions": [condition]}});
    let nodes = Api::<Node>::all(client.clone());
    nodes.patch_status("h2", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_or_full_is_not_waited_for() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    apiserver::testing::prepare(directory.path()).unwrap();
    let api = ApiServer::start(Config::in_dir(directory.path(), 0)).await.unwrap();
    let path = apiserver::testing::kubeconfig(directory.path(), api.address(), "admin").unwrap();
    let servers = Servers::open(&std::fs::read_to_string(path).unwrap()).await.unwrap();
    let client = servers.ready(Duration::from_secs(10)).await.unwrap().client;
    let addons = documents(ADDON).unwrap();
    Applier::new(client.clone()).apply(&[addons.clone(), documents(NODE).unwrap()].concat()).await.unwrap();
    told(&client, "Ready", "True").await;

    let waits = |timeout, patience| {
        let (client, addons) = (client.clone(), addons.clone());
        tokio::spawn(async move {
            let waited = addons_available(&client, &addons, timeout, patience).await;
            waited.unwrap_err().to_string()
        })
    };
    let (brief, long) = (Duration::from_millis(300), Duration::from_secs(60));
    // one that comes back is waited for as before
    let waiting = waits(Duration::from_secs(2), Patience { silent: long, full: long });
    for (type_, between) in [("Ready", "Unknown"), ("DiskPressure", "True")] {
        told(&client, type_, between).await;
        told(&client, type_, if type_ == "Ready" { "True" } else { "False" }).await;
    }
    let said = waiting.await.unwrap();
    assert!(said.contains("not available") && said.contains("DaemonSet kube-system/addon"), "{said}");

    for (type_, hindered, patience, words) in [
        ("DiskPressure", "True", Patience { silent: long, full: brief }, "h2 has hardly any room left on its disk"),
        ("Ready", "Unknown", Patience { silent: brief, full: long }, "h2 has not said a word"),
    ] {
        let waiting = waits(Duration::from_secs(120), patience);
        told(&client, type_, hindered).await;
        let said = tokio::time::timeout(long, waiting).await.unwrap().unwrap();
        assert!(said.starts_with(words), "{said}");
        told(&client, type_, "False").await;
    }
}
