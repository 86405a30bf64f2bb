//! Binding, provisioning requests and protection.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lag::{Lag, Of};
use crate::support::{CONTROLLERS, Cluster, NODE, client_of, eventually};
use crate::trap::Trap;

fn volume(name: &str, size: &str, extra: Value) -> Value {
    let mut spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"}, "persistentVolumeReclaimPolicy": "Retain"});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

fn claim(name: &str, class: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_takes_the_smallest_volume_and_releases_it() {
    let cluster = Cluster::bare().await;
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    cluster.create_global::<PersistentVolume>(volume("big", "5Gi", json!({}))).await;
    cluster.create_global::<PersistentVolume>(volume("fit", "2Gi", json!({}))).await;
    let phase = |name: &'static str, wanted: &'static str| {
        let volumes = volumes.clone();
        move || {
            let volumes = volumes.clone();
            async move {
                volumes
                    .get_opt(name)
                    .await
                    .unwrap()
                    .filter(|it| it.status.as_ref().and_then(|it| it.phase.as_deref()) == Some(wanted))
            }
        }
    };
    eventually("an available volume", phase("fit", "Available")).await;
    cluster.create::<PersistentVolumeClaim>("default", claim("data", "")).await;
    let bound = |it: &PersistentVolumeClaim| it.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Bound");
    let data =
        eventually("binding", || async { cluster.get::<PersistentVolumeClaim>("default", "data").await.filter(bound) })
            .await;
    assert_eq!(data.spec.unwrap().volume_name.as_deref(), Some("fit"));
    assert_eq!(data.status.unwrap().capacity.unwrap()["storage"].0, "2Gi");
    eventually("a bound volume", phase("fit", "Bound")).await;
    eventually("protection", || async {
        cluster
            .get::<PersistentVolumeClaim>("default", "data")
            .await
            .filter(|it| it.metadata.finalizers.iter().flatten().any(|it| it == "kubernetes.io/pvc-protection"))
    })
    .await;
    cluster.api::<PersistentVolumeClaim>("default").delete("data", &DeleteParams::default()).await.unwrap();
    eventually("the claim's end", || async {
        Some(cluster.get::<PersistentVolumeClaim>("default", "data").await).filter(Option::is_none)
    })
    .await;
    eventually("a released volume", phase("fit", "Released")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_provisioner_is_asked_once_a_node_is_chosen() {
    let cluster = Cluster::bare().await;
    let class = json!({"metadata": {"name": "local"}, "provisioner": "kinstall.io/local", "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete"});
    cluster.create_global::<StorageClass>(class).await;
    cluster.create::<PersistentVolumeClaim>("default", claim("data", "local")).await;
    let pending = |it: &PersistentVolumeClaim| it.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Pending");
    eventually("a pending claim", || async {
        cluster.get::<PersistentVolumeClaim>("default", "data").await.filter(pending)
    })
    .await;
    let asked = |it: &PersistentVolumeClaim| {
        it.metadata.annotations.as_ref().is_some_and(|it| {
            it.get("volume.kubernetes.io/storage-provisioner").map(String::as_str) == Some("kinstall.io/local")
        })
    };
    assert!(!cluster.get::<PersistentVolumeClaim>("default", "data").await.is_some_and(|it| asked(&it)));
    cluster
        .merge::<PersistentVolumeClaim>(
            "default",
            "data",
            json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": NODE}}}),
        )
        .await;
    let data = eventually("the request", || async {
        cluster.get::<PersistentVolumeClaim>("default", "data").await.filter(asked)
    })
    .await;
    let reserved = json!({"storageClassName": "local", "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "default", "name": "data", "uid": data.metadata.uid}});
    cluster.create_global::<PersistentVolume>(volume("made", "1Gi", reserved)).await;
    let bound = |it: &PersistentVolumeClaim| it.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Bound");
    let data =
        eventually("binding", || async { cluster.get::<PersistentVolumeClaim>("default", "data").await.filter(bound) })
            .await;
    assert_eq!(data.spec.unwrap().volume_name.as_deref(), Some("made"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_reservation_was_taken_away_is_not_released_for_it() {
    const STATUS: &str = "/api/v1/persistentvolumes/fit/status";
    let (lag, trap) = (Lag::default(), Trap::default());
    let cluster = Cluster::with_controllers(|server| {
        trap.client(lag.client(client_of(server, CONTROLLERS, &[]), Of::Objects, "/api/v1/persistentvolumes"))
    })
    .await;
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let phase = || async { volumes.get("fit").await.unwrap().status?.phase };
    cluster.create_global::<PersistentVolume>(volume("fit", "2Gi", json!({}))).await;
    cluster.create::<PersistentVolumeClaim>("default", claim("data", "")).await;
    let bound = |it: &PersistentVolumeClaim| it.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Bound");
    eventually("binding", || async { cluster.get::<PersistentVolumeClaim>("default", "data").await.filter(bound) })
        .await;
    assert_eq!(phase().await.as_deref(), Some("Bound"));
    // whoever has heard of this one has heard of what came before it
    cluster.create_global::<PersistentVolume>(volume("later", "1Gi", json!({"storageClassName": "other"}))).await;
    let available = |it: &PersistentVolume| it.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Available");
    eventually("the later one", || async { Some(volumes.get("later").await.unwrap()).filter(available) }).await;

    lag.begin();
    let free = json!({"spec": {"claimRef": null}});
    volumes.patch("fit", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
    let write = trap.set("PATCH", STATUS);
    cluster.api::<PersistentVolumeClaim>("default").delete("data", &DeleteParams::default()).await.unwrap();
    let write = write.await;
    let again = trap.set("PATCH", STATUS);
    write.forward();
    let again = again.await;
    assert_eq!(phase().await.as_deref(), Some("Bound"), "as it was before");
    lag.end();
    again.forward();
    eventually("a free volume", || async { phase().await.filter(|it| it == "Available") }).await;
}
