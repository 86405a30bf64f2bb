//! A real kubectl drives a real server over TLS.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Api;
use serde_json::{Value, json};

const MANIFEST: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: default}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: 'nginx:1', ports: [{containerPort: 80}], env: [{name: A, value: '1'}, {name: B, value: '2'}]}
      - {name: d, image: 'side:1'}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
";

#[tokio::test]
async fn apply_changes_what_the_manifest_changed() {
    let api = Api::start().await;
    let text = api.kubectl_ok(&["apply", "-f", "-"], MANIFEST).await;
    assert!(text.contains("deployment.apps/web created") && text.contains("service/web created"), "{text}");
    let again = api.kubectl_ok(&["apply", "-f", "-"], MANIFEST).await;
    assert!(again.contains("deployment.apps/web unchanged") && again.contains("service/web unchanged"), "{again}");
    api.kubectl_ok(&["scale", "deployment/web", "--replicas=5"], "").await;
    let changed =
        MANIFEST.replace("nginx:1", "nginx:2").replace("{name: A, value: '1'}, ", "").replace("  replicas: 2\n", "");
    assert!(api.kubectl_ok(&["apply", "-f", "-"], &changed).await.contains("deployment.apps/web configured"));
    let deployment = api.get("/apis/apps/v1/namespaces/default/deployments/web").await;
    let containers = &deployment["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["image"], &containers[1]["image"]), (&json!("nginx:2"), &json!("side:1")));
    assert_eq!(containers[0]["env"], json!([{"name": "B", "value": "2"}]));
    let (ok, text) = api.kubectl("admin", &["apply", "-f", "-"], &changed.replace("containers:", "kontainers:")).await;
    assert!(!ok && text.contains("kontainers"), "{text}");
}

#[tokio::test]
async fn tables_edits_and_deletes() {
    let api = Api::start().await;
    api.kubectl_ok(&["apply", "-f", "-"], MANIFEST).await;
    let table = api.kubectl_ok(&["get", "deploy,svc"], "").await;
    assert!(table.contains("READY   UP-TO-DATE   AVAILABLE   AGE") && table.contains("CLUSTER-IP"), "{table}");
    api.kubectl_ok(&["label", "deploy", "web", "tier=front"], "").await;
    api.kubectl_ok(&["annotate", "deploy", "web", "note=x"], "").await;
    api.kubectl_ok(&["set", "image", "deploy/web", "c=nginx:9"], "").await;
    assert!(api.kubectl_ok(&["get", "deploy", "-l", "tier=front", "-o", "wide"], "").await.contains("nginx:9"));
    assert!(api.kubectl_ok(&["describe", "deploy", "web"], "").await.contains("nginx:9"));
    assert!(
        api.kubectl_ok(&["get", "deploy", "web", "-o", "jsonpath={.metadata.annotations.note}"], "")
            .await
            .contains('x')
    );
    assert!(api.kubectl_ok(&["explain", "pod.spec.containers"], "").await.contains("livenessProbe"));
    assert!(api.kubectl_ok(&["api-resources"], "").await.contains("deploy"));
    assert!(api.kubectl_ok(&["delete", "deploy", "web"], "").await.contains("deleted"));
    let (ok, text) = api.kubectl("admin", &["get", "deploy", "web"], "").await;
    assert!(!ok && text.contains("(NotFound): deployments.apps \"web\" not found"), "{text}");
}

#[tokio::test]
async fn get_w_prints_changes() {
    let api = Api::start().await;
    api.create("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "first"}})).await;
    // kubectl's patience is also how long it watches: where that was too short, it watches once more
    for (name, patience) in [("second", "3s"), ("third", "15s"), ("fourth", "60s")] {
        let timeout = format!("--request-timeout={patience}");
        let args = ["get", "cm", "-w", &timeout];
        let watching = api.kubectl("admin", &args, "");
        let writing = async {
            tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
            api.create("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": name}})).await
        };
        let ((_, text), _): (_, Value) = tokio::join!(watching, writing);
        if text.contains("NAME") && text.contains("first") && text.contains(name) {
            return;
        }
        assert!(patience != "60s", "{text}");
    }
}

#[tokio::test]
async fn dry_runs_on_the_server_change_nothing() {
    let api = Api::start().await;
    let text = api.kubectl_ok(&["apply", "--dry-run=server", "-f", "-"], MANIFEST).await;
    assert!(text.contains("deployment.apps/web created (server dry run)"), "{text}");
    let deployment = "/apis/apps/v1/namespaces/default/deployments/web";
    assert_eq!(api.call("GET", deployment, Value::Null).await.0, 404);
    api.kubectl_ok(&["apply", "-f", "-"], MANIFEST).await;
    let changed = MANIFEST.replace("nginx:1", "nginx:2");
    let text = api.kubectl_ok(&["apply", "--dry-run=server", "-f", "-"], &changed).await;
    assert!(text.contains("deployment.apps/web configured (server dry run)"), "{text}");
    let (_, text) = api.kubectl("admin", &["diff", "-f", "-"], &changed).await;
    assert!(text.contains("+") && text.contains("image: nginx:2"), "{text}");
    assert_eq!(api.get(deployment).await["spec"]["template"]["spec"]["containers"][0]["image"], "nginx:1");
}

#[tokio::test]
async fn scales_to_nothing_from_what_it_was() {
    let api = Api::start().await;
    api.kubectl_ok(&["apply", "-f", "-"], MANIFEST).await;
    // with a precondition kubectl puts a Scale, in which Go leaves out the zero
    api.kubectl_ok(&["scale", "deployment/web", "--current-replicas=2", "--replicas=0"], "").await;
    assert_eq!(api.get("/apis/apps/v1/namespaces/default/deployments/web").await["spec"]["replicas"], 0);
}
