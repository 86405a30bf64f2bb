//! Discovery and OpenAPI, as clients read them; `kubectl explain`, `diff` and validation with every kubectl of this machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use apiserver::{Identity, ResponseBody};
use bytes::Bytes;
use common::{Api, admin, kubectls};
use http_body_util::{BodyExt, Full};
use machinery::resources;
use serde_json::{Value, json};
use tower::ServiceExt;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

async fn get_as(api: &Api, who: Identity, path: &str, headers: &[(&str, &str)]) -> http::Response<ResponseBody> {
    let mut request = http::Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.server().handler_as(who).oneshot(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap()
}

async fn get(api: &Api, path: &str, headers: &[(&str, &str)]) -> (http::response::Parts, Bytes) {
    let (head, body) = get_as(api, admin(), path, headers).await.into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|v| v[key].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn groups_versions_and_resources_are_listed() {
    let api = Api::start().await;
    let groups = api.get("/apis").await;
    assert_eq!(api.get("/apis/").await, groups);
    assert_eq!(api.get("/api").await, api.get("/api/").await);
    let order = names(&groups["groups"], "name");
    let place = |name: &str| order.iter().position(|g| g == name).unwrap();
    assert!(place("apps") < place("events.k8s.io") && place("batch") < place("storage.k8s.io"), "{order:?}");
    let autoscaling = api.get("/apis/autoscaling").await;
    assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
    assert_eq!(names(&autoscaling["versions"], "version"), ["v2", "v1"]);
    for group in groups["groups"].as_array().unwrap() {
        let versions = names(&group["versions"], "groupVersion");
        assert!(versions.contains(&group["preferredVersion"]["groupVersion"].as_str().unwrap().to_owned()));
        for version in versions {
            assert_eq!(api.get(&format!("/apis/{version}/")).await["groupVersion"], *version);
        }
    }
    for resource in resources::all() {
        let root = if resource.group.is_empty() { "/api" } else { "/apis" };
        let list = api.get(&format!("{root}/{}", resource.api_version())).await;
        let rows = list["resources"].as_array().unwrap();
        let row = rows.iter().find(|r| r["name"] == resource.plural).unwrap();
        assert_eq!((&row["kind"], &row["singularName"]), (&json!(resource.kind), &json!(resource.singular)));
        for sub in resource.subresources {
            let name = format!("{}/{}", resource.plural, sub.name);
            assert!(rows.iter().any(|r| r["name"] == *name), "{name}");
        }
    }
    let core = api.get("/api/v1").await;
    let row = |name: &str| core["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap().clone();
    // hashes that any cluster shows
    assert_eq!(row("pods")["storageVersionHash"], "xPOwRZ+Yhw8=");
    assert_eq!(row("pods")["shortNames"], json!(["po"]));
    assert_eq!(row("serviceaccounts/token")["group"], "authentication.k8s.io");
    let sorted = names(&core["resources"], "name");
    assert!(sorted.is_sorted(), "{sorted:?}");
    assert_eq!(api.call("GET", "/apis/nothing.example", Value::Null).await.0, 404);
}

#[tokio::test]
async fn aggregated_discovery_has_everything_and_a_tag() {
    let api = Api::start().await;
    let accept = format!(
        "{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    );
    let (head, body) = get(&api, "/apis", &[("accept", &accept)]).await;
    assert_eq!(head.headers["content-type"], AGGREGATED);
    let all: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&all["kind"], &all["apiVersion"]), (&json!("APIGroupDiscoveryList"), &json!("apidiscovery.k8s.io/v2")));
    let apps = all["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "apps").unwrap();
    let version = &apps["versions"][0];
    assert_eq!((&version["version"], &version["freshness"]), (&json!("v1"), &json!("Current")));
    let deployments = version["resources"].as_array().unwrap().iter().find(|r| r["resource"] == "deployments").unwrap();
    assert_eq!(deployments["scope"], "Namespaced");
    let scale = deployments["subresources"].as_array().unwrap().iter().find(|r| r["subresource"] == "scale").unwrap();
    assert_eq!(scale["responseKind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    let plain = api.get("/apis").await;
    let groups: Vec<String> =
        all["items"].as_array().unwrap().iter().map(|g| g["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(groups, names(&plain["groups"], "name"));

    let tag = head.headers["etag"].to_str().unwrap().to_owned();
    let (head, body) = get(&api, "/apis", &[("accept", AGGREGATED), ("if-none-match", &tag)]).await;
    assert_eq!((head.status.as_u16(), body.len(), head.headers["etag"].to_str().unwrap()), (304, 0, &*tag));
    let (_, body) = get(&api, "/api", &[("accept", AGGREGATED)]).await;
    let core: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((core["items"].as_array().unwrap().len(), &core["items"][0]["metadata"]["name"]), (1, &Value::Null));
    // v1.37 has no v2beta1 any more: clients that know nothing newer ask for the plain documents, too
    let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let (head, _) = get(&api, "/api", &[("accept", beta)]).await;
    assert_eq!(head.headers["content-type"], "application/json");
    let protobuf = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (head, body) = get(&api, "/apis", &[("accept", protobuf)]).await;
    assert_eq!(head.headers["content-type"], protobuf);
    assert!(body.starts_with(b"k8s\0") && body.windows(11).any(|w| w == b"deployments"), "{} bytes", body.len());
    let (head, _) = get(&api, "/api", &[("accept", &format!("application/json,{AGGREGATED}"))]).await;
    assert_eq!(head.headers["content-type"], "application/json");
}

/// Every `$ref` in a document leads somewhere.
fn check_references(value: &Value, prefix: &str, known: &serde_json::Map<String, Value>) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                assert!(known.contains_key(reference.strip_prefix(prefix).unwrap()), "{reference}");
            }
            map.values().for_each(|v| check_references(v, prefix, known));
        }
        Value::Array(list) => list.iter().for_each(|v| check_references(v, prefix, known)),
        _ => {}
    }
}

fn ids(paths: &Value) -> Vec<String> {
    let operations = paths.as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    operations.filter_map(|o| o["operationId"].as_str()).map(str::to_owned).collect()
}

#[tokio::test]
async fn openapi_v3_describes_every_group_version() {
    let api = Api::start().await;
    let index = api.get("/openapi/v3").await;
    for resource in resources::all() {
        let root = if resource.group.is_empty() { "api" } else { "apis" };
        assert!(index["paths"][format!("{root}/{}", resource.api_version())].is_object(), "{}", resource.kind);
    }
    for (path, entry) in index["paths"].as_object().unwrap() {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let (head, body) = get(&api, url, &[]).await;
        assert_eq!(head.headers["cache-control"], "public, immutable");
        let document: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["openapi"], "3.0.0", "{path}");
        let schemas = document["components"]["schemas"].as_object().unwrap();
        check_references(&document, "#/components/schemas/", schemas);
        for schema in schemas.values() {
            for property in schema["properties"].as_object().into_iter().flat_map(|p| p.values()) {
                assert!(property.get("$ref").is_none() || property.as_object().unwrap().len() == 1, "{property}");
            }
        }
        let ids = ids(&document["paths"]);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{path}: {ids:?}");
    }
    let (_, body) = get(&api, "/openapi/v3/apis/apps/v1", &[]).await;
    let apps: Value = serde_json::from_slice(&body).unwrap();
    let schemas = &apps["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    assert!(deployment["description"].as_str().unwrap().contains("declarative updates"), "{deployment}");
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(
        (&containers["x-kubernetes-list-type"], &containers["x-kubernetes-patch-merge-key"]),
        (&json!("map"), &json!("name"))
    );
    let one = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(one["patch"]["operationId"], "patchAppsV1NamespacedDeployment");
    assert!(names(&one["patch"]["parameters"], "name").contains(&"fieldValidation".to_owned()));
    assert!(apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"].is_object());

    let (head, _) = get(&api, "/openapi/v3/apis/apps/v1?hash=OLD", &[]).await;
    let location = head.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(
        (head.status.as_u16(), json!(location)),
        (301, index["paths"]["apis/apps/v1"]["serverRelativeURL"].clone())
    );
    let (head, packed) = get(&api, &location, &[("accept-encoding", "gzip")]).await;
    assert_eq!(head.headers["content-encoding"], "gzip");
    assert!(packed.len() < body.len() / 4);
    let tag = head.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(get(&api, &location, &[("if-none-match", &tag)]).await.0.status, 304);
    assert_eq!(api.call("GET", "/openapi/v3/apis/nothing/v1", Value::Null).await.0, 404);
}

#[tokio::test]
async fn openapi_v2_is_one_document() {
    let api = Api::start().await;
    let (head, body) = get(&api, "/openapi/v2", &[]).await;
    let document: Value = serde_json::from_slice(&body).unwrap();
    let definitions = document["definitions"].as_object().unwrap();
    check_references(&document, "#/definitions/", definitions);
    for resource in resources::all() {
        let kinds = definitions[resource.definition]["x-kubernetes-group-version-kind"].as_array().unwrap();
        assert!(kinds.iter().any(|k| k["kind"] == resource.kind && k["group"] == resource.group), "{}", resource.kind);
    }
    assert!(definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["nodeName"]["description"].is_string());
    let ids = ids(&document["paths"]);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let tag = head.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(get(&api, "/openapi/v2", &[("if-none-match", &tag)]).await.0.status, 304);
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let (head, protobuf) = get(&api, "/openapi/v2", &[("accept", asked)]).await;
    assert_eq!(head.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert!(protobuf.starts_with(b"\x0a\x032.0") && protobuf.len() > 100_000);
    let asked = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    let (head, protobuf) = get(&api, "/openapi/v3/apis/apps/v1", &[("accept", asked)]).await;
    assert_eq!(head.headers["content-type"], "application/com.github.proto-openapi.spec.v3.v1.0+protobuf");
    assert!(protobuf.starts_with(b"\x0a\x053.0.0") && protobuf.len() > 100_000, "{} bytes", protobuf.len());
    let reference = b"#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec";
    assert!(protobuf.windows(reference.len()).any(|w| w == reference));
}

#[tokio::test]
async fn any_authenticated_user_may_look() {
    let api = Api::start().await;
    let user = || Identity::new("somebody", ["system:authenticated"]);
    for path in [
        "/api",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/api/v1/",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/api/v1",
        "/version",
    ] {
        assert_eq!(get_as(&api, user(), path, &[]).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn metadata_and_tables_for_reads_and_watches() {
    let api = Api::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    api.create(maps, json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}})).await;
    let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let (_, body) = get(&api, &format!("{maps}/a"), &[("accept", metadata)]).await;
    let one: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&one["kind"], &one["apiVersion"], &one["data"]),
        (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1"), &Value::Null)
    );
    let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1";
    let (_, body) = get(&api, maps, &[("accept", list)]).await;
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("PartialObjectMetadataList"), &json!("meta.k8s.io/v1beta1"))
    );
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let (_, body) = get(&api, &format!("{maps}/a?includeObject=Object"), &[("accept", table)]).await;
    let table: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&table["kind"], &table["rows"][0]["object"]["kind"]), (&json!("Table"), &json!("ConfigMap")));
}

