//! Admission webhooks, against a real HTTPS server that is reached by URL and through a Service.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use certs::{Ca, Leaf, Subject, Usage};
use common::Api;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

/// Gets (path, request of the review), gives the response without its uid.
type Answer = fn(&str, &Value) -> Value;

struct Hook {
    address: SocketAddr,
    ca: String,
    /// Every (path, request) that came.
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    connections: Arc<Mutex<usize>>,
}

impl Hook {
    async fn start(answer: Answer) -> Self {
        let ca = Ca::generate("webhooks").unwrap();
        let names = ["127.0.0.1", "hook.default.svc"];
        let leaf = ca.issue(&Leaf::new(Subject::new("hook", &[]), Usage::Server).names(names)).unwrap();
        let chain = CertificateDer::pem_slice_iter(leaf.cert_pem.as_bytes()).flatten().collect();
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let connections = Arc::new(Mutex::new(0));
        let (log, count) = (seen.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), log.clone());
                *count.lock().unwrap() += 1;
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| reply(request, answer, log.clone()));
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Hook { address, ca: STANDARD.encode(ca.cert_pem()), seen, connections }
    }

    /// A webhook for ConfigMaps at a path of this server.
    fn hook(&self, name: &str, path: &str, operations: &[&str]) -> Value {
        json!({"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": format!("https://{}{path}", self.address), "caBundle": self.ca},
            "rules": [{"operations": operations, "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]})
    }

    fn requests(&self, path: &str) -> Vec<Value> {
        self.seen.lock().unwrap().iter().filter(|(p, _)| p == path).map(|(_, r)| r.clone()).collect()
    }
}

async fn reply(
    request: http::Request<hyper::body::Incoming>,
    answer: Answer,
    log: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<http::Response<Full<bytes::Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&bytes).unwrap();
    let asked = review["request"].clone();
    log.lock().unwrap().push((path.clone(), asked.clone()));
    if path == "/slow" {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let mut response = answer(&path, &asked);
    response["uid"] = asked["uid"].clone();
    let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(http::Response::new(Full::new(body.to_string().into())))
}

fn patch(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

fn configuration(name: &str, hooks: &[Value]) -> Value {
    json!({"metadata": {"name": name}, "webhooks": hooks})
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"start": "yes"}})
}

fn message(answer: &(u16, Value)) -> &str {
    answer.1["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn mutations_happen_in_order_and_again_if_needed() {
    let api = Api::start().await;
    let hook = Hook::start(|path, request| {
        let data = &request["object"]["data"];
        match path {
            // acts on what /second adds
            "/first" if data["two"].is_string() => {
                patch(&json!([{"op": "add", "path": "/data/again", "value": "yes"}]))
            }
            "/second" if data["start"].is_string() => patch(&json!([{"op": "add", "path": "/data/two", "value": "2"},
                {"op": "add", "path": "/nonsense", "value": 1}])),
            _ => json!({"allowed": true, "warnings": ["careful"], "auditAnnotations": {"k": "v"}}),
        }
    })
    .await;
    let mut first = hook.hook("first.hook.io", "/first", &["CREATE"]);
    first["reinvocationPolicy"] = "IfNeeded".into();
    api.create(MUTATING, configuration("a", &[first])).await;
    api.create(MUTATING, configuration("b", &[hook.hook("second.hook.io", "/second", &["CREATE"])])).await;
    let response = api.send(common::admin(), "POST", CONFIG_MAPS, "application/json", map("m")).await;
    assert_eq!(response.headers()["warning"], "299 - \"careful\"");
    let made = api.get(&format!("{CONFIG_MAPS}/m")).await;
    assert_eq!(made["data"], json!({"start": "yes", "two": "2", "again": "yes"}), "unknown fields are dropped");
    assert!(made.get("nonsense").is_none());
    assert_eq!((hook.requests("/first").len(), hook.requests("/second").len()), (2, 1));
    let asked = &hook.requests("/first")[0];
    assert_eq!(
        [
            &asked["operation"],
            &asked["name"],
            &asked["namespace"],
            &asked["userInfo"]["username"],
            &asked["kind"]["kind"]
        ],
        [&json!("CREATE"), &json!("m"), &json!("default"), &json!("admin"), &json!("ConfigMap")]
    );
    assert_eq!(
        (&asked["resource"]["resource"], &asked["options"]["kind"]),
        (&json!("configmaps"), &json!("CreateOptions"))
    );
    assert_eq!(*hook.connections.lock().unwrap(), 1, "connections are used again");
    // a changed configuration acts on the next request
    let none = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["UPDATE"]}]);
    for name in ["a", "b"] {
        let url = format!("{MUTATING}/{name}");
        let changed = api.send(common::admin(), "PATCH", &url, "application/json-patch+json", &none);
        assert_eq!(changed.await.status(), 200);
    }
    let plain = api.create(CONFIG_MAPS, map("n")).await;
    assert_eq!(plain["data"], json!({"start": "yes"}));
}

