//! Protobuf in both directions, content negotiation, gzip; and what every kubectl of this machine creates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Read;

use apiserver::ResponseBody;
use bytes::Bytes;
use common::{Api, admin, kubectls};
use http_body_util::{BodyExt, Full};
use machinery::protobuf;
use serde_json::{Value, json};
use tower::ServiceExt;

const PROTOBUF: &str = protobuf::MEDIA_TYPE;

async fn send(
    api: &Api,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> http::Response<ResponseBody> {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    api.server().handler_as(admin()).oneshot(request).await.unwrap()
}

async fn whole(response: http::Response<ResponseBody>) -> (u16, String, Bytes) {
    let (head, body) = response.into_parts();
    let kind = head.headers.get("content-type").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    (head.status.as_u16(), kind, body.collect().await.unwrap().to_bytes())
}

/// Both directions in protobuf; the answer decoded.
async fn call(api: &Api, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Vec::new() } else { protobuf::encode(&body).unwrap() };
    let headers = [("accept", PROTOBUF), ("content-type", PROTOBUF)];
    let (status, kind, bytes) = whole(send(api, method, path, &headers, body).await).await;
    assert_eq!(kind, PROTOBUF, "{method} {path}: {}", String::from_utf8_lossy(&bytes));
    (status, protobuf::decode(&bytes, ("", "")).unwrap())
}

#[tokio::test]
async fn objects_lists_and_errors_travel_as_protobuf() {
    let api = Api::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    // as Go's clients write: zeros for what is not set
    let map = json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "a", "namespace": "", "uid": "", "resourceVersion": "", "generation": 0},
        "data": {"k": "v", "empty": ""}, "binaryData": {"b": "AAEC"},
    });
    let (status, created) = call(&api, "POST", maps, map).await;
    assert_eq!(
        (status, &created["metadata"]["namespace"], &created["data"]["k"]),
        (201, &json!("default"), &json!("v"))
    );
    assert!(created["metadata"]["uid"].as_str().is_some_and(|u| u.len() == 36), "{created}");
    assert_eq!(api.get(&format!("{maps}/a")).await["data"], json!({"k": "v", "empty": ""}));
    let (_, again) = call(&api, "GET", &format!("{maps}/a"), Value::Null).await;
    assert_eq!(again, created);
    let (_, list) = call(&api, "GET", &format!("{maps}?limit=1"), Value::Null).await;
    assert_eq!((&list["kind"], &list["items"][0]["binaryData"]["b"]), (&json!("ConfigMapList"), &json!("AAEC")));
    let mut changed = created.clone();
    changed["data"] = json!({"k": "w"});
    assert_eq!(call(&api, "PUT", &format!("{maps}/a"), changed.clone()).await.1["data"]["k"], "w");
    let (status, conflict) = call(&api, "PUT", &format!("{maps}/a"), changed).await;
    assert_eq!((status, &conflict["kind"], &conflict["reason"]), (409, &json!("Status"), &json!("Conflict")));
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "not this one"}});
    assert_eq!(call(&api, "DELETE", &format!("{maps}/a"), options).await.0, 409);
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    let (status, deleted) = call(&api, "DELETE", &format!("{maps}/a"), options).await;
    assert_eq!((status, &deleted["status"], &deleted["details"]["name"]), (200, &json!("Success"), &json!("a")));
    let (status, missing) = call(&api, "GET", &format!("{maps}/a"), Value::Null).await;
    assert_eq!((status, &missing["message"]), (404, &json!("configmaps \"a\" not found")));
}

