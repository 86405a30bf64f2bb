//! The whole loop against an API server that only lists, watches and remembers what was written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::testing;

type Reply = Response<BoxBody<Bytes, Infallible>>;

#[derive(Debug)]
struct Write {
    method: Method,
    path: String,
    body: Value,
}

#[derive(Default)]
struct Api {
    objects: Mutex<HashMap<String, Vec<Value>>>,
    watchers: Mutex<HashMap<String, Vec<mpsc::UnboundedSender<Bytes>>>>,
    /// How many bindings to refuse.
    refuse: Mutex<usize>,
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

fn same(a: &Value, b: &Value) -> bool {
    a["metadata"]["name"] == b["metadata"]["name"]
}

impl Api {
    fn push(&self, plural: &str, kind: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!("2");
        let mut objects = self.objects.lock();
        let list = objects.entry(plural.to_owned()).or_default();
        list.retain(|old| !same(old, &object));
        if kind != "DELETED" {
            list.push(object.clone());
        }
        for watcher in self.watchers.lock().get(plural).into_iter().flatten() {
            watcher.send(line(kind, &object)).ok();
        }
    }

    /// Everything that exists comes first on each watch, so that nothing falls between list and watch.
    fn watch(&self, plural: &str) -> Reply {
        let (sender, receiver) = mpsc::unbounded_channel();
        let objects = self.objects.lock();
        for object in objects.get(plural).into_iter().flatten() {
            sender.send(line("ADDED", object)).unwrap();
        }
        self.watchers.lock().entry(plural.to_owned()).or_default().push(sender);
        let frames = UnboundedReceiverStream::new(receiver).map(|bytes| Ok(http_body::Frame::data(bytes)));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }

    fn list(&self, plural: &str) -> Reply {
        let objects = self.objects.lock();
        let items = objects.get(plural).cloned().unwrap_or_default();
        reply(
            StatusCode::OK,
            &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }

    /// There is one claim at most.
    fn annotate(&self, annotations: &Value) {
        let claim = self.objects.lock()["persistentvolumeclaims"].first().cloned();
        let mut claim = claim.unwrap();
        claim["metadata"]["annotations"] = annotations.clone();
        self.push("persistentvolumeclaims", "MODIFIED", claim);
    }

    async fn handle(
        self: Arc<Self>,
        request: Request<Body>,
        writes: mpsc::UnboundedSender<Write>,
    ) -> Result<Reply, Infallible> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
        if parts.method == Method::GET {
            let watching = parts.uri.query().unwrap_or_default().contains("watch=true");
            return Ok(if watching { self.watch(&plural) } else { self.list(&plural) });
        }
        let bytes = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let refused = plural == "binding" && std::mem::replace(&mut *self.refuse.lock(), 0) > 0;
        if path.contains("/persistentvolumeclaims/") {
            self.annotate(&body["metadata"]["annotations"]);
        }
        writes.send(Write { method: parts.method, path, body: body.clone() }).ok();
        Ok(match (refused, plural.as_str()) {
            (true, _) => reply(
                StatusCode::CONFLICT,
                &json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "Conflict", "code": 409}),
            ),
            (_, "binding") => reply(StatusCode::CREATED, &json!({"kind": "Status", "status": "Success", "code": 201})),
            _ => {
                let mut echo = body;
                if !echo["metadata"].is_object() {
                    echo = json!({"metadata": {"name": "x"}});
                }
                echo["metadata"]["name"] = json!("x");
                reply(
                    StatusCode::OK,
                    &json!({"metadata": echo["metadata"], "eventTime": null, "spec": {"containers": []}}),
                )
            }
        })
    }
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *response.status_mut() = status;
    response
}

struct Running {
    api: Arc<Api>,
    writes: mpsc::UnboundedReceiver<Write>,
}

fn start() -> Running {
    let api = Arc::new(Api::default());
    let (sender, writes) = mpsc::unbounded_channel();
    let served = Arc::clone(&api);
    let service = tower::service_fn(move |request: Request<Body>| Arc::clone(&served).handle(request, sender.clone()));
    let config = Config { initial_backoff_milliseconds: 10, ..Config::default() };
    tokio::spawn(crate::run(Client::new(service, "default"), config, std::future::pending()));
    Running { api, writes }
}