#[tokio::test]
async fn refusals_reach_the_client() {
    let api = Api::start().await;
    let hook = Hook::start(|path, request| match (path, request["object"]["metadata"]["name"].as_str()) {
        ("/deny", Some("good")) => json!({"allowed": true}),
        ("/deny", _) => {
            json!({"allowed": false, "status": {"message": "not this one", "reason": "Invalid", "code": 422}})
        }
        _ => json!({"allowed": request["name"] != "kept"}),
    })
    .await;
    let deny = hook.hook("deny.hook.io", "/deny", &["CREATE", "UPDATE"]);
    api.create(VALIDATING, configuration("v", &[deny, hook.hook("del.hook.io", "/delete", &["DELETE"])])).await;
    let refused = api.call("POST", CONFIG_MAPS, map("bad")).await;
    assert_eq!(refused.0, 422);
    assert_eq!(message(&refused), "admission webhook \"deny.hook.io\" denied the request: not this one");
    api.create(CONFIG_MAPS, map("good")).await;
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    assert_eq!(api.call("POST", &dry, map("bad")).await.0, 422);
    assert_eq!(hook.requests("/deny").last().unwrap()["dryRun"], true);
    // each object of a deletecollection, with what it was
    api.call("DELETE", &format!("{VALIDATING}/v"), Value::Null).await;
    api.create(CONFIG_MAPS, map("kept")).await;
    api.create(VALIDATING, configuration("v", &[hook.hook("del.hook.io", "/delete", &["DELETE"])])).await;
    let refused = api.call("DELETE", CONFIG_MAPS, Value::Null).await;
    assert_eq!(message(&refused), "admission webhook \"del.hook.io\" denied the request without explanation");
    let asked = hook.requests("/delete");
    assert_eq!(
        (&asked[0]["name"], &asked[0]["object"], &asked[0]["oldObject"]["data"]["start"]),
        (&json!("good"), &Value::Null, &json!("yes"))
    );
    assert_eq!(api.call("DELETE", &format!("{CONFIG_MAPS}/kept"), Value::Null).await.0, 400);
}

