//! The verbs, over the in-process handler.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use apiserver::Identity;
use common::Api;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn config_map(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

async fn with_account() -> Api {
    let api = Api::start().await;
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    api
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
}

#[tokio::test]
async fn writes_are_optimistic_and_idle_writes_change_nothing() {
    let api = Api::start().await;
    let made = api.create(CONFIG_MAPS, json!({"metadata": {"name": "a", "namespace": "", "uid": "", "creationTimestamp": null}, "data": {"k": "v"}})).await;
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(!made["metadata"]["uid"].as_str().unwrap().is_empty());
    let url = format!("{CONFIG_MAPS}/a");
    let (status, same) = api.call("PUT", &url, made.clone()).await;
    assert_eq!((status, &same["metadata"]["resourceVersion"]), (200, &made["metadata"]["resourceVersion"]));
    let (status, patched) =
        api.call("PATCH", &url, json!({"data": {"k": "w"}, "metadata": {"creationTimestamp": null}})).await;
    assert_eq!((status, &patched["metadata"]["creationTimestamp"]), (200, &made["metadata"]["creationTimestamp"]));
    let mut stale = made.clone();
    stale["data"]["k"] = "x".into();
    let (status, error) = api.call("PUT", &url, stale.clone()).await;
    assert_eq!((status, error["reason"].as_str()), (409, Some("Conflict")), "{error}");
    stale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(api.call("PUT", &url, stale).await.0, 200);
    assert_eq!(api.call("POST", CONFIG_MAPS, json!({"metadata": {"name": "a"}})).await.1["reason"], "AlreadyExists");
    assert_eq!(api.call("POST", CONFIG_MAPS, json!({"metadata": {"name": "a", "namespace": "b"}})).await.0, 400);
    assert_eq!(api.call("PATCH", &url, json!({"metadata": {"resourceVersion": "1"}})).await.0, 409);
    assert_eq!(
        api.call("POST", &format!("{CONFIG_MAPS}?dryRun=All"), json!({"metadata": {"name": "dry"}})).await.0,
        201
    );
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/dry")).await["reason"], "NotFound");
    let generated = api.create(CONFIG_MAPS, json!({"metadata": {"name": "", "generateName": "g-"}})).await;
    assert_eq!(generated["metadata"]["name"].as_str().unwrap().len(), 7);
}

#[tokio::test]
async fn concurrent_patches_all_land() {
    let api = Api::start().await;
    api.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    let url = format!("{CONFIG_MAPS}/a");
    let all = (0..20).map(|i| api.call("PATCH", &url, json!({"data": {format!("k{i}"): "v"}})).map_status());
    for status in futures::future::join_all(all).await {
        assert_eq!(status, 200);
    }
    assert_eq!(api.get(&url).await["data"].as_object().unwrap().len(), 21);
}

trait MapStatus {
    async fn map_status(self) -> u16;
}

impl<F: Future<Output = (u16, Value)>> MapStatus for F {
    async fn map_status(self) -> u16 {
        self.await.0
    }
}

#[tokio::test]
async fn unknown_fields_are_told() {
    let api = Api::start().await;
    let body = json!({"metadata": {"name": "a"}, "data": {}, "nonsense": 1});
    let response = api.send(common::admin(), "POST", CONFIG_MAPS, "application/json", body.clone()).await;
    assert_eq!(response.headers()["warning"], "299 - \"unknown field \\\"nonsense\\\"\"");
    let (status, error) = api.call("POST", &format!("{CONFIG_MAPS}?fieldValidation=Strict"), body).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (
            400,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"nonsense\""
        )
    );
    let response = api.send(common::admin(), "POST", CONFIG_MAPS, "application/cbor", "k8s").await;
    assert_eq!(response.status(), 415);
    let response =
        api.send(common::admin(), "POST", CONFIG_MAPS, "application/yaml", "metadata: {name: y}\ndata: {a: b}\n").await;
    assert_eq!(response.status(), 201);
}