impl Running {
    async fn until(&mut self, wanted: impl Fn(&Write) -> bool) -> Write {
        let search = async {
            loop {
                let write = self.writes.recv().await.unwrap();
                if wanted(&write) {
                    return write;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), search).await.expect("the expected write in time")
    }

    async fn binding(&mut self, pod: &str) -> String {
        let path = format!("/api/v1/namespaces/default/pods/{pod}/binding");
        let write = self.until(|write| write.path == path).await;
        write.body["target"]["name"].as_str().unwrap().to_owned()
    }

    async fn event(&mut self, reason: &str) -> String {
        let write = self.until(|write| write.path.ends_with("/events") && write.body["reason"] == reason).await;
        assert_eq!(write.body["reportingComponent"], "default-scheduler");
        write.body["message"].as_str().unwrap().to_owned()
    }
}

fn pod(name: &str, requests: Value, spec: Value) -> Value {
    serde_json::to_value(testing::requesting(name, requests, spec)).unwrap()
}

fn node(name: &str) -> Value {
    serde_json::to_value(testing::node(name, json!({}))).unwrap()
}

#[tokio::test]
async fn a_pod_waits_for_a_node_and_is_bound() {
    let mut running = start();
    running.api.push("pods", "ADDED", pod("p", json!({"cpu": "1"}), json!({})));
    assert_eq!(running.event("FailedScheduling").await, "no nodes available to schedule pods");
    running.api.push("nodes", "ADDED", node("n"));
    assert_eq!(running.binding("p").await, "n");
    assert_eq!(running.event("Scheduled").await, "Successfully assigned default/p to n");
}

#[tokio::test]
async fn capacity_counts_before_the_watch_shows_it_and_a_failed_binding_is_tried_again() {
    let mut running = start();
    *running.api.refuse.lock() = 1;
    running.api.push("nodes", "ADDED", node("n"));
    running.api.push("pods", "ADDED", pod("a", json!({"cpu": "3"}), json!({})));
    assert_eq!(running.binding("a").await, "n");
    assert!(running.event("FailedScheduling").await.starts_with("binding rejected"));
    assert_eq!(running.binding("a").await, "n");
    running.api.push("pods", "ADDED", pod("b", json!({"cpu": "3"}), json!({})));
    let told = running.event("FailedScheduling").await;
    assert_eq!(
        told,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    running.api.push("pods", "DELETED", pod("a", json!({"cpu": "3"}), json!({"nodeName": "n"})));
    assert_eq!(running.binding("b").await, "n");
}

#[tokio::test]
async fn a_more_important_pod_evicts() {
    let mut running = start();
    running.api.push("nodes", "ADDED", node("n"));
    let low = pod("low", json!({"cpu": "3"}), json!({"nodeName": "n", "priority": 1}));
    running.api.push("pods", "ADDED", low.clone());
    running.api.push("pods", "ADDED", pod("high", json!({"cpu": "3"}), json!({"priority": 9})));
    let status = running.until(|write| write.path.ends_with("/pods/low/status")).await;
    assert_eq!(status.body["status"]["conditions"][0]["reason"], "PreemptionByScheduler");
    running.until(|write| write.method == Method::DELETE && write.path.ends_with("/pods/low")).await;
    running.api.push("pods", "DELETED", low);
    assert_eq!(running.binding("high").await, "n");
}

#[tokio::test]
async fn a_waiting_claim_is_settled_before_the_pod_is_bound() {
    let mut running = start();
    running.api.push("nodes", "ADDED", node("n"));
    running.api.push(
        "storageclasses",
        "ADDED",
        json!({"metadata": {"name": "local"}, "provisioner": "x/y", "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    let claim = |annotations: Value, volume: Value| {
        json!({"metadata": {"name": "data", "namespace": "default", "uid": "c", "annotations": annotations},
            "spec": {"storageClassName": "local", "volumeName": volume}})
    };
    running.api.push("persistentvolumeclaims", "ADDED", claim(json!({}), json!(null)));
    let spec = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    running.api.push("pods", "ADDED", pod("p", json!({}), spec));
    let selected = running.until(|write| write.path.ends_with("/persistentvolumeclaims/data")).await;
    assert_eq!(selected.body["metadata"]["annotations"]["volume.kubernetes.io/selected-node"], "n");
    let on_node = json!({"volume.kubernetes.io/selected-node": "n"});
    // Nothing else is written while the volume is made.
    assert!(tokio::time::timeout(Duration::from_millis(200), running.writes.recv()).await.is_err());
    let mut bound = claim(on_node, json!("pv"));
    bound["status"] = json!({"phase": "Bound"});
    running.api.push("persistentvolumeclaims", "MODIFIED", bound);
    assert_eq!(running.binding("p").await, "n");
}

#[tokio::test]
async fn gated_pods_are_left_alone() {
    let mut running = start();
    running.api.push("nodes", "ADDED", node("n"));
    running.api.push("pods", "ADDED", pod("p", json!({}), json!({"schedulingGates": [{"name": "wait"}]})));
    let status = running.until(|write| write.path.ends_with("/pods/p/status")).await;
    assert_eq!(status.body["status"]["conditions"][0]["reason"], "SchedulingGated");
    running.api.push("pods", "MODIFIED", pod("p", json!({}), json!({})));
    assert_eq!(running.binding("p").await, "n");
}
