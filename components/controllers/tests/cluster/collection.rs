//! Garbage collection and the end of namespaces.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::support::{Cluster, deployment, eventually};

async fn three_pods(cluster: &Cluster) {
    cluster.create::<Deployment>("default", deployment("web", "one", 3)).await;
    eventually("three pods", || async { Some(cluster.list::<Pod>("default").await).filter(|it| it.len() == 3) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn background_and_foreground_deletion_take_dependents() {
    let cluster = Cluster::start().await;
    for policy in [DeleteParams::background(), DeleteParams::foreground()] {
        three_pods(&cluster).await;
        cluster.api::<Deployment>("default").delete("web", &policy).await.unwrap();
        eventually("the pods' end", || async { Some(cluster.list::<Pod>("default").await).filter(Vec::is_empty) })
            .await;
        eventually("the sets' end", || async {
            Some(cluster.list::<ReplicaSet>("default").await).filter(Vec::is_empty)
        })
        .await;
        eventually("the deployment's end", || async {
            Some(cluster.list::<Deployment>("default").await).filter(Vec::is_empty)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_survive_and_vanished_owners_are_noticed() {
    let cluster = Cluster::start().await;
    three_pods(&cluster).await;
    cluster.api::<Deployment>("default").delete("web", &DeleteParams::orphan()).await.unwrap();
    eventually("the deployment's end", || async {
        Some(cluster.list::<Deployment>("default").await).filter(Vec::is_empty)
    })
    .await;
    let sets = cluster.list::<ReplicaSet>("default").await;
    assert!(sets[0].metadata.owner_references.as_ref().is_none_or(Vec::is_empty));
    assert_eq!(cluster.list::<Pod>("default").await.len(), 3);

    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "00000000-0000-0000-0000-000000000000"});
    cluster.create::<Secret>("default", json!({"metadata": {"name": "lost", "ownerReferences": [owner]}})).await;
    eventually("collection", || async { Some(cluster.get::<Secret>("default", "lost").await).filter(Option::is_none) })
        .await;
    let real = cluster.create::<ConfigMap>("default", json!({"metadata": {"name": "real"}})).await;
    let solid = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "real", "uid": real.metadata.uid});
    cluster.create::<Secret>("default", json!({"metadata": {"name": "half", "ownerReferences": [owner, solid]}})).await;
    eventually("one owner less", || async {
        cluster
            .get::<Secret>("default", "half")
            .await
            .filter(|it| it.metadata.owner_references.as_ref().unwrap().len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_furnished_and_emptied() {
    let cluster = Cluster::start().await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    cluster.create_global::<Namespace>(json!({"metadata": {"name": "team"}})).await;
    eventually("its service account", || async { cluster.get::<ServiceAccount>("team", "default").await }).await;
    let root = eventually("its root CA", || async { cluster.get::<ConfigMap>("team", "kube-root-ca.crt").await }).await;
    let expected = std::fs::read_to_string(cluster.dir.path().join("ca.crt")).unwrap();
    assert_eq!(root.data.unwrap()["ca.crt"], expected);
    cluster.merge::<ConfigMap>("team", "kube-root-ca.crt", json!({"data": {"ca.crt": "changed"}})).await;
    eventually("its restoration", || async {
        cluster
            .get::<ConfigMap>("team", "kube-root-ca.crt")
            .await
            .filter(|it| it.data.as_ref().unwrap()["ca.crt"] == expected)
    })
    .await;

    cluster.create::<Deployment>("team", deployment("web", "one", 2)).await;
    eventually("its pods", || async { Some(cluster.list::<Pod>("team").await).filter(|it| it.len() == 2) }).await;
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    eventually("its end", || async { Some(namespaces.get_opt("team").await.unwrap()).filter(Option::is_none) }).await;
    assert!(cluster.list::<Pod>("team").await.is_empty());
}
