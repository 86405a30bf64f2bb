//! Whatever a client sends, the server answers with what the request deserves: it neither fails by itself (5xx) nor panics
//! nor hangs nor grows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "../../machinery/tests/fuzzing/mod.rs"]
mod fuzzing;

use std::sync::Arc;
use std::time::Duration;

use common::{Api, admin};
use fuzzing::{bytes, disturb, fuzz, mutated, mutated_text, object, samples, value};
use http_body_util::BodyExt;
use machinery::request_info::RequestInfo;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "text/plain",
    "",
];

/// One request; what it answered, unless it is a watch, whose answer does not end.
fn ask(
    runtime: &tokio::runtime::Runtime,
    api: &Api,
    method: &str,
    target: &str,
    kind: &str,
    body: Vec<u8>,
) -> Option<(u16, String)> {
    let uri: http::Uri = target.parse().ok()?;
    let info = RequestInfo::parse(&method.parse().ok()?, uri.path(), uri.query().unwrap_or_default());
    let asked = async {
        let mut request = http::Request::builder().method(method).uri(uri);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = request.body(http_body_util::Full::new(body.into())).ok()?;
        let response = tower::ServiceExt::oneshot(api.server().handler_as(admin()), request).await.unwrap();
        let status = response.status().as_u16();
        if info.verb.contains("watch") || status == 101 {
            return Some((status, String::new()));
        }
        let text = response.into_body().collect().await.unwrap().to_bytes();
        Some((status, String::from_utf8_lossy(&text).into_owned()))
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(15), asked).await.expect("no answer") })
}

/// 504 and 503 say that the client asked for what is not there (yet); an apply that does not fit its kind is a 500 upstream.
fn deserved(answer: Option<(u16, String)>, request: &str) {
    let Some((status, text)) = answer else { return };
    let unfit = status == 500 && (text.contains("typed patch object") || text.contains("managed fields"));
    assert!(status < 500 || matches!(status, 501 | 503 | 504) || unfit, "{request}: {status} {text}");
}

