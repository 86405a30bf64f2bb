//! Field ownership and server-side apply, over the in-process handler and with a real kubectl.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Api, admin};
use http_body_util::BodyExt;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: &str = "application/apply-patch+yaml";

fn deployment(replicas: i64, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

async fn send(api: &Api, content_type: &str, path: &str, body: impl ToString) -> (u16, Value, Vec<String>) {
    let response = api.send(admin(), "PATCH", path, content_type, body).await;
    let status = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap(), warnings)
}

async fn apply(api: &Api, path: &str, manager: &str, body: impl ToString) -> (u16, Value) {
    let separator = if path.contains('?') { '&' } else { '?' };
    let (status, value, _) = send(api, APPLY, &format!("{path}{separator}fieldManager={manager}"), body).await;
    (status, value)
}

fn entry(object: &Value, manager: &str, operation: &str, subresource: Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let wanted = |e: &&Value| e["manager"] == manager && e["operation"] == operation && e["subresource"] == subresource;
    entries.iter().find(wanted).cloned().unwrap_or_default()
}

#[tokio::test]
async fn writes_say_who_wrote_what() {
    let api = Api::start().await;
    let made = api.create(&format!("{DEPLOYMENTS}?fieldManager=maker"), deployment(1, "x")).await;
    let fields = &entry(&made, "maker", "Update", Value::Null)["fieldsV1"];
    let container = &fields["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    assert!(container["f:image"].is_object() && container["f:terminationMessagePath"].is_object(), "{fields}");
    assert!(fields["f:spec"].get(".").is_none() && fields["f:metadata"].is_null(), "{fields}");
    let url = format!("{DEPLOYMENTS}/web");
    let (_, scaled) = api.call("PATCH", &format!("{url}?fieldManager=scaler"), json!({"spec": {"replicas": 3}})).await;
    assert_eq!(entry(&scaled, "scaler", "Update", Value::Null)["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert!(entry(&scaled, "maker", "Update", Value::Null)["fieldsV1"]["f:spec"].get("f:replicas").is_none());
    api.call("PUT", &format!("{url}/scale?fieldManager=hpa"), json!({"spec": {"replicas": 4}})).await;
    let status = json!({"status": {"replicas": 4, "conditions": [{"type": "Available", "status": "True"}]}, "spec": {"replicas": 9}});
    api.call("PATCH", &format!("{url}/status?fieldManager=ctl"), status).await;
    let now = api.get(&url).await;
    assert_eq!(now["spec"]["replicas"], 4);
    assert_eq!(entry(&now, "hpa", "Update", json!("scale"))["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    let wanted = json!({"f:status": {"f:replicas": {}, "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}}});
    assert_eq!(entry(&now, "ctl", "Update", json!("status"))["fieldsV1"], wanted);
    // a PUT without managedFields keeps them; one with [{}] forgets them; nothing changes when nothing changes
    let mut silent = now.clone();
    silent["metadata"].as_object_mut().unwrap().remove("managedFields");
    let (_, same) = api.call("PUT", &url, silent).await;
    assert_eq!(same, now);
    let (_, forgotten) = api.call("PATCH", &url, json!({"metadata": {"managedFields": [{}]}})).await;
    assert_eq!(forgotten["metadata"].get("managedFields"), None, "{forgotten}");
    let (_, still) = api.call("PATCH", &url, json!({"spec": {"replicas": 1}})).await;
    assert_eq!(still["metadata"].get("managedFields"), None);
    let (status, error) = api.call("PATCH", &format!("{url}?fieldManager={}", "x".repeat(129)), json!({})).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (422, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes")
    );
}

#[tokio::test]
async fn apply_creates_merges_conflicts_and_prunes() {
    let api = Api::start().await;
    let url = format!("{DEPLOYMENTS}/web");
    let (status, error, _) = send(&api, APPLY, &url, deployment(1, "x")).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (422, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
    );
    assert_eq!(send(&api, "application/apply-patch+cbor", &url, "").await.0, 415);
    assert_eq!(apply(&api, &format!("{url}?dryRun=All"), "a", deployment(1, "x")).await.0, 201);
    let (status, made) = apply(&api, &url, "a", deployment(1, "x")).await;
    assert_eq!((status, &made["spec"]["strategy"]["type"]), (201, &json!("RollingUpdate")));
    let own = entry(&made, "a", "Apply", Value::Null);
    assert_eq!(own["fieldsV1"]["f:spec"]["f:selector"], json!({}));
    assert!(own["fieldsV1"]["f:spec"].get("f:strategy").is_none() && own["time"].is_string(), "{own}");
    let (status, same) = apply(&api, &url, "a", deployment(1, "x")).await;
    assert_eq!((status, &same), (200, &made));
    // a second applier, in YAML
    let yaml = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {b: '1'}}\nspec: {replicas: 2}\n";
    let (status, error) = apply(&api, &url, "b", yaml).await;
    assert_eq!(
        (status, &error["reason"], &error["message"]),
        (409, &json!("Conflict"), &json!("Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"))
    );
    assert_eq!(error["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let (status, forced) = apply(&api, &format!("{url}?force=true"), "b", yaml).await;
    assert_eq!((status, &forced["spec"]["replicas"]), (200, &json!(2)));
    // what "b" stops to apply goes back to nobody: the label goes, the default of replicas comes
    let (_, pruned) = apply(&api, &url, "b", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n").await;
    assert_eq!((pruned["metadata"].get("labels"), &pruned["spec"]["replicas"]), (None, &json!(1)));
    assert_eq!(entry(&pruned, "b", "Apply", Value::Null), Value::Null);
    let mut unknown = deployment(1, "x");
    unknown["spec"]["template"]["spec"]["foo"] = 1.into();
    let (status, error) = apply(&api, &url, "a", unknown).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (
            500,
            "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.template.spec.foo: field not declared in schema"
        )
    );
    let (status, error) = apply(&api, &format!("{DEPLOYMENTS}/other"), "a", deployment(1, "x")).await;
    assert_eq!(status, 400, "{error}");
}

#[tokio::test]
async fn apply_writes_status_and_scale() {
    let api = Api::start().await;
    let url = format!("{DEPLOYMENTS}/web");
    apply(&api, &url, "a", deployment(1, "x")).await;
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 7}, "status": {"replicas": 1, "readyReplicas": 1}});
    let (code, object) = apply(&api, &format!("{url}/status"), "ctl", status).await;
    assert_eq!(
        (code, &object["spec"]["replicas"], &object["status"]["readyReplicas"]),
        (200, &json!(1), &json!(1)),
        "{object}"
    );
    assert_eq!(
        entry(&object, "ctl", "Apply", json!("status"))["fieldsV1"],
        json!({"f:status": {"f:readyReplicas": {}, "f:replicas": {}}})
    );
    let scale =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}});
    let (code, error) = apply(&api, &format!("{url}/scale"), "hpa", scale.clone()).await;
    assert_eq!((code, error["details"]["causes"][0]["field"].as_str().unwrap()), (409, ".spec.replicas"));
    let (code, scaled) = apply(&api, &format!("{url}/scale?force=true"), "hpa", scale).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(5)));
    let now = api.get(&url).await;
    assert_eq!(entry(&now, "hpa", "Apply", json!("scale"))["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert!(entry(&now, "a", "Apply", Value::Null)["fieldsV1"]["f:spec"].get("f:replicas").is_none());
}

#[tokio::test]
async fn keys_given_twice_are_told() {
    let api = Api::start().await;
    let url = "/api/v1/namespaces/default/configmaps/c";
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: '1'\n  a: '2'\n";
    let (status, error) = apply(&api, &format!("{url}?fieldValidation=Strict"), "a", text).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (
            400,
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"a\" already set in map"
        )
    );
    let (status, made, warnings) = send(&api, APPLY, &format!("{url}?fieldManager=a"), text).await;
    assert_eq!((status, &made["data"]["a"]), (201, &json!("2")));
    assert_eq!(warnings, ["299 - \"line 6: key \\\"a\\\" already set in map\""]);
}