#[tokio::test]
async fn subresources_and_reviews_travel_as_protobuf() {
    let api = Api::start().await;
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "x"}});
    call(&api, "POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 600, "audiences": []}});
    let (status, token) = call(&api, "POST", "/api/v1/namespaces/default/serviceaccounts/x/token", request).await;
    assert_eq!((status, &token["kind"]), (201, &json!("TokenRequest")), "{token}");
    assert!(token["status"]["token"].as_str().is_some_and(|t| t.split('.').count() == 3));
    let review = json!({
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"user": "nobody", "groups": ["a"], "extra": {"x": ["y", "z"]}, "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}},
    });
    let (status, answer) = call(&api, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review).await;
    assert_eq!((status, &answer["spec"]["extra"]["x"]), (201, &json!(["y", "z"])));
    let set = json!({
        "kind": "ReplicaSet", "apiVersion": "apps/v1", "metadata": {"name": "r"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    assert_eq!(call(&api, "POST", "/apis/apps/v1/namespaces/default/replicasets", set).await.1["spec"]["replicas"], 0);
    let path = "/apis/apps/v1/namespaces/default/replicasets/r/scale";
    let (_, mut scale) = call(&api, "GET", path, Value::Null).await;
    assert_eq!((&scale["kind"], &scale["status"]["selector"]), (&json!("Scale"), &json!("a=b")));
    scale["spec"] = json!({"replicas": 3});
    assert_eq!(call(&api, "PUT", path, scale).await.1["spec"]["replicas"], 3);
}

/// Reads frames of a protobuf watch.
struct Frames {
    body: ResponseBody,
    buffer: Vec<u8>,
}

impl Frames {
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(length) = self.buffer.get(..4) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.buffer.len() >= 4 + length {
                    let frame: Vec<u8> = self.buffer.drain(..4 + length).skip(4).collect();
                    return event(&frame);
                }
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(60), self.body.frame());
            self.buffer.extend_from_slice(&frame.await.expect("no event").unwrap().unwrap().into_data().unwrap());
        }
    }
}

/// `WatchEvent`: 0x0a length type, 0x12 length (0x0a length object).
fn event(frame: &[u8]) -> (String, Value) {
    let end = 2 + usize::from(frame[1]);
    let kind = String::from_utf8(frame[2..end].to_vec()).unwrap();
    let at = frame.windows(4).position(|w| w == protobuf::MAGIC).unwrap();
    (kind, protobuf::decode(&frame[at..], ("", "")).unwrap())
}

#[tokio::test]
async fn watches_are_framed() {
    let api = Api::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    api.create(maps, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    let query = "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    for (accept, kind) in [
        (PROTOBUF.to_owned(), "ConfigMap"),
        (format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"), "PartialObjectMetadata"),
    ] {
        let response = send(&api, "GET", &format!("{maps}{query}"), &[("accept", &accept)], Vec::new()).await;
        assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        let mut frames = Frames { body: response.into_body(), buffer: Vec::new() };
        let (what, object) = frames.next().await;
        assert_eq!((what.as_str(), &object["kind"], &object["metadata"]["name"]), ("ADDED", &json!(kind), &json!("a")));
        let (what, mark) = frames.next().await;
        assert_eq!((what.as_str(), &mark["kind"]), ("BOOKMARK", &json!(kind)));
        assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        api.call("PATCH", &format!("{maps}/a"), json!({"data": {kind: "x"}})).await;
        assert_eq!(frames.next().await.0, "MODIFIED");
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_refused() {
    let api = Api::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let status = |accept: &'static str| {
        let api = &api;
        async move { whole(send(api, "GET", maps, &[("accept", accept)], Vec::new()).await).await }
    };
    let (code, _, text) = status("text/html").await;
    assert_eq!(code, 406);
    assert!(String::from_utf8_lossy(&text).contains("only the following media types are accepted: application/json"));
    assert_eq!(status("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1").await.0, 406);
    let both = status("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/yaml").await;
    assert_eq!((both.0, both.1.as_str()), (200, "application/yaml"));
    // kinds without a table: refused, but for a plain form beside it
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}).to_string().into_bytes();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let headers = |accept| [("accept", accept), ("content-type", "application/json")];
    let (code, _, text) = whole(send(&api, "POST", path, &headers(table), review.clone()).await).await;
    assert_eq!(code, 406, "{}", String::from_utf8_lossy(&text));
    let with_json = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json";
    assert_eq!(whole(send(&api, "POST", path, &headers(with_json), review).await).await.0, 201);
    for bad in [b"k8s\0\x0a".as_slice(), b"{}", b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x04\x0a\x02\x0a\xff"] {
        let response = send(&api, "POST", maps, &[("content-type", PROTOBUF)], bad.to_vec()).await;
        let (code, _, text) = whole(response).await;
        assert_eq!(code, 400, "{}", String::from_utf8_lossy(&text));
    }
    let response = send(&api, "POST", maps, &[("content-type", "application/cbor")], b"x".to_vec()).await;
    assert_eq!(response.status(), 415);
}