/// A server and the runtime it lives in.
fn server() -> (tokio::runtime::Runtime, Api) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let api = runtime.block_on(Api::start());
    runtime.block_on(async {
        api.create("/api/v1/namespaces", json!({"metadata": {"name": "fuzz"}})).await;
        api.create("/api/v1/namespaces/fuzz/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
        api.create("/api/v1/namespaces/fuzz/configmaps", json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    });
    (runtime, api)
}

#[test]
fn requests() {
    const TARGETS: &[&str] = &[
        "/api/v1/namespaces/fuzz/configmaps/a?fieldManager=x&dryRun=All",
        "/api/v1/namespaces/fuzz/pods?labelSelector=a%20in%20(b)&fieldSelector=status.phase%3DRunning&limit=3",
        "/apis/apps/v1/deployments?resourceVersion=1&resourceVersionMatch=Exact&continue=eyJ2IjoibWV0YSJ9",
        "/api/v1/namespaces/fuzz/configmaps?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&timeoutSeconds=1",
        "/api/v1/namespaces/fuzz/pods/a/log?tailLines=1",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/openapi/v3/apis/apps/v1?hash=x",
        "/api/v1/namespaces/fuzz/finalize",
        "/version",
    ];
    let (runtime, api) = server();
    fuzz(700, |rng| {
        let method = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"].choose(rng).unwrap();
        let target = mutated_text(rng, TARGETS);
        let kind = TYPES.choose(rng).unwrap();
        let body = if rng.random() { bytes(rng, 300) } else { object(rng, 4).to_string().into_bytes() };
        deserved(ask(&runtime, &api, method, &target, kind, body), &format!("{method} {target:?} {kind}"));
    });
    runtime.block_on(api.server.unwrap().shutdown());
}

/// Bodies that are nearly right get further than arbitrary ones.
fn body(rng: &mut StdRng) -> (&'static str, Vec<u8>) {
    let kinds: [(&str, usize); 4] = [("pods", 0), ("deployments", 1), ("services", 2), ("configmaps", 3)];
    let (plural, at) = *kinds.choose(rng).unwrap();
    let mut object = samples()[at].clone();
    object["metadata"]["name"] = Value::Null;
    object["metadata"]["generateName"] = json!("f-");
    for _ in 0..rng.random_range(0..4) {
        disturb(rng, &mut object, 7);
    }
    let text = object.to_string();
    let bytes = if rng.random_range(0..3) == 0 { mutated(rng, &[&text]) } else { text.into_bytes() };
    (plural, bytes)
}

fn collection(plural: &str) -> String {
    let group = if plural == "deployments" { "/apis/apps/v1" } else { "/api/v1" };
    format!("{group}/namespaces/fuzz/{plural}")
}

#[test]
fn creates() {
    let (runtime, api) = server();
    fuzz(700, |rng| {
        let (plural, bytes) = body(rng);
        let validation = ["", "?fieldValidation=Strict", "?dryRun=All"].choose(rng).unwrap();
        let target = format!("{}{validation}", collection(plural));
        let kind = TYPES[..3].choose(rng).unwrap();
        let told = format!("POST {target} {kind} {}", String::from_utf8_lossy(&bytes));
        deserved(ask(&runtime, &api, "POST", &target, kind, bytes), &told);
    });
    runtime.block_on(api.server.unwrap().shutdown());
}

#[test]
fn patches() {
    let (runtime, api) = server();
    runtime.block_on(async {
        for (plural, at) in [("pods", 0), ("deployments", 1), ("services", 2)] {
            api.create(&collection(plural), samples()[at].clone()).await;
        }
    });
    fuzz(700, |rng| {
        let (plural, bytes) = body(rng);
        let target = format!("{}/a?fieldManager=fuzz&force=true", collection(plural));
        let kind = TYPES[3..7].choose(rng).unwrap();
        let bytes = if kind.contains("json-patch") {
            let operation = json!({"op": "add", "path": "/metadata/labels/x", "value": value(rng, 2), "from": "/spec"});
            let mut operations = json!([operation, operation]);
            disturb(rng, &mut operations, 4);
            operations.to_string().into_bytes()
        } else {
            bytes
        };
        let told = format!("PATCH {target} {kind} {}", String::from_utf8_lossy(&bytes));
        deserved(ask(&runtime, &api, "PATCH", &target, kind, bytes), &told);
    });
    runtime.block_on(api.server.unwrap().shutdown());
}

#[test]
fn yaml_does_not_grow() {
    let (runtime, api) = server();
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (name, of) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        bomb += &format!("{name}: &{name} [*{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}]\n");
    }
    let deep = format!("a: {}", "[".repeat(100_000));
    for text in [bomb, deep, "? ".repeat(50_000), "- ".repeat(50_000), "&a *a".into()] {
        let target = collection("configmaps");
        let (status, _) = ask(&runtime, &api, "POST", &target, "application/yaml", text.into_bytes()).unwrap();
        assert!((400..500).contains(&status), "{status}");
    }
    runtime.block_on(api.server.unwrap().shutdown());
}

/// A token is what was signed, or nothing.
#[test]
fn tokens() {
    let (runtime, api) = server();
    let path = "/api/v1/namespaces/fuzz/serviceaccounts/default/token";
    let issued = runtime.block_on(api.create(path, json!({"spec": {"expirationSeconds": 3600}})));
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    let ca = reqwest::Certificate::from_pem(&std::fs::read(api.path().join("ca.crt")).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
    let url = format!("https://{}/api", api.server().address());
    let ask = |token: String| {
        let (client, url) = (client.clone(), url.clone());
        runtime.block_on(async move { client.get(url).bearer_auth(token).send().await.unwrap().status().as_u16() })
    };
    assert_eq!(ask(token.clone()), 200);
    let shared = Arc::new(token);
    fuzz(400, |rng| {
        let bad = mutated_text(rng, &[&shared, "eyJhbGciOiJub25lIn0.e30.", "abcdef.0123456789abcdef"]);
        let bad: String = bad.chars().filter(|c| c.is_ascii_graphic()).collect();
        // a longer one is refused with its connection
        let sendable = !bad.is_empty() && bad.len() < 8 * 1024;
        if sendable && bad != *shared && !same_bits(&bad, &shared) {
            assert_eq!(ask(bad), 401);
        }
    });
    runtime.block_on(api.server.unwrap().shutdown());
}

/// The last character of base64 without padding has bits that mean nothing; strict decoders refuse them, others need not.
fn same_bits(a: &str, b: &str) -> bool {
    a.len() == b.len() && a[..a.len() - 1] == b[..b.len() - 1]
}
