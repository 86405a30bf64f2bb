//! Several API servers on one store.
#![allow(clippy::unwrap_used)]

mod common;

use apiserver::{ApiServer, Identity};
use common::{Api, faulty::FaultyStore};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use store::EmbeddedStore;
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A request of an administrator; status and body, which is a text where it is no JSON.
async fn call(server: &ApiServer, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let handler = server.handler_as(Identity::new("admin", ["system:masters"]));
    let response = handler.oneshot(request.body(Full::new(bytes::Bytes::from(body))).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_writes_the_other_reads_also_after_the_first_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store")).unwrap();
    // at the same time: both make what every cluster has
    let (a, b) = tokio::join!(
        Api::start_on(store.clone(), dir.path(), |_| {}),
        Api::start_on(store.clone(), dir.path(), |_| {})
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
