//! Several API servers on one store.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use apiserver::{ApiServer, Config};
use common::{Api, admin, faulty::FaultyStore, within};
use serde_json::{Value, json};
use store::EmbeddedStore;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A request of an administrator.
async fn call(server: &ApiServer, method: &str, path: &str, body: Value) -> (u16, Value) {
    within(server, admin(), method, path, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_writes_the_other_reads_also_after_the_first_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store")).unwrap();
    // at the same time: both make what every cluster has
    let (a, b) = tokio::join!(
        Api::start_on(store.clone(), dir.path(), at("a", "10.9.9.10", 0)),
        Api::start_on(store.clone(), dir.path(), at("b", "10.9.9.11", 0))
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
    assert_eq!(call(&a, "POST", MAPS, map.clone()).await.0, 201);
    assert_eq!(call(&b, "POST", MAPS, map).await.0, 409);
    a.shutdown().await;
    let (status, read) = call(&b, "GET", &format!("{MAPS}/m"), Value::Null).await;
    assert_eq!((status, &read["data"]), (200, &json!({"k": "v"})));
    assert_eq!(call(&b, "DELETE", &format!("{MAPS}/m"), Value::Null).await.0, 200, "the store is still open");
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_reach_its_store_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let store = FaultyStore::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
    let server = Api::start_on(store.clone(), dir.path(), |_| {}).await;
    assert_eq!(call(&server, "GET", "/readyz", Value::Null).await, (200, "ok".into()));
    store.cut(true);
    for kind in ["readyz", "livez", "healthz"] {
        let (status, text) = call(&server, "GET", &format!("/{kind}?verbose"), Value::Null).await;
        let text = text.as_str().unwrap().to_owned();
        assert_eq!(status, 500, "{text}");
        assert!(text.contains("[+]ping ok\n[-]etcd failed: reason withheld\n"), "{text}");
        assert!(text.ends_with(&format!("{kind} check failed\n")), "{text}");
    }
    assert_eq!(call(&server, "GET", "/readyz/etcd", Value::Null).await.0, 500);
    assert_eq!(call(&server, "GET", "/readyz/ping", Value::Null).await.0, 200);
    store.cut(false);
    assert_eq!(call(&server, "GET", "/readyz", Value::Null).await.0, 200);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_cluster_has_is_made_though_etcd_loses_its_leader_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = FaultyStore::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
    store.doubt(200);
    let server = Api::start_on(store.clone(), dir.path(), |_| {}).await;
    assert_eq!(store.in_doubt(), 0);
    for path in ["/api/v1/namespaces/kube-node-lease", "/api/v1/namespaces/default/services/kubernetes"] {
        assert_eq!(call(&server, "GET", path, Value::Null).await.0, 200, "{path}");
    }
    server.shutdown().await;
}

/// A server of its own name and address; all servers of a cluster listen on the same port.
fn at(name: &str, address: &str, port: u16) -> impl FnOnce(&mut Config) {
    let name = name.to_owned();
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    move |config| {
        config.name = Some(name);
        config.advertise_address = address.into();
        config.bind_address = std::net::Ipv4Addr::new(127, 0, 0, address.octets()[3]).into();
        config.secure_port = port;
    }
}

const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

/// The addresses of `default/kubernetes`, which Endpoints and EndpointSlice must agree on.
async fn published(server: &ApiServer) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let slice = call(server, "GET", SLICE, Value::Null).await.1;
    let ready = json!({"ready": true});
    // somebody may have deleted it
    let Some(of_slice) = slice["endpoints"].as_array() else { return vec!["no slice".into()] };
    let of_slice = of_slice.iter().inspect(|it| assert_eq!(it["conditions"], ready));
    let of_slice: Vec<String> = of_slice.map(|it| text(&it["addresses"][0])).collect();
    let endpoints = call(server, "GET", ENDPOINTS, Value::Null).await.1;
    let of_endpoints = endpoints["subsets"][0]["addresses"].as_array().unwrap().iter();
    let of_endpoints: Vec<String> = of_endpoints.map(|it| text(&it["ip"])).collect();
    // written one after the other
    if of_slice == of_endpoints { of_slice } else { vec!["different".into()] }
}

/// Who is late is only late: after a minute nothing will come of it.
async fn until_published(server: &ApiServer, wanted: &[&str]) {
    let begun = Instant::now();
    loop {
        let there = published(server).await;
        if there == wanted {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{there:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_are_those_of_all_who_live() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(&dir.path().join("store")).unwrap();
    let a = Api::start_on(embedded.clone(), dir.path(), at("a", "10.9.9.10", 0)).await;
    let port = a.address().port();
    assert_eq!(published(&a).await, ["10.9.9.10"]);
    let b = Api::start_on(embedded.clone(), dir.path(), at("b", "10.9.9.9", port)).await;
    assert_eq!(published(&b).await, ["10.9.9.9", "10.9.9.10"], "in the order of numbers");
    let cut_off = FaultyStore::new(embedded.clone());
    let c = Api::start_on(cut_off.clone(), dir.path(), at("c", "10.9.9.11", port)).await;
    let all = ["10.9.9.9", "10.9.9.10", "10.9.9.11"];
    until_published(&a, &all).await;

    let lease = call(&a, "GET", &format!("{LEASES}/apiserver-c"), Value::Null).await.1;
    assert_eq!(lease["metadata"]["labels"]["apiserver.kubernetes.io/identity"], "kube-apiserver");
    assert_eq!(lease["metadata"]["labels"]["kubernetes.io/hostname"], "c");
    assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with("c_"));

    // nobody writes what is right already (once all have heard of each other), and nobody is forgotten who renews
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let version = |object: Value| object["metadata"]["resourceVersion"].clone();
    let before = version(call(&a, "GET", SLICE, Value::Null).await.1);
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert_eq!(version(call(&a, "GET", SLICE, Value::Null).await.1), before);
    assert_eq!(published(&a).await, all);

    // a server that is lost
    cut_off.cut(true);
    until_published(&a, &["10.9.9.9", "10.9.9.10"]).await;
    cut_off.cut(false);
    until_published(&a, &all).await;

    // a server that ends: it waits 2 s for the store and then leaves its Lease behind, and it stays where it takes the
    // others for gone because nobody could renew. So an end counts before and during which nothing stood still.
    let mut c = c;
    for left in (0..5).rev() {
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        c.shutdown().await;
        let calm = begun.elapsed() < Duration::from_secs(3);
        let lease = call(&a, "GET", &format!("{LEASES}/apiserver-c"), Value::Null).await.0;
        assert!(lease == 404 || !calm, "it left its Lease behind: {lease}");
        if lease == 404 || left == 0 {
            break;
        }
        c = Api::start_on(cut_off.clone(), dir.path(), at("c", "10.9.9.11", port)).await;
    }
    until_published(&a, &["10.9.9.9", "10.9.9.10"]).await;
    b.shutdown().await;
    until_published(&a, &["10.9.9.10"]).await;
    a.shutdown().await;

    // the last one leaves them as they were; who is gone for long is not taken for alive
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"leaseDurationSeconds": 4}, "metadata": {
        "name": "apiserver-old", "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver"}, "annotations": {"kinstall.dev/address": "10.9.9.99"}}});
    let a = Api::start_on(embedded.clone(), dir.path(), at("a", "10.9.9.10", port)).await;
    assert_eq!(call(&a, "POST", LEASES, lease).await.0, 201);
    a.shutdown().await;
    let a = Api::start_on(embedded.clone(), dir.path(), at("a", "10.9.9.10", port)).await;
    let stayed = published(&a).await;
    assert!(stayed == ["10.9.9.10"] || stayed == ["10.9.9.10", "10.9.9.99"], "{stayed:?}");
    until_published(&a, &["10.9.9.10"]).await;
    a.shutdown().await;
    let a = Api::start_on(embedded.clone(), dir.path(), at("a", "10.9.9.10", port)).await;
    assert_eq!(published(&a).await, ["10.9.9.10"]);
    a.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_away_costs_nobody_a_place_among_the_endpoints() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(&dir.path().join("store")).unwrap();
    let (for_a, for_b) = (FaultyStore::new(embedded.clone()), FaultyStore::new(embedded.clone()));
    let a = Api::start_on(for_a.clone(), dir.path(), at("a", "10.9.9.12", 0)).await;
    let b = Api::start_on(for_b.clone(), dir.path(), at("b", "10.9.9.13", a.address().port())).await;
    until_published(&a, &["10.9.9.12", "10.9.9.13"]).await;
    let until_renewed = async |name: &str| {
        let lease = async || call(&a, "GET", &format!("{LEASES}/apiserver-{name}"), Value::Null).await.1;
        let (begun, before) = (Instant::now(), lease().await["spec"]["renewTime"].clone());
        while lease().await["spec"]["renewTime"] == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "{name} does not renew");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let version = async || call(&a, "GET", SLICE, Value::Null).await.1["metadata"]["resourceVersion"].clone();
    let before = version().await;
    for_a.cut(true);
    for_b.cut(true);
    // longer than a Lease lasts
    tokio::time::sleep(Duration::from_millis(5500)).await;
    for_a.cut(false);
    until_renewed("a").await;
    for_b.cut(false);
    until_renewed("b").await;
    until_renewed("a").await;
    until_renewed("b").await;
    assert_eq!(version().await, before, "nobody was taken out, not even for a moment");
    b.shutdown().await;
    a.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_somebody_spoils_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store")).unwrap();
    let a = Api::start_on(store.clone(), dir.path(), at("a", "10.9.9.10", 0)).await;
    let port = a.address().port();
    let b = Api::start_on(store.clone(), dir.path(), at("b", "10.9.9.11", port)).await;
    assert_eq!(call(&a, "DELETE", SLICE, Value::Null).await.0, 200);
    let mut endpoints = call(&a, "GET", ENDPOINTS, Value::Null).await.1;
    endpoints["subsets"][0]["addresses"] = json!([{"ip": "10.1.1.1"}]);
    assert_eq!(call(&a, "PUT", ENDPOINTS, endpoints).await.0, 200);
    until_published(&b, &["10.9.9.10", "10.9.9.11"]).await;
    a.shutdown().await;
    b.shutdown().await;
}