#[tokio::test]
async fn lists_page_and_select() {
    let api = Api::start().await;
    for i in 0..7 {
        api.create(CONFIG_MAPS, config_map(&format!("c{i}"), json!({"odd": (i % 2).to_string()}))).await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=3")).await;
    assert_eq!((first["items"].as_array().unwrap().len(), &first["metadata"]["remainingItemCount"]), (3, &json!(4)));
    api.call("DELETE", &format!("{CONFIG_MAPS}/c5"), Value::Null).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{CONFIG_MAPS}?continue={token}")).await;
    let names: Vec<&str> =
        rest["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c3", "c4", "c5", "c6"], "later pages read the first page's revision");
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(rest["metadata"].get("continue").is_none() && rest["kind"] == "ConfigMapList");
    let odd = api.get(&format!("{CONFIG_MAPS}?labelSelector=odd%3D1&limit=2")).await;
    assert_eq!(odd["items"].as_array().unwrap().len(), 2);
    assert!(odd["metadata"].get("remainingItemCount").is_none());
    let one = api.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name=c1")).await;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.call("GET", &format!("{CONFIG_MAPS}?fieldSelector=x.y=1"), Value::Null).await.0, 400);
    assert_eq!(api.call("GET", &format!("{CONFIG_MAPS}?resourceVersion=x"), Value::Null).await.0, 400);
    assert_eq!(api.call("DELETE", &format!("{CONFIG_MAPS}?labelSelector=odd%3D1"), Value::Null).await.0, 200);
    assert_eq!(api.get(CONFIG_MAPS).await["items"].as_array().unwrap().len(), 4);
    assert_eq!(api.call("DELETE", "/api/v1/configmaps", Value::Null).await.0, 405);
}