fn widgets(description: &str) -> Value {
    let schema = json!({
        "type": "object", "description": description,
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "description": "How large it is."}}}},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "schema": {"openAPIV3Schema": schema}},
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}},
            ],
        },
    })
}

/// The first answer about custom resources that is as `wanted` says; they appear soon after their definition.
async fn soon(api: &Api, path: &str, headers: &[(&str, &str)], wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..100 {
        let (_, body) = get(api, path, headers).await;
        let value = serde_json::from_slice(&body).unwrap_or_default();
        if wanted(&value) {
            return value;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{path} never was as it should be");
}

#[tokio::test]
async fn custom_resources_are_discovered_described_and_speak_json() {
    let api = Api::start().await;
    let before = api.get("/openapi/v3").await;
    api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", widgets("A thing.")).await;
    let group = soon(&api, "/apis/example.com", &[], |v| v["kind"] == "APIGroup").await;
    assert_eq!(names(&group["versions"], "version"), ["v1", "v1beta1"]);
    let list = api.get("/apis/example.com/v1").await;
    assert_eq!(names(&list["resources"], "name"), ["widgets", "widgets/status"]);
    let all = soon(&api, "/apis", &[("accept", AGGREGATED)], |v| v.to_string().contains("widgets")).await;
    assert_eq!(all["items"].as_array().unwrap().last().unwrap()["metadata"]["name"], "example.com");

    let path = "apis/example.com/v1";
    let index = soon(&api, "/openapi/v3", &[], |v| v["paths"][path].is_object()).await;
    assert_eq!(index["paths"]["apis/apps/v1"], before["paths"]["apis/apps/v1"]);
    let url = index["paths"][path]["serverRelativeURL"].as_str().unwrap();
    let document = api.get(url).await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    check_references(&document, "#/components/schemas/", schemas);
    assert_eq!(schemas["com.example.v1.Widget"]["description"], "A thing.");
    assert!(schemas.contains_key("com.example.v1.WidgetList"));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/status"]["patch"].is_object());
    let v2 = api.get("/openapi/v2").await;
    check_references(&v2, "#/definitions/", v2["definitions"].as_object().unwrap());
    assert_eq!(
        v2["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"]["size"]["type"],
        "integer"
    );

    // a change of the definition is published
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
    api.call("PATCH", definition, json!({"spec": {"versions": widgets("A better thing.")["spec"]["versions"]}})).await;
    soon(&api, &format!("/openapi/{}", "v2"), &[], |v| v.to_string().contains("A better thing.")).await;
    let changed = soon(&api, "/openapi/v3", &[], |v| v["paths"][path] != index["paths"][path]).await;
    assert!(changed["paths"][path].is_object());

    // no protobuf: refused, or JSON where that is taken, too
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let protobuf = machinery::protobuf::MEDIA_TYPE;
    let body = b"k8s\0".to_vec();
    let request = http::Request::builder().method("POST").uri(widgets).header("content-type", protobuf);
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    assert_eq!(api.server().handler_as(admin()).oneshot(request).await.unwrap().status(), 415);
    assert_eq!(get(&api, widgets, &[("accept", protobuf)]).await.0.status, 406);
    let (head, _) = get(&api, widgets, &[("accept", "application/vnd.kubernetes.protobuf,application/json")]).await;
    assert_eq!((head.status.as_u16(), head.headers["content-type"].to_str().unwrap()), (200, "application/json"));
    for kubectl in kubectls::all() {
        let explained = api.run_kubectl(&kubectl.program, "admin", &["explain", "widget.spec.size"], "").await;
        assert!(
            explained.0 && explained.1.contains("How large it is."),
            "kubectl 1.{}: {}",
            kubectl.minor,
            explained.1
        );
    }
    assert_eq!(api.call("DELETE", definition, Value::Null).await.0, 200);
    soon(&api, "/openapi/v3", &[], |v| v["paths"].is_object() && v["paths"][path].is_null()).await;
}

const DEPLOYMENT: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'nginx:1', ports: [{containerPort: 80}]}]}
";

