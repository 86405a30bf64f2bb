//! Garbage collection and the end of namespaces.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ReplicationController, Secret, ServiceAccount};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::lag::{Lag, Of};
use crate::support::{CONTROLLERS, Cluster, client_of, deployment, eventually, template};
use crate::trap::Trap;

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
async fn orphans_survive_though_the_collector_has_not_heard_of_them_yet() {
    let lag = Lag::default();
    let lagging = |server: &_| lag.client(client_of(server, CONTROLLERS, &[]), Of::Metadata, "/api/v1/pods");
    let cluster = Cluster::with_controllers(lagging).await;
    let lost = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "00000000-0000-0000-0000-000000000000"}]);
    let pod = |name: &str| json!({"metadata": {"name": name, "ownerReferences": lost}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
    let collected = |name: &'static str| {
        let cluster = &cluster;
        async move {
            cluster.create::<Pod>("default", pod(name)).await;
            eventually("collection", || async {
                Some(cluster.get::<Pod>("default", name).await).filter(Option::is_none)
            })
            .await;
        }
    };
    collected("before").await;
    lag.begin();
    let template = template("web", "one");
    let owner =
        json!({"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": {"app": "web"}, "template": template}});
    cluster.create::<ReplicationController>("default", owner).await;
    eventually("three pods", || async { Some(cluster.list::<Pod>("default").await).filter(|it| it.len() == 3) }).await;
    let owners = cluster.api::<ReplicationController>("default");
    owners.delete("web", &DeleteParams::orphan()).await.unwrap();
    eventually("their owner's end", || async { Some(owners.get_opt("web").await.unwrap()).filter(Option::is_none) })
        .await;
    lag.end();
    // told after the three, so they have been judged, too
    collected("after").await;
    assert_eq!(cluster.list::<Pod>("default").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_an_owner_while_it_is_judged_is_not_collected() {
    const PATH: &str = "/api/v1/namespaces/default/secrets/lost";
    let trap = Trap::default();
    let cluster = Cluster::with_controllers(|server| trap.client(client_of(server, CONTROLLERS, &[]))).await;
    let real = cluster.create::<ConfigMap>("default", json!({"metadata": {"name": "real"}})).await;
    let never = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "00000000-0000-0000-0000-000000000000"});
    let solid = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "real", "uid": real.metadata.uid});
    let deletion = trap.set("DELETE", PATH);
    cluster.create::<Secret>("default", json!({"metadata": {"name": "lost", "ownerReferences": [never]}})).await;
    let deletion = deletion.await;
    cluster.merge::<Secret>("default", "lost", json!({"metadata": {"ownerReferences": [solid]}})).await;
    let second_look = trap.set("GET", PATH);
    deletion.forward();
    second_look.await.forward();
    assert!(cluster.get::<Secret>("default", "lost").await.is_some());

    // any other change holds it up, and no more
    let deletion = trap.set("DELETE", PATH);
    cluster.merge::<Secret>("default", "lost", json!({"metadata": {"ownerReferences": [never]}})).await;
    let deletion = deletion.await;
    cluster.merge::<Secret>("default", "lost", json!({"metadata": {"labels": {"a": "b"}}})).await;
    deletion.forward();
    eventually("collection", || async { Some(cluster.get::<Secret>("default", "lost").await).filter(Option::is_none) })
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

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_was_made_again_is_not_emptied() {
    let lag = Lag::default();
    let lagging = |server: &_| lag.client(client_of(server, CONTROLLERS, &[]), Of::Objects, "/api/v1/namespaces");
    let cluster = Cluster::with_controllers(lagging).await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let made = || async {
        cluster.create_global::<Namespace>(json!({"metadata": {"name": "team"}})).await;
    };
    made().await;
    // what holds its content back has it looked at again later, by then for nothing
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.org/hold"]}});
    cluster.create::<ConfigMap>("team", held).await;
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    eventually("that it is being emptied", || async {
        cluster.get::<ConfigMap>("team", "held").await.filter(|it| it.metadata.deletion_timestamp.is_some())
    })
    .await;
    lag.begin();
    cluster.merge::<ConfigMap>("team", "held", json!({"metadata": {"finalizers": null}})).await;
    eventually("its end", || async { Some(namespaces.get_opt("team").await.unwrap()).filter(Option::is_none) }).await;
    made().await;
    cluster.create::<ConfigMap>("team", json!({"metadata": {"name": "new"}})).await;
    cluster.create::<ServiceAccount>("team", json!({"metadata": {"name": "default"}})).await;
    // the pods' watch does not lag: the end of one has the namespace of that name looked at
    let pod = json!({"metadata": {"name": "passing"}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
    for _ in 0..3 {
        cluster.create::<Pod>("team", pod.clone()).await;
        cluster.api::<Pod>("team").delete("passing", &DeleteParams::default()).await.ok();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    assert!(cluster.get::<ConfigMap>("team", "new").await.is_some_and(|it| it.metadata.deletion_timestamp.is_none()));
    lag.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_server_that_is_down_holds_up_nothing_but_the_end_of_namespaces() {
    let cluster = Cluster::start().await;
    let service = json!({"namespace": "default", "name": "nowhere", "port": 443});
    let down = json!({"metadata": {"name": "v1.down.example"}, "spec": {"group": "down.example", "version": "v1",
        "service": service, "insecureSkipTLSVerify": true, "groupPriorityMinimum": 1000, "versionPriority": 10}});
    cluster.create_global::<APIService>(down).await;
    three_pods(&cluster).await;
    cluster.api::<Deployment>("default").delete("web", &DeleteParams::background()).await.unwrap();
    eventually("the pods' end", || async { Some(cluster.list::<Pod>("default").await).filter(Vec::is_empty) }).await;

    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    cluster.create_global::<Namespace>(json!({"metadata": {"name": "team"}})).await;
    cluster.create::<ConfigMap>("team", json!({"metadata": {"name": "settings"}})).await;
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    eventually("its emptiness", || async { Some(cluster.list::<ConfigMap>("team").await).filter(Vec::is_empty) }).await;
    let failure = eventually("why it is still there", || async {
        let conditions = namespaces.get_opt("team").await.unwrap()?.status?.conditions?;
        conditions.into_iter().find(|it| it.type_ == "NamespaceDeletionDiscoveryFailure" && it.status == "True")
    })
    .await;
    assert!(failure.message.as_ref().unwrap().contains("down.example/v1"), "{failure:?}");
    let services = Api::<APIService>::all(cluster.client.clone());
    services.delete("v1.down.example", &DeleteParams::default()).await.unwrap();
    eventually("its end", || async { Some(namespaces.get_opt("team").await.unwrap()).filter(Option::is_none) }).await;
}