#[tokio::test]
async fn watches_follow_the_selector() {
    let api = Api::start().await;
    api.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    let mut watch = api.watch("/api/v1/configmaps?watch=1&labelSelector=x%3D1").await;
    assert_eq!(watch.next().await.0, "ADDED");
    api.create(CONFIG_MAPS, config_map("b", json!({}))).await;
    let url = format!("{CONFIG_MAPS}/a");
    api.call("PATCH", &url, json!({"data": {"a": "2"}})).await;
    assert_eq!(watch.next().await.0, "MODIFIED");
    let left = api.call("PATCH", &url, json!({"metadata": {"labels": {"x": "2"}}})).await.1;
    let (kind, object) = watch.next().await;
    assert_eq!((kind.as_str(), &object["metadata"]["labels"]["x"]), ("DELETED", &json!("1")));
    assert_eq!(object["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
    api.call("PATCH", &format!("{CONFIG_MAPS}/b"), json!({"metadata": {"labels": {"x": "1"}}})).await;
    assert_eq!(watch.next().await.0, "ADDED");
    api.call("DELETE", &url, Value::Null).await;
    watch.quiet().await;
    api.call("DELETE", &format!("{CONFIG_MAPS}/b"), Value::Null).await;
    assert_eq!(watch.next().await.0, "DELETED");
}

#[tokio::test]
async fn watches_begin_where_they_are_told_and_mark_the_initial_end() {
    let api = Api::start().await;
    let made = api.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    let revision = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={revision}")).await;
    watch.quiet().await;
    let mut listing = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        ))
        .await;
    assert_eq!(listing.next().await.0, "ADDED");
    let (kind, mark) = listing.next().await;
    assert_eq!(
        (kind.as_str(), &mark["metadata"]["annotations"]["k8s.io/initial-events-end"]),
        ("BOOKMARK", &json!("true"))
    );
    let mut short = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={revision}&timeoutSeconds=1")).await;
    assert!(tokio::time::timeout(std::time::Duration::from_secs(60), short.line()).await.unwrap().is_none());
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let api = Api::start().await;
    let mut body = config_map("a", json!({}));
    body["metadata"]["finalizers"] = json!(["x.io/y"]);
    api.create(CONFIG_MAPS, body).await;
    let url = format!("{CONFIG_MAPS}/a");
    let (status, waiting) = api.call("DELETE", &url, Value::Null).await;
    assert!(status == 200 && waiting["metadata"]["deletionTimestamp"].is_string(), "{waiting}");
    assert_eq!(api.call("PATCH", &url, json!({"metadata": {"finalizers": ["x.io/y", "x.io/z"]}})).await.0, 422);
    assert_eq!(api.call("PATCH", &url, json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert_eq!(api.call("GET", &url, Value::Null).await.0, 404);
    api.create(CONFIG_MAPS, config_map("b", json!({}))).await;
    let (_, waiting) =
        api.call("DELETE", &format!("{CONFIG_MAPS}/b"), json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let wrong = json!({"preconditions": {"uid": "other"}});
    assert_eq!(api.call("DELETE", &format!("{CONFIG_MAPS}/b"), wrong).await.0, 409);
}

#[tokio::test]
async fn pods_get_time_to_stop_and_status_is_apart() {
    let api = with_account().await;
    let made = api.create(PODS, pod("p")).await;
    assert_eq!((&made["status"]["phase"], &made["metadata"]["generation"]), (&json!("Pending"), &json!(1)));
    assert!(made["spec"]["volumes"][0]["name"].as_str().unwrap().starts_with("kube-api-access-"));
    let url = format!("{PODS}/p");
    let (status, _) =
        api.call("POST", &format!("{url}/binding"), json!({"target": {"kind": "Node", "name": "n1"}})).await;
    assert_eq!(status, 201);
    let (status, again) =
        api.call("POST", &format!("{url}/binding"), json!({"target": {"kind": "Node", "name": "n2"}})).await;
    assert_eq!(status, 409, "{again}");
    let (status, run) = api
        .call("PATCH", &format!("{url}/status"), json!({"status": {"phase": "Running"}, "spec": {"nodeName": "evil"}}))
        .await;
    assert_eq!((status, &run["status"]["phase"], &run["spec"]["nodeName"]), (200, &json!("Running"), &json!("n1")));
    let (_, main) =
        api.call("PATCH", &url, json!({"status": {"phase": "Failed"}, "metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(main["status"]["phase"], "Running");
    let selected = api.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let (_, waiting) = api.call("DELETE", &url, Value::Null).await;
    assert_eq!(waiting["metadata"]["deletionGracePeriodSeconds"], 30);
    let (_, sooner) = api.call("DELETE", &format!("{url}?gracePeriodSeconds=5"), Value::Null).await;
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    assert_eq!(api.call("DELETE", &url, json!({"gracePeriodSeconds": 0})).await.0, 200);
    assert_eq!(api.call("GET", &url, Value::Null).await.0, 404);
    let (status, error) =
        api.call("POST", PODS, json!({"metadata": {"name": "bad"}, "spec": {"containers": []}})).await;
    assert_eq!((status, error["reason"].as_str()), (422, Some("Invalid")), "{error}");
}

#[tokio::test]
async fn namespaces_end_when_they_are_finalized() {
    let api = Api::start().await;
    let url = "/api/v1/namespaces/gone";
    api.create("/api/v1/namespaces", json!({"metadata": {"name": "gone"}})).await;
    let (_, waiting) = api.call("DELETE", url, Value::Null).await;
    assert_eq!(
        (&waiting["status"]["phase"], &waiting["spec"]["finalizers"]),
        (&json!("Terminating"), &json!(["kubernetes"]))
    );
    let (status, error) = api.call("POST", &format!("{url}/configmaps"), json!({"metadata": {"name": "x"}})).await;
    assert_eq!((status, error["details"]["causes"][0]["reason"].as_str()), (403, Some("NamespaceTerminating")));
    let mut empty = waiting.clone();
    empty["spec"]["finalizers"] = json!([]);
    assert_eq!(api.call("PUT", &format!("{url}/finalize"), empty).await.0, 200);
    assert_eq!(api.call("GET", url, Value::Null).await.0, 404);
    assert_eq!(api.call("POST", &format!("{url}/configmaps"), json!({"metadata": {"name": "x"}})).await.0, 404);
    assert_eq!(api.call("DELETE", "/api/v1/namespaces/default", Value::Null).await.0, 403);
}

#[tokio::test]
async fn services_never_share_addresses_or_ports() {
    let api = Api::start().await;
    let url = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let many = (0..20)
        .map(|i| api.create(url, service(&format!("s{i}"), json!({"type": "NodePort", "ports": [{"port": 80}]}))));
    let made = futures::future::join_all(many).await;
    let addresses: std::collections::BTreeSet<String> =
        made.iter().map(|s| s["spec"]["clusterIP"].to_string()).collect();
    let ports: std::collections::BTreeSet<String> =
        made.iter().map(|s| s["spec"]["ports"][0]["nodePort"].to_string()).collect();
    assert_eq!((addresses.len(), ports.len()), (20, 20));
    let fixed = json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}]});
    api.create(url, service("dns", fixed.clone())).await;
    let (status, error) = api.call("POST", url, service("dns2", fixed.clone())).await;
    assert_eq!(status, 422);
    assert!(error["message"].as_str().unwrap().contains("provided IP is already allocated"), "{error}");
    api.call("DELETE", &format!("{url}/dns"), Value::Null).await;
    api.create(url, service("dns3", fixed)).await;
    let port = made[0]["spec"]["ports"][0]["nodePort"].clone();
    assert_eq!(api.call("PATCH", &format!("{url}/s0"), json!({"spec": {"type": "ClusterIP"}})).await.0, 200);
    api.create(url, service("reuse", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}))).await;
    assert_eq!(
        api.call("POST", url, service("out", json!({"clusterIP": "10.97.0.1", "ports": [{"port": 1}]}))).await.0,
        422
    );
}