#[tokio::test]
async fn every_kubectl_explains_validates_and_diffs() {
    let api = Api::start().await;
    for kubectl in kubectls::all() {
        let run = async |args: &[&str], stdin: &str| api.run_kubectl(&kubectl.program, "admin", args, stdin).await;
        let said = async |args: &[&str], stdin: &str, wanted: &[&str]| {
            let (ok, text) = run(args, stdin).await;
            assert!(ok && wanted.iter().all(|w| text.contains(w)), "kubectl 1.{} {args:?}: {text}", kubectl.minor);
        };
        said(&["explain", "pod.spec.containers.livenessProbe"], "", &["Periodic probe", "initialDelaySeconds"]).await;
        said(&["explain", "deployment", "--recursive"], "", &["readinessGates", "maxSurge", "<"]).await;
        said(&["explain", "networkpolicy.spec.ingress.from"], "", &["podSelector", "namespaceSelector"]).await;
        said(&["api-resources"], "", &["deployments", "deploy", "networkpolicies", "netpol"]).await;
        said(&["api-versions"], "", &["apps/v1", "autoscaling/v2", "v1\n"]).await;
        said(&["apply", "-f", "-"], DEPLOYMENT, &["deployment.apps/web"]).await;
        let changed = DEPLOYMENT.replace("nginx:1", "nginx:2");
        let (_, text) = run(&["diff", "-f", "-"], &changed).await;
        assert!(text.contains("+") && text.contains("image: nginx:2"), "kubectl 1.{}: {text}", kubectl.minor);
        let wrong = DEPLOYMENT.replace("containerPort", "kontainerPort");
        let (ok, text) = run(&["apply", "--validate=true", "-f", "-"], &wrong).await;
        assert!(!ok && text.contains("kontainerPort"), "kubectl 1.{}: {text}", kubectl.minor);
        said(&["delete", "deployment", "web"], "", &["deleted"]).await;
    }
}