#[tokio::test]
async fn failures_are_told_or_passed_over() {
    let api = Api::start().await;
    let hook = Hook::start(|_, _| json!({"allowed": true})).await;
    let mut slow = hook.hook("slow.hook.io", "/slow", &["CREATE"]);
    slow["timeoutSeconds"] = 1.into();
    api.create(VALIDATING, configuration("v", &[slow.clone()])).await;
    let refused = api.call("POST", CONFIG_MAPS, map("m")).await;
    let url = format!("https://{}/slow?timeout=1s", hook.address);
    assert_eq!(refused.0, 500);
    assert_eq!(
        message(&refused),
        format!(
            "Internal error occurred: failed calling webhook \"slow.hook.io\": failed to call webhook: Post \"{url}\": context deadline exceeded"
        )
    );
    slow["failurePolicy"] = "Ignore".into();
    api.call("PUT", &format!("{VALIDATING}/v"), configuration("v", &[slow])).await;
    api.create(CONFIG_MAPS, map("m")).await;
    api.call("DELETE", &format!("{VALIDATING}/v"), Value::Null).await;
    // nobody vouches for the server
    let mut stranger = hook.hook("closed.hook.io", "/", &["*"]);
    stranger["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    api.create(VALIDATING, configuration("c", &[stranger])).await;
    let refused = api.call("POST", CONFIG_MAPS, map("n")).await;
    assert!(message(&refused).contains("x509: certificate signed by unknown authority"), "{refused:?}");
    // configurations themselves are never asked about
    let mut all = hook.hook("all.hook.io", "/all", &["*"]);
    all["rules"][0]["apiGroups"] = json!(["*"]);
    all["rules"][0]["resources"] = json!(["*/*"]);
    all["clientConfig"] = json!({"service": {"namespace": "default", "name": "nobody"}});
    api.create(VALIDATING, configuration("d", &[all])).await;
    let refused = api.call("POST", "/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    assert!(message(&refused).ends_with("service \"nobody\" not found"), "{refused:?}");
    for name in ["c", "d"] {
        assert_eq!(api.call("DELETE", &format!("{VALIDATING}/{name}"), Value::Null).await.0, 200);
    }
}