#[tokio::test]
async fn scale_reads_and_writes_replicas() {
    let api = Api::start().await;
    let url = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    api.create(
        url,
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}),
    )
    .await;
    let mut scale = api.get(&format!("{url}/d/scale")).await;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(1), &json!("a=b")));
    scale["spec"]["replicas"] = 4.into();
    assert_eq!(api.call("PUT", &format!("{url}/d/scale"), scale.clone()).await.0, 200);
    assert_eq!(api.call("PUT", &format!("{url}/d/scale"), scale).await.0, 409, "the revision in it is old now");
    for body in [json!({}), json!({"spec": {"replicas": "0"}}), json!({"spec": 3}), json!({"spec": {"replicas": null}})]
    {
        let (status, answer) = api.call("PATCH", &format!("{url}/d/scale"), body.clone()).await;
        assert_eq!(status, if body == json!({}) { 200 } else { 400 }, "{body}: {answer}");
    }
    for spec in [json!(null), json!({"replicas": "0"}), json!([])] {
        let mut body = json!({"metadata": {"name": "d"}});
        body["spec"] = spec;
        assert_eq!(api.call("PUT", &format!("{url}/d/scale"), body).await.0, 400);
    }
    let deployment = api.get(&format!("{url}/d")).await;
    assert_eq!((&deployment["spec"]["replicas"], &deployment["metadata"]["generation"]), (&json!(4), &json!(2)));
}

#[tokio::test]
async fn data_survives_a_restart() {
    let mut api = Api::start().await;
    let made = api.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    let service = api.get("/api/v1/namespaces/default/services/kubernetes").await;
    api.restart().await;
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await, made);
    assert_eq!(
        api.get("/api/v1/namespaces/default/services/kubernetes").await["spec"]["clusterIP"],
        service["spec"]["clusterIP"]
    );
    // As an event: a watcher that is answered 410 itself asks for the same revision for ever.
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=1")).await;
    let (kind, error) = watch.next().await;
    assert_eq!((kind.as_str(), &error["code"], &error["reason"]), ("ERROR", &json!(410), &json!("Expired")), "{error}");
}

