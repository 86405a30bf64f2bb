//! Node ranges, taints and evictions.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::lag::{Lag, Of};
use crate::support::{CONTROLLERS, Cluster, NODE, client_of, eventually, template};

#[tokio::test(flavor = "multi_thread")]
async fn every_node_has_its_own_range() {
    let cluster = Cluster::bare().await;
    for name in ["a", "b", "c"] {
        cluster.add_node(name).await;
    }
    let nodes = Api::<Node>::all(cluster.client.clone());
    let ranges = eventually("three ranges", || async {
        let items = nodes.list(&Default::default()).await.unwrap().items;
        Some(items.into_iter().filter_map(|it| it.spec?.pod_cidr).collect::<std::collections::BTreeSet<_>>())
            .filter(|it| it.len() == 3)
    })
    .await;
    assert_eq!(ranges.into_iter().collect::<Vec<_>>(), ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unready_node_is_tainted_emptied_and_recovers() {
    let cluster = Cluster::start().await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let set_ready = |status: &'static str| {
        let nodes = nodes.clone();
        async move {
            let patch = json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}});
            nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
    };
    let mut pod = template("x", "one");
    pod["metadata"]["name"] = json!("brief");
    pod["spec"]["tolerations"] = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]);
    cluster.create::<Pod>("default", pod.clone()).await;
    pod["metadata"]["name"] = json!("patient");
    pod["spec"]["tolerations"][0]["tolerationSeconds"] = json!(600);
    cluster.create::<Pod>("default", pod).await;
    let is_ready = |it: &Pod| {
        it.status
            .iter()
            .flat_map(|it| it.conditions.iter().flatten())
            .any(|it| it.type_ == "Ready" && it.status == "True")
    };
    eventually("a ready pod", || async { cluster.get::<Pod>("default", "patient").await.filter(is_ready) }).await;
    set_ready("False").await;
    let taints = |node: &Node| {
        node.spec.as_ref().unwrap().taints.iter().flatten().map(|it| it.effect.clone()).collect::<Vec<_>>()
    };
    eventually("taints", || async {
        nodes.get_opt(NODE).await.unwrap().filter(|it| taints(it) == ["NoSchedule", "NoExecute"])
    })
    .await;
    eventually("eviction", || async { Some(cluster.get::<Pod>("default", "brief").await).filter(Option::is_none) })
        .await;
    eventually("an unready pod", || async {
        cluster.get::<Pod>("default", "patient").await.filter(|it| !is_ready(it))
    })
    .await;
    set_ready("True").await;
    eventually("no taints", || async { nodes.get_opt(NODE).await.unwrap().filter(|it| taints(it).is_empty()) }).await;
    assert!(cluster.get::<Pod>("default", "patient").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_a_node_that_came_back_is_not_evicted_for_an_old_taint() {
    let lag = Lag::default();
    let cluster = Cluster::with_controllers(|server| {
        lag.client(client_of(server, CONTROLLERS, &[]), Of::Objects, "/api/v1/nodes")
    })
    .await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let taint = |name: &'static str, taints: serde_json::Value| {
        let nodes = nodes.clone();
        async move {
            let patch = json!({"spec": {"taints": taints}});
            nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
    };
    let pod = |name: &str, node: &str| {
        let mut pod = template("x", "one");
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["nodeName"] = json!(node);
        pod["spec"]["tolerations"] =
            json!([{"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        pod
    };
    let evicted = |name: &'static str| {
        let cluster = &cluster;
        move || async move {
            let pod = cluster.get::<Pod>("default", name).await?;
            let marked = pod.status.as_ref()?.conditions.iter().flatten().any(|it| it.type_ == "DisruptionTarget");
            Some(pod).filter(|it| marked || it.metadata.deletion_timestamp.is_some())
        }
    };
    for name in ["back", "broken"] {
        cluster.add_node(name).await;
        taint(name, json!([{"key": "broken", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}])).await;
        // seen with their taints by the controllers
        let before = if name == "back" { "first" } else { "second" };
        cluster.create::<Pod>("default", pod(before, name)).await;
        eventually("eviction", evicted(before)).await;
    }
    lag.begin();
    taint("back", json!([])).await;
    cluster.create::<Pod>("default", pod("new", "back")).await;
    cluster.create::<Pod>("default", pod("witness", "broken")).await;
    eventually("the eviction of what came after it", evicted("witness")).await;
    assert!(evicted("new")().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_a_node_that_came_back_stays_ready() {
    let lag = Lag::default();
    let cluster = Cluster::with_controllers(|server| {
        lag.client(client_of(server, CONTROLLERS, &[]), Of::Objects, "/api/v1/nodes")
    })
    .await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let ready = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}});
    let is_ready = |it: &Pod| {
        let conditions = it.status.iter().flat_map(|it| it.conditions.iter().flatten());
        conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
    };
    for (node, pod) in [("back", "new"), ("away", "witness")] {
        cluster.add_node(node).await;
        let mut object = template("x", "one");
        object["metadata"]["name"] = json!(pod);
        object["spec"]["nodeName"] = json!(node);
        object["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        cluster.create::<Pod>("default", object).await;
        nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(&ready("False"))).await.unwrap();
        // the controllers know it: a new node has the other taint from the start
        let seen = |node: &Node| node.spec.as_ref().unwrap().taints.iter().flatten().any(|it| it.effect == "NoExecute");
        eventually("taints", || async { Some(nodes.get(node).await.unwrap()).filter(seen) }).await;
    }
    lag.begin();
    nodes.patch_status("back", &PatchParams::default(), &Patch::Merge(&ready("True"))).await.unwrap();
    let pods = cluster.api::<Pod>("default");
    for pod in ["new", "witness"] {
        pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(&ready("True"))).await.unwrap();
    }
    eventually("the mark of the other", || async {
        Some(pods.get("witness").await.unwrap()).filter(|it| !is_ready(it))
    })
    .await;
    assert!(is_ready(&pods.get("new").await.unwrap()));
}