#[tokio::test]
async fn racing_applies_of_a_new_object_all_land() {
    let api = Api::start().await;
    let url = "/api/v1/namespaces/default/configmaps/raced";
    let each = (0..8).map(|index| {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "raced"}, "data": {format!("k{index}"): "v"}});
        let api = &api;
        async move { apply(api, url, &format!("m{index}"), config).await.0 }
    });
    let mut codes = futures::future::join_all(each).await;
    codes.sort_unstable();
    assert_eq!(codes, [200, 200, 200, 200, 200, 200, 200, 201]);
    let object = api.get(url).await;
    assert_eq!(object["data"].as_object().unwrap().len(), 8);
    assert_eq!(object["metadata"]["managedFields"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn fields_are_owned_across_versions() {
    let api = Api::start().await;
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/web");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let of = |version: &str, spec: Value| {
        json!({"apiVersion": format!("autoscaling/{version}"),
        "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec})
    };
    let old = of(
        "v1",
        json!({"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 50}),
    );
    assert_eq!(apply(&api, &path("v1"), "a", old).await.0, 201);
    // another manager meets the first one in the newer version
    let other = of("v2", json!({"minReplicas": 3}));
    let (status, error) = apply(&api, &path("v2"), "b", other.clone()).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (409, "Apply failed with 1 conflict: conflict with \"a\": .spec.minReplicas")
    );
    let (_, forced) = apply(&api, &format!("{}?force=true", path("v2")), "b", other).await;
    let mine = entry(&forced, "a", "Apply", Value::Null);
    assert_eq!(mine["apiVersion"], "autoscaling/v1");
    assert!(
        mine["fieldsV1"]["f:spec"].get("f:minReplicas").is_none()
            && mine["fieldsV1"]["f:spec"]["f:maxReplicas"].is_object()
    );
    // and the first one goes on in the newer version: what it no longer applies goes
    let newer = of("v2", json!({"scaleTargetRef": target, "maxReplicas": 6}));
    let (status, now) = apply(&api, &path("v2"), "a", newer).await;
    assert_eq!(
        (status, &now["spec"]["maxReplicas"], &now["spec"]["minReplicas"]),
        (200, &json!(6), &json!(3)),
        "{now}"
    );
    let entries = now["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(
        entries.iter().filter(|e| e["manager"] == "a").map(|e| e["apiVersion"].as_str().unwrap()).collect::<Vec<_>>(),
        ["autoscaling/v2"]
    );
}

#[tokio::test]
async fn custom_resources_are_applied_by_their_schema() {
    let api = Api::start().await;
    let port = json!({"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}, "host": {"type": "string"}}});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"], "items": port},
        }},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    }});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "gates.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Gate", "plural": "gates"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}]},
    });
    api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    let gates = "/apis/example.com/v1/namespaces/default/gates";
    let url = format!("{gates}/g");
    let gate =
        |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Gate", "metadata": {"name": "g"}, "spec": spec});
    let (status, made) = apply(&api, &url, "a", gate(json!({"size": 1, "ports": [{"port": 80, "host": "a"}]}))).await;
    assert_eq!(status, 201, "{made}");
    let (status, both) = apply(&api, &url, "b", gate(json!({"ports": [{"port": 81}]}))).await;
    assert_eq!((status, &both["spec"]["ports"]), (200, &json!([{"port": 80, "host": "a"}, {"port": 81}])));
    let (status, error) = apply(&api, &url, "b", gate(json!({"size": 2}))).await;
    assert_eq!((status, error["details"]["causes"][0]["field"].as_str().unwrap()), (409, ".spec.size"));
    let (status, error) = apply(&api, &url, "b", gate(json!({"nothing": 2}))).await;
    assert!(
        status == 500 && error["message"].as_str().unwrap().ends_with(".spec.nothing: field not declared in schema"),
        "{error}"
    );
    let mut phase = gate(json!({"size": 9}));
    phase["status"] = json!({"phase": "Open"});
    let (status, now) = apply(&api, &format!("{url}/status"), "ctl", phase).await;
    assert_eq!((status, &now["spec"]["size"], &now["status"]["phase"]), (200, &json!(1), &json!("Open")), "{now}");
    assert_eq!(entry(&now, "ctl", "Apply", json!("status"))["fieldsV1"], json!({"f:status": {"f:phase": {}}}));
    // what nobody applies any more goes
    let (_, less) = apply(&api, &url, "a", gate(json!({"size": 1}))).await;
    assert_eq!(less["spec"], json!({"size": 1, "ports": [{"port": 81}]}));
}