#[tokio::test]
async fn services_selectors_and_subresources() {
    let api = Api::start().await;
    let hook =
        Hook::start(|path, request| json!({"allowed": path == "/all" || request["subResource"] == "scale"})).await;
    let ports = json!([{"name": "https", "port": 443, "targetPort": hook.address.port()}]);
    api.create("/api/v1/namespaces/default/services", json!({"metadata": {"name": "hook"}, "spec": {"ports": ports}}))
        .await;
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let mut deny = hook.hook("svc.hook.io", "/deny", &["CONNECT", "CREATE"]);
    deny["clientConfig"] =
        json!({"caBundle": hook.ca, "service": {"namespace": "default", "name": "hook", "path": "/deny"}});
    deny["rules"][0]["resources"] = json!(["configmaps", "pods/attach", "pods/binding", "pods/eviction"]);
    deny["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "default"}});
    deny["objectSelector"] = json!({"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]});
    api.create(VALIDATING, configuration("v", &[deny.clone()])).await;
    let refused = api.call("POST", CONFIG_MAPS, map("m")).await;
    assert!(message(&refused).ends_with("no endpoints available for service \"hook\""), "{refused:?}");
    let slice = json!({"metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}], "ports": [{"name": "https", "port": hook.address.port()}]});
    api.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await;
    assert_eq!(api.call("POST", CONFIG_MAPS, map("m")).await.0, 400);
    let mut skipped = map("m");
    skipped["metadata"]["labels"] = json!({"skip": "yes"});
    api.create(CONFIG_MAPS, skipped).await;
    api.create("/api/v1/namespaces/kube-public/configmaps", map("m")).await;

    let pods = "/api/v1/namespaces/default/pods";
    api.create(pods, json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}})).await;
    deny["objectSelector"] = json!({});
    api.call("PUT", &format!("{VALIDATING}/v"), configuration("v", &[deny])).await;
    for (url, body) in [
        ("attach?container=c&stdout=true", Value::Null),
        ("binding", json!({"target": {"name": "n"}})),
        ("eviction", json!({"metadata": {"name": "p"}})),
    ] {
        let refused = api.call("POST", &format!("{pods}/p/{url}"), body).await;
        assert_eq!(
            message(&refused),
            "admission webhook \"svc.hook.io\" denied the request without explanation",
            "{url}"
        );
    }
    let asked = hook.requests("/deny");
    let attach = asked.iter().find(|r| r["subResource"] == "attach").unwrap();
    assert_eq!(
        attach["object"],
        json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdout": true, "container": "c"})
    );
    assert_eq!(
        (&attach["operation"], &attach["name"], &attach["kind"]["kind"]),
        (&json!("CONNECT"), &json!("p"), &json!("PodAttachOptions"))
    );

    // a scale is seen as a Scale
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    api.create(deployments, json!({"metadata": {"name": "d"}, "spec": spec})).await;
    let mut scale = hook.hook("scale.hook.io", "/scale", &["UPDATE"]);
    scale["rules"][0] = json!({"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "deployments/*"]});
    api.create(VALIDATING, configuration("w", &[scale])).await;
    assert_eq!(api.call("PATCH", &format!("{deployments}/d/scale"), json!({"spec": {"replicas": 3}})).await.0, 200);
    let asked = hook.requests("/scale");
    assert_eq!(
        (&asked[0]["kind"]["kind"], &asked[0]["object"]["spec"], &asked[0]["oldObject"]["spec"]),
        (&json!("Scale"), &json!({"replicas": 3}), &json!({"replicas": 1}))
    );
    assert_eq!(api.call("PATCH", &format!("{deployments}/d"), json!({"spec": {"paused": true}})).await.0, 400);
}

#[tokio::test]
async fn defaults_follow_mutations() {
    let api = Api::start().await;
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let hook = Hook::start(|_, _| {
        patch(&json!([{"op": "add", "path": "/spec/initContainers", "value": [{"name": "i", "image": "x"}]}]))
    })
    .await;
    let mut pods = hook.hook("pods.hook.io", "/pods", &["CREATE"]);
    pods["rules"][0]["resources"] = json!(["pods"]);
    api.create(MUTATING, configuration("m", &[pods])).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let made = api.create("/api/v1/namespaces/default/pods", pod).await;
    let added = &made["spec"]["initContainers"][0];
    assert_eq!((&added["terminationMessagePolicy"], &added["imagePullPolicy"]), (&json!("File"), &json!("Always")));
    assert_eq!(made["status"]["phase"], "Pending");
    assert!(added["volumeMounts"][0]["mountPath"].is_string(), "built-in plugins see it too: {added}");
}

#[tokio::test]
async fn equivalent_versions_are_shown_as_the_rules_name_them() {
    let api = Api::start().await;
    let hook = Hook::start(|_, _| {
        patch(&json!([{"op": "replace", "path": "/spec/metrics/0/resource/target/averageUtilization", "value": 70}]))
    })
    .await;
    let mut scalers = hook.hook("hpa.hook.io", "/hpa", &["CREATE"]);
    scalers["rules"][0]["apiGroups"] = json!(["autoscaling"]);
    scalers["rules"][0]["apiVersions"] = json!(["v2"]);
    scalers["rules"][0]["resources"] = json!(["horizontalpodautoscalers"]);
    let mut exact = scalers.clone();
    exact["matchPolicy"] = "Exact".into();
    exact["name"] = "exact.hook.io".into();
    exact["clientConfig"]["url"] = format!("https://{}/exact", hook.address).into();
    api.create(MUTATING, configuration("m", &[scalers, exact])).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let spec = json!({"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50});
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let made = api.create(v1, json!({"metadata": {"name": "h"}, "spec": spec})).await;
    assert_eq!(
        (&made["apiVersion"], &made["spec"]["targetCPUUtilizationPercentage"]),
        (&json!("autoscaling/v1"), &json!(70))
    );
    let asked = &hook.requests("/hpa")[0];
    assert_eq!(
        [
            &asked["kind"]["version"],
            &asked["requestKind"]["version"],
            &asked["object"]["apiVersion"],
            &asked["resource"]["version"]
        ],
        [&json!("v2"), &json!("v1"), &json!("autoscaling/v2"), &json!("v2")]
    );
    assert!(hook.requests("/exact").is_empty());
}
