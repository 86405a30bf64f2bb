//! Addresses of Services: IPAddress objects, and the ServiceCIDRs they come from.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Api;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

fn service(name: &str, spec: Value) -> Value {
    let mut all = json!({"ports": [{"port": 80}]});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": all})
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn every_cluster_ip_is_an_object() {
    let mut api = Api::start().await;
    let own = api.get(&format!("{ADDRESSES}/10.96.0.1")).await;
    assert_eq!(own["spec"]["parentRef"], json!({"resource": "services", "namespace": "default", "name": "kubernetes"}));
    let mut watch =
        api.watch(&format!("{ADDRESSES}?watch=1&resourceVersion={}", text(&own, "/metadata/resourceVersion"))).await;
    let made = api.create(SERVICES, service("a", json!({}))).await;
    let address = text(&made, "/spec/clusterIP").to_owned();
    let (kind, object) = watch.next().await;
    assert_eq!((kind.as_str(), text(&object, "/metadata/name")), ("ADDED", address.as_str()));
    assert_eq!(
        object["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    assert_eq!(object["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "one transaction");
    let table = api.kubectl_ok(&["get", "ip", &address, "--no-headers"], "").await;
    assert_eq!(table.split_whitespace().take(2).collect::<Vec<_>>(), [address.as_str(), "services/default/a"]);
    // what is taken is taken, by whomever
    api.create(
        ADDRESSES,
        json!({"metadata": {"name": "10.96.0.77"}, "spec": {"parentRef": {"resource": "x", "name": "y"}}}),
    )
    .await;
    for taken in [address.as_str(), "10.96.0.77"] {
        let (status, error) = api.call("POST", SERVICES, service("b", json!({"clusterIP": taken}))).await;
        let why = format!("failed to allocate IP {taken}: provided IP is already allocated");
        assert!(status == 422 && text(&error, "/message").ends_with(&why), "{error}");
    }
    // it cannot be taken away from its Service, not even while nobody looks
    assert_eq!(api.call("DELETE", &format!("{ADDRESSES}/{address}"), Value::Null).await.0, 200);
    while watch.next().await.0 != "DELETED" {}
    let (kind, again) = watch.next().await;
    assert_eq!((kind.as_str(), text(&again, "/spec/parentRef/name")), ("ADDED", "a"));
    api.restart().await;
    assert_eq!(api.get(&format!("{ADDRESSES}/{address}")).await["spec"], again["spec"]);
    // and goes with it, or when the Service needs none any more
    let url = format!("{SERVICES}/a");
    let external =
        json!({"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": null, "clusterIPs": null}});
    assert_eq!(api.call("PATCH", &url, external).await.0, 200);
    assert_eq!(api.call("GET", &format!("{ADDRESSES}/{address}"), Value::Null).await.0, 404);
    let (_, back) = api.call("PATCH", &url, json!({"spec": {"type": "ClusterIP", "externalName": null}})).await;
    let address = text(&back, "/spec/clusterIP").to_owned();
    assert_eq!(api.call("GET", &format!("{ADDRESSES}/{address}"), Value::Null).await.0, 200);
    assert_eq!(api.call("DELETE", &url, Value::Null).await.0, 200);
    assert_eq!(api.call("GET", &format!("{ADDRESSES}/{address}"), Value::Null).await.0, 404);
    // a dry run takes nothing
    let before = api.get(ADDRESSES).await["items"].as_array().unwrap().len();
    let (status, dry) = api.call("POST", &format!("{SERVICES}?dryRun=All"), service("dry", json!({}))).await;
    assert!(status == 201 && !text(&dry, "/spec/clusterIP").is_empty(), "{dry}");
    assert_eq!(api.get(ADDRESSES).await["items"].as_array().unwrap().len(), before);
}

#[tokio::test]
async fn addresses_come_from_every_range_that_is_ready() {
    let api = Api::start_with(|config, _| config.service_cluster_ip_range = "10.96.0.0/28".parse().unwrap()).await;
    let (status, error) = api.call("POST", SERVICES, service("far", json!({"clusterIP": "10.97.0.3"}))).await;
    let why = "failed to allocate IP 10.97.0.3: the provided network does not match the current range";
    assert!(status == 422 && text(&error, "/message").ends_with(why), "{error}");
    // fourteen addresses, one of them is the API server's
    for n in 0..13 {
        api.create(SERVICES, service(&format!("s{n}"), json!({}))).await;
    }
    let (status, full) = api.call("POST", SERVICES, service("more", json!({}))).await;
    let why = "Internal error occurred: failed to allocate a serviceIP: range is full";
    assert_eq!((status, text(&full, "/message")), (500, why));
    api.create(RANGES, json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/29"]}})).await;
    let more = api.create(SERVICES, service("more", json!({}))).await;
    assert!(text(&more, "/spec/clusterIP").starts_with("10.97.0."), "{more}");
    // one that is not ready gives nothing, and keeps what it gave
    let waits = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Terminating", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    assert_eq!(api.call("PATCH", &format!("{RANGES}/more/status"), waits).await.0, 200);
    assert_eq!(api.call("POST", SERVICES, service("late", json!({}))).await.0, 500);
    assert_eq!(
        api.call("PATCH", &format!("{SERVICES}/more"), json!({"metadata": {"labels": {"a": "b"}}})).await.0,
        200
    );
    // the configuration's own range comes back
    let mut watch = api.watch(&format!("{RANGES}?watch=1")).await;
    assert_eq!(api.call("DELETE", &format!("{RANGES}/kubernetes"), Value::Null).await.0, 200);
    while watch.next().await.0 != "DELETED" {}
    loop {
        let (_, object) = watch.next().await;
        let condition = &object["status"]["conditions"][0];
        if condition["message"] == "Kubernetes default Service CIDR is ready" {
            assert_eq!((text(&object, "/metadata/name"), text(condition, "/status")), ("kubernetes", "True"));
            break;
        }
    }
}