#[tokio::test]
async fn kube_clients_speak_through_the_handler() {
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    let api = Api::start().await;
    let client =
        kube::Client::new(api.server().handler_as(Identity::new("system:kube-controller-manager", [""; 0])), "default");
    let namespaces = kube::Api::<Namespace>::all(client.clone()).list(&Default::default()).await.unwrap();
    assert_eq!(namespaces.items.len(), 4);
    let maps = kube::Api::<ConfigMap>::namespaced(client, "default");
    let mut map = ConfigMap::default();
    map.metadata.name = Some("m".into());
    maps.create(&Default::default(), &map).await.unwrap();
    let events = maps.watch(&Default::default(), "0").await.unwrap();
    let first = futures::StreamExt::next(&mut Box::pin(events)).await.unwrap().unwrap();
    assert!(matches!(first, kube::core::WatchEvent::Added(m) if m.metadata.name.as_deref() == Some("m")));
    maps.delete("m", &Default::default()).await.unwrap();
}

#[tokio::test]
async fn updates_are_validated_as_creates_are() {
    let api = Api::start().await;
    api.create(CONFIG_MAPS, config_map("m", json!({}))).await;
    for metadata in [
        json!({"labels": {"bad key!": "x"}}),
        json!({"labels": {"key": "bad value!"}}),
        json!({"annotations": {"bad key!": "x"}}),
        json!({"finalizers": ["bad one!"]}),
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "", "name": "x", "uid": "y"}]}),
    ] {
        let (status, answer) = api.call("PATCH", &format!("{CONFIG_MAPS}/m"), json!({"metadata": metadata})).await;
        assert_eq!(status, 422, "{answer}");
    }
}

#[tokio::test]
async fn huge_times_are_only_long() {
    let api = Api::start().await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}});
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    api.create("/api/v1/namespaces/default/pods", pod).await;
    let options = json!({"gracePeriodSeconds": i64::MAX});
    let (status, answer) = api.call("DELETE", "/api/v1/namespaces/default/pods/p", options).await;
    assert_eq!((status, &answer["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(i32::MAX)), "{answer}");
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds={}", i64::MAX)).await;
    api.create(CONFIG_MAPS, config_map("m", json!({}))).await;
    while watch.next().await.1["metadata"]["name"] != "m" {}
}

#[tokio::test]
async fn a_refused_eviction_leaves_the_budget() {
    let api = Api::start().await;
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}});
    api.create("/api/v1/namespaces/default/pods", pod).await;
    let pod = "/api/v1/namespaces/default/pods/p";
    api.call("PATCH", &format!("{pod}/status"), json!({"status": {"phase": "Running"}})).await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    api.create(
        budgets,
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 0, "selector": {"matchLabels": {"a": "b"}}}}),
    )
    .await;
    let status = json!({"status": {"disruptionsAllowed": 1, "observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 0, "expectedPods": 1}});
    assert_eq!(api.call("PATCH", &format!("{budgets}/b/status"), status).await.0, 200);
    let eviction = |uid: &str| json!({"metadata": {"name": "p"}, "deleteOptions": {"preconditions": {"uid": uid}}});
    let (status, answer) = api.call("POST", &format!("{pod}/eviction"), eviction("other")).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(api.get(&format!("{budgets}/b")).await["status"]["disruptionsAllowed"], 1);
    let uid = api.get(pod).await["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(api.call("POST", &format!("{pod}/eviction"), eviction(&uid)).await.0, 201);
    assert_eq!(api.get(&format!("{budgets}/b")).await["status"]["disruptionsAllowed"], 0);
}

#[tokio::test]
async fn yaml_aliases_are_no_bomb() {
    let api = Api::start().await;
    let long = "x".repeat(50_000);
    let mut text =
        format!("kind: ConfigMap\napiVersion: v1\nmetadata: {{name: m}}\nx0: &x0 [{}]\n", vec![long; 10].join(","));
    for i in 1..8 {
        text += &format!("x{i}: &x{i} [{}]\n", vec![format!("*x{}", i - 1); 9].join(","));
    }
    let response = api.send(common::admin(), "POST", CONFIG_MAPS, "application/yaml", text).await;
    assert_eq!(response.status(), 400);
}