#[tokio::test]
async fn large_answers_are_compressed_when_asked() {
    let api = Api::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    api.create(maps, json!({"metadata": {"name": "a"}, "data": {"k": "v".repeat(200_000)}})).await;
    let plain = send(&api, "GET", maps, &[], Vec::new()).await;
    assert!(!plain.headers().contains_key("content-encoding"));
    let (_, _, plain) = whole(plain).await;
    let small = send(&api, "GET", "/api/v1/namespaces", &[("accept-encoding", "gzip")], Vec::new()).await;
    assert!(!small.headers().contains_key("content-encoding"));
    let response = send(&api, "GET", maps, &[("accept-encoding", "deflate, gzip;q=0.8")], Vec::new()).await;
    assert_eq!(
        (&response.headers()["content-encoding"], &response.headers()["vary"]),
        (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
    );
    let (_, _, packed) = whole(response).await;
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == plain && packed.len() < 10_000);
}

/// Words after `create`, and what kubectl says then.
const CREATED: &[(&str, &str)] = &[
    ("deployment web --image=nginx:1 --replicas=2 --port=80", "deployment.apps/web created"),
    ("configmap cm --from-literal=a=b --from-literal=c=", "configmap/cm created"),
    ("secret generic s --from-literal=user=me", "secret/s created"),
    ("serviceaccount sa", "serviceaccount/sa created"),
    // what the controllers would do
    ("serviceaccount default", "serviceaccount/default created"),
    ("service clusterip svc --tcp=80:8080", "service/svc created"),
    ("service nodeport np --tcp=81:http", "service/np created"),
    ("job j --image=busybox -- echo hi", "job.batch/j created"),
    ("cronjob cj --image=busybox --schedule=@hourly -- date", "cronjob.batch/cj created"),
    ("role r --verb=get,list --resource=pods", "role.rbac.authorization.k8s.io/r created"),
    ("rolebinding rb --role=r --user=jane", "rolebinding.rbac.authorization.k8s.io/rb created"),
    ("poddisruptionbudget pdb --selector=app=web --min-available=50%", "poddisruptionbudget.policy/pdb created"),
    ("quota q --hard=cpu=1,pods=2", "resourcequota/q created"),
    ("ingress i --rule=a.example/x*=svc:80", "ingress.networking.k8s.io/i created"),
];

#[tokio::test]
async fn every_kubectl_creates() {
    let api = Api::start().await;
    for kubectl in kubectls::all() {
        let namespace = format!("k{}", kubectl.minor);
        let run = async |args: &str| {
            let mut words: Vec<&str> = args.split_whitespace().collect();
            words.splice(0..0, ["-n", &namespace]);
            api.run_kubectl(&kubectl.program, "admin", &words, "").await
        };
        let said = async |args: &str, wanted: &str| {
            let (ok, text) = run(args).await;
            assert!(ok && text.contains(wanted), "kubectl 1.{} {args}: {text}", kubectl.minor);
        };
        said(&format!("create namespace {namespace}"), "created").await;
        for (args, wanted) in CREATED {
            // 1.20 makes these in versions that are gone
            if kubectl.minor > 20 || !["cronjob", "poddisruptionbudget"].contains(&args.split(' ').next().unwrap()) {
                said(&format!("create {args}"), wanted).await;
            }
        }
        let (ok, text) = run("create configmap cm").await;
        assert!(!ok && text.contains("configmaps \"cm\" already exists"), "kubectl 1.{}: {text}", kubectl.minor);
        if kubectl.minor >= 24 {
            said("create token sa --duration=10m", ".").await;
        }
        said("auth can-i create deployments", "yes").await;
        said("auth can-i --list", "*.*").await;
        said("run p --image=nginx:1 --env=A=b --labels=x=y", "pod/p created").await;
        said("expose deployment web --port=80 --name=exposed", "service/exposed exposed").await;
        said("scale deployment web --replicas=0", "scaled").await;
        said("get deployment web -o jsonpath={.spec.replicas}", "0").await;
        said("set image deployment/web nginx=nginx:2", "image updated").await;
        said("delete pod p --grace-period=0 --force", "pod \"p\"").await;
        said("get all,cm,ing,pdb,quota", "deployment.apps/web").await;
        said("delete deployment,svc,job --all", "deleted").await;
    }
}