const MANIFEST: &str = r"
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
      - {name: c, image: 'nginx:1', ports: [{containerPort: 80}]}
";

#[tokio::test]
async fn kubectl_applies_on_the_server() {
    let api = Api::start().await;
    let server_side = ["apply", "--server-side", "-f", "-"];
    assert!(api.kubectl_ok(&server_side, MANIFEST).await.contains("deployment.apps/web serverside-applied"));
    api.kubectl_ok(&["scale", "deployment/web", "--replicas=5"], "").await;
    let (ok, text) = api.kubectl("admin", &server_side, MANIFEST).await;
    assert!(!ok && text.contains(".spec.replicas") && text.contains("conflict with \"kubectl\""), "{text}");
    api.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", "-"], MANIFEST).await;
    assert_eq!(api.get(&format!("{DEPLOYMENTS}/web")).await["spec"]["replicas"], 2);
    let changed = MANIFEST.replace("nginx:1", "nginx:2");
    let (_, text) = api.kubectl("admin", &["diff", "--server-side", "-f", "-"], &changed).await;
    assert!(text.contains("image: nginx:2"), "{text}");
    let (ok, text) = api.kubectl("admin", &["diff", "--server-side", "-f", "-"], MANIFEST).await;
    assert!(ok && text.is_empty(), "{text}");
}

#[tokio::test]
async fn client_side_applies_become_server_side_ones() {
    let api = Api::start().await;
    api.kubectl_ok(&["apply", "-f", "-"], MANIFEST).await;
    let changed = MANIFEST.replace("nginx:1", "nginx:2").replace("replicas: 2", "replicas: 3");
    api.kubectl_ok(&["apply", "--server-side", "-f", "-"], &changed).await;
    let fewer = changed.replace("metadata: {name: web, labels: {app: web}}", "metadata: {name: web}");
    api.kubectl_ok(&["apply", "--server-side", "-f", "-"], &fewer).await;
    let now = api.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(now["spec"]["replicas"], 3);
    let note =
        now["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap_or("{}");
    assert!(!note.contains("nginx:1"), "{note}");
}
