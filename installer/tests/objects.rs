//! The addons' objects at a real API server: what is planned is what is applied, and what is removed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use apiserver::{ApiServer, Config};
use hoststate::Action;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kinstall::api::apply::{Applier, ObjectChange, documents};
use kinstall::api::prune;
use kinstall::desired::render::{names, render};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

const MORE: &str = "apiVersion: v1
kind: Secret
metadata: {name: kinstall-test, namespace: kube-system}
stringData: {password: sekrit}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kinstall-test, namespace: kube-system}
data: {conf: \"a\\ntoken: sekrit\\nb\\n\"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: kinstall-test, namespace: kube-system}
spec:
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {containers: [{name: c, image: i, resources: {requests: {cpu: '0.1'}}}]}
";

async fn server() -> (tempfile::TempDir, ApiServer, Client) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    apiserver::testing::prepare(directory.path()).unwrap();
    let api = ApiServer::start(Config::in_dir(directory.path(), 0)).await.unwrap();
    let path = apiserver::testing::kubeconfig(directory.path(), api.address(), "admin").unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&std::fs::read_to_string(path).unwrap()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    (directory, api, Client::try_from(config).unwrap())
}

fn addons(but: &str) -> Vec<Value> {
    let context = json!({"image": "i", "dns_ip": "10.96.0.10", "domain": "cluster.local", "default_class": true});
    let wanted = names("addons").into_iter().filter(|name| but.is_empty() || !name.contains(but));
    wanted.flat_map(|name| documents(&render(name, &context).unwrap()).unwrap()).collect()
}

fn lines(changes: &[ObjectChange]) -> Vec<String> {
    changes.iter().map(|change| format!("{:?} {}", change.action, change.object)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_is_what_is_done() {
    let (_directory, _api, client) = server().await;
    let mut applier = Applier::new(client.clone());
    let mut wanted = addons("");
    wanted.extend(documents(MORE).unwrap());
    let created = applier.plan(&wanted).await.unwrap();
    assert_eq!(created.len(), wanted.len(), "{:?}", lines(&created));
    assert!(created.iter().all(|change| change.action == Action::Create));
    assert_eq!(applier.plan(&wanted).await.unwrap().len(), wanted.len(), "a plan changes nothing");
    applier.apply(&wanted).await.unwrap();
    let again = applier.plan(&wanted).await.unwrap();
    assert!(again.is_empty(), "0.1 and 100m are the same: {again:?}");

    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), "kube-system");
    let edit = json!({"metadata": {"labels": {"app.kubernetes.io/name": "mine"}}});
    sets.patch("kinstall-ingress", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles.delete("kinstall-dns", &DeleteParams::default()).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let edit = json!({"stringData": {"password": "sekrit-by-hand"}});
    secrets.patch("kinstall-test", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    if let Some(conf) = wanted.iter_mut().find(|document| document["kind"] == "ConfigMap") {
        conf["data"]["conf"] = json!("a\ntoken: sekrit2\nc\n");
    }
    let changes = applier.plan(&wanted).await.unwrap();
    assert_eq!(
        lines(&changes),
        [
            "Create ClusterRole kinstall-dns",
            "Update DaemonSet kube-system/kinstall-ingress",
            "Update Secret kube-system/kinstall-test",
            "Update ConfigMap kube-system/kinstall-test",
        ]
    );
    let field = &changes[1].fields[0];
    assert_eq!(changes[1].fields.len(), 1);
    assert_eq!(
        (field.field.as_str(), field.found.as_str(), field.wanted.as_str()),
        ("metadata.labels[\"app.kubernetes.io/name\"]", "\"mine\"", "\"kinstall-ingress\"")
    );
    assert!(changes[3].fields[0].diff.contains("-b\n+c"), "{:?}", changes[3]);
    let said = serde_json::to_string(&changes).unwrap() + &format!("{changes:?}");
    assert!(!said.contains("sekrit") && !said.contains("c2Vrcml0"), "{said}");
    let outcomes = applier.apply(&wanted).await.unwrap();
    let touched = outcomes.iter().filter(|(_, outcome)| *outcome != kinstall::api::apply::Outcome::Unchanged);
    let touched: Vec<_> = touched.map(|(name, _)| name.as_str()).collect();
    assert_eq!(touched, changes.iter().map(|change| change.object.as_str()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_wanted_is_planned_to_go_and_goes() {
    let (_directory, _api, client) = server().await;
    Applier::new(client.clone()).apply(&addons("")).await.unwrap();
    assert!(prune::plan(&client, &addons("")).await.unwrap().is_empty());
    let wanted = addons("ingress");
    let planned = prune::plan(&client, &wanted).await.unwrap();
    assert_eq!(
        lines(&planned),
        [
            "Remove DaemonSet kube-system/kinstall-ingress",
            "Remove IngressClass kinstall",
            "Remove ClusterRoleBinding kinstall-ingress",
            "Remove ClusterRole kinstall-ingress",
            "Remove ServiceAccount kube-system/kinstall-ingress",
        ]
    );
    let gone = prune::addons(&client, &wanted).await.unwrap();
    assert_eq!(gone, planned.iter().map(|change| change.object.clone()).collect::<Vec<_>>());
    assert!(prune::plan(&client, &wanted).await.unwrap().is_empty());
    assert!(Applier::new(client).plan(&wanted).await.unwrap().is_empty(), "what is wanted is there");
}
