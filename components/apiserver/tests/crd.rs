//! Custom resources, over the in-process handler and with kubectl.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{Api, converter};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CRONS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

fn schema(spec: Value) -> Value {
    json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}})
}

fn spec() -> Value {
    json!({"type": "object", "required": ["cronSpec"], "properties": {
        "cronSpec": {"type": "string", "pattern": "^\\S+$"},
        "image": {"type": "string"},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
        "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }})
}

fn version(name: &str, spec: Value) -> Value {
    json!({"name": name, "served": true, "storage": true, "schema": schema(spec)})
}

fn definition(plural: &str, kind: &str, versions: &[Value]) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.stable.example.com")},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": plural, "kind": kind, "shortNames": [&plural[..2]], "categories": ["all"]}}})
}

fn crontabs() -> Value {
    let mut version = version("v1", spec());
    version["subresources"] = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}});
    version["additionalPrinterColumns"] = json!([
        {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]);
    version["selectableFields"] = json!([{"jsonPath": ".spec.image"}]);
    definition("crontabs", "CronTab", &[version])
}

fn cron(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

fn message(answer: &(u16, Value)) -> &str {
    answer.1["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_definition_is_served_at_once_and_until_it_is_deleted() {
    let mut api = Api::start().await;
    let made = api.create(CRDS, crontabs()).await;
    let names = json!({"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList",
        "shortNames": ["cr"], "categories": ["all"]});
    assert_eq!(made["status"]["acceptedNames"], names);
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let conditions: Vec<String> = made["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{}={}", c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    assert_eq!(conditions, ["NamesAccepted=True", "Established=True"]);
    let list = api.get("/apis/stable.example.com/v1").await;
    let entries: Vec<&str> =
        list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(entries, ["crontabs", "crontabs/status", "crontabs/scale"]);
    assert_eq!(api.get("/apis/stable.example.com").await["preferredVersion"]["version"], "v1");
    let created = api.create(CRONS, cron("a", json!({"cronSpec": "*/5"}))).await;
    assert_eq!((&created["spec"]["replicas"], &created["metadata"]["generation"]), (&json!(1), &json!(1)));
    api.restart().await;
    assert_eq!(api.get(&format!("{CRONS}/a")).await["spec"]["cronSpec"], "*/5", "served before ready");
    let held = api.call("PATCH", &format!("{CRONS}/a"), json!({"metadata": {"finalizers": ["x.io/y"]}})).await;
    assert_eq!(held.0, 200, "{}", held.1);
    let crd = format!("{CRDS}/crontabs.stable.example.com");
    let (status, going) = api.call("DELETE", &crd, Value::Null).await;
    assert_eq!(
        (status, &going["metadata"]["finalizers"]),
        (200, &json!(["customresourcecleanup.apiextensions.k8s.io"]))
    );
    let refused = api.call("POST", CRONS, cron("b", json!({"cronSpec": "x"}))).await;
    assert_eq!(
        (refused.0, message(&refused)),
        (405, "create not allowed while custom resource definition is terminating")
    );
    let mut watch = api.watch(&format!("{CRONS}?watch=1")).await;
    while watch.next().await.1["metadata"]["deletionTimestamp"].is_null() {}
    assert_eq!(api.call("PATCH", &format!("{CRONS}/a"), json!({"metadata": {"finalizers": null}})).await.0, 200);
    // the watch of its objects ends with the definition
    while watch.line().await.is_some() {}
    assert_eq!(api.call("GET", &crd, Value::Null).await.0, 404);
    assert_eq!(api.call("GET", CRONS, Value::Null).await.0, 404);
    assert_eq!(api.call("GET", "/apis/stable.example.com", Value::Null).await.0, 404);
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_judged() {
    let api = Api::start().await;
    api.create(CRDS, crontabs()).await;
    let mut odd = cron("a", json!({"cronSpec": "x", "unknown": 1, "image": null, "extra": {"free": {"x": 1}}}));
    odd["metadata"]["strange"] = 1.into();
    let strict = api.call("POST", &format!("{CRONS}?fieldValidation=Strict"), odd.clone()).await;
    assert_eq!(
        (strict.0, message(&strict)),
        (
            400,
            "CronTab in version \"v1\" cannot be handled as a CronTab: strict decoding error: unknown field \"metadata.strange\", unknown field \"spec.unknown\""
        )
    );
    let made = api.create(CRONS, odd).await;
    assert_eq!(made["spec"], json!({"cronSpec": "x", "replicas": 1, "extra": {"free": {"x": 1}}}));
    assert!(made["metadata"].get("strange").is_none());
    let bad = api.call("POST", CRONS, cron("b", json!({"replicas": 11, "cronSpec": "a b"}))).await;
    assert_eq!(bad.0, 422);
    assert_eq!(
        message(&bad),
        "CronTab.stable.example.com \"b\" is invalid: [spec.cronSpec: Invalid value: \"a b\": spec.cronSpec in body should match '^\\S+$', spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10]"
    );
    let absent = api.call("POST", CRONS, json!({"metadata": {"name": "b"}, "spec": {}})).await;
    assert_eq!(
        absent.1["details"]["causes"][0],
        json!({"reason": "FieldValueRequired", "message": "Required value", "field": "spec.cronSpec"})
    );
    let url = format!("{CRONS}/a");
    let response = api.send(common::admin(), "PATCH", &url, "application/strategic-merge-patch+json", "{}").await;
    assert_eq!(response.status(), 415);
    // a stricter schema: what does not change may stay, and new defaults show on old objects
    let crd = format!("{CRDS}/crontabs.stable.example.com");
    let mut stricter = api.get(&crd).await;
    let properties =
        &mut stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    properties["cronSpec"]["minLength"] = 3.into();
    properties["image"]["default"] = "busybox".into();
    assert_eq!(api.call("PUT", &crd, stricter).await.0, 200);
    assert_eq!(api.get(&url).await["spec"]["image"], "busybox");
    let selected = api.get(&format!("{CRONS}?fieldSelector=spec.image%3Dbusybox")).await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.call("GET", &format!("{CRONS}?fieldSelector=spec.cronSpec%3Dx"), Value::Null).await.0, 400);
    assert_eq!(api.call("PATCH", &url, json!({"spec": {"replicas": 2}})).await.0, 200);
    assert_eq!(api.call("PATCH", &url, json!({"spec": {"cronSpec": "y"}})).await.0, 422);
}

#[tokio::test]
async fn status_and_scale_are_apart() {
    let api = Api::start().await;
    api.create(CRDS, crontabs()).await;
    let mut body = cron("a", json!({"cronSpec": "x"}));
    body["status"] = json!({"replicas": 5});
    let made = api.create(CRONS, body).await;
    assert!(made.get("status").is_none());
    let url = format!("{CRONS}/a");
    let status = json!({"status": {"replicas": 3, "selector": "a=b"}, "spec": {"cronSpec": "no"}, "metadata": {"labels": {"l": "m"}}});
    let (code, after) = api.call("PATCH", &format!("{url}/status"), status).await;
    assert_eq!(
        (code, &after["spec"]["cronSpec"], &after["metadata"]["generation"]),
        (200, &json!("x"), &json!(1)),
        "{after}"
    );
    assert!(after["metadata"].get("labels").is_none(), "upstream takes nothing but status");
    let scale = api.get(&format!("{url}/scale")).await;
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 3, "selector": "a=b"}))
    );
    let (code, scale) = api.call("PATCH", &format!("{url}/scale"), json!({"spec": {"replicas": 4}})).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(4)));
    let now = api.get(&url).await;
    assert_eq!(
        (&now["spec"]["replicas"], &now["metadata"]["generation"], &now["status"]["replicas"]),
        (&json!(4), &json!(2), &json!(3))
    );
    let table = {
        let request = http::Request::get(&url)
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Full::<bytes::Bytes>::default())
            .unwrap();
        let response = tower::ServiceExt::oneshot(api.server().handler_as(common::admin()), request).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let names: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Name", "Spec", "Replicas", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..3], [json!("a"), json!("x"), json!(4)]);
}

#[tokio::test]
async fn definitions_are_judged_in_upstreams_words() {
    let api = Api::start().await;
    let refused = |body: Value| {
        let api = &api;
        async move {
            let answer = api.call("POST", CRDS, body).await;
            assert_eq!(answer.0, 422, "{}", answer.1);
            message(&answer).to_owned()
        }
    };
    let mut nameless = crontabs();
    nameless["metadata"]["name"] = "x".into();
    assert!(
        refused(nameless)
            .await
            .ends_with("metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group")
    );
    let open = definition("crontabs", "CronTab", &[version("v1", json!({"properties": {"a": {}}}))]);
    assert!(refused(open).await.contains("spec.validation.openAPIV3Schema.properties[spec].properties[a].type: Required value: must not be empty for specified object fields"));
    let mut dotless = crontabs();
    dotless["spec"]["group"] = "example".into();
    assert!(refused(dotless).await.contains("should be a domain with at least one dot"));
    let mut two = crontabs();
    let mut other = version("v2", json!({"type": "objekt"}));
    other["storage"] = false.into();
    two["spec"]["versions"].as_array_mut().unwrap().push(other);
    assert!(
        refused(two)
            .await
            .contains("spec.versions[1].schema.openAPIV3Schema.properties[spec].type: Unsupported value: \"objekt\"")
    );
    let unknown = json!({"metadata": {"name": "a"}, "spec": {"versions": [{"schema": {"openAPIV3Schema": {"items": {"wrong": 1}}}}]}});
    let strict = api.call("POST", &format!("{CRDS}?fieldValidation=Strict"), unknown).await;
    assert_eq!(
        message(&strict),
        "CustomResourceDefinition in version \"v1\" cannot be handled as a CustomResourceDefinition: strict decoding error: unknown field \"spec.versions[0].schema.openAPIV3Schema.items.wrong\""
    );
    // names: the first keeps them, and gives them back when it goes
    api.create(CRDS, crontabs()).await;
    let second = api.create(CRDS, definition("tabs", "CronTab", &[version("v1", spec())])).await;
    let condition = &second["status"]["conditions"][0];
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("ListKindConflict"), &json!("\"CronTabList\" is already in use"))
    );
    assert_eq!(api.call("GET", "/apis/stable.example.com/v1/tabs", Value::Null).await.0, 404);
    let mut watch = api.watch(&format!("{CRDS}?watch=1&fieldSelector=metadata.name%3Dtabs.stable.example.com")).await;
    api.call("DELETE", &format!("{CRDS}/crontabs.stable.example.com"), Value::Null).await;
    while watch.next().await.1["status"]["conditions"][1]["status"] != "True" {}
    // a write of a definition is answered when it is served
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(api.call("PATCH", &format!("{CRDS}/tabs.stable.example.com"), labels).await.0, 200);
    assert_eq!(api.call("GET", "/apis/stable.example.com/v1/tabs", Value::Null).await.0, 200);
}

#[tokio::test]
async fn versions_are_converted_by_a_webhook() {
    let api = Api::start().await;
    let url = converter::start(&api).await;
    let text = json!({"type": "string"});
    let v1 = version("v1", json!({"type": "object", "properties": {"hostPort": text}}));
    let mut v2 = version("v2", json!({"type": "object", "properties": {"host": text, "port": text}}));
    v2["storage"] = false.into();
    v2["selectableFields"] = json!([{"jsonPath": ".spec.host"}]);
    v2["deprecated"] = true.into();
    let mut crd = definition("hosts", "Host", &[v1, v2]);
    crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"url": url, "caBundle": STANDARD.encode(std::fs::read(api.path().join("ca.crt")).unwrap())}}});
    api.create(CRDS, crd).await;
    let path = |version: &str| format!("/apis/stable.example.com/{version}/namespaces/default/hosts");
    let one = json!({"metadata": {"name": "one"}, "spec": {"hostPort": "a.example:80"}});
    api.create(&path("v1"), one).await;
    let mut watch = api.watch(&format!("{}?watch=1&fieldSelector=spec.host%3Db.example", path("v2"))).await;
    let two = api
        .create(&path("v2"), json!({"metadata": {"name": "two"}, "spec": {"host": "b.example", "port": "81"}}))
        .await;
    assert_eq!((&two["apiVersion"], &two["spec"]["port"]), (&json!("stable.example.com/v2"), &json!("81")));
    let (kind, seen) = watch.next().await;
    assert_eq!(
        (kind.as_str(), &seen["metadata"]["name"], &seen["spec"]["port"]),
        ("ADDED", &json!("two"), &json!("81"))
    );
    assert_eq!(api.get(&format!("{}/two", path("v1"))).await["spec"], json!({"hostPort": "b.example:81"}));
    let response = api.send(common::admin(), "GET", &format!("{}/two", path("v2")), "", "").await;
    assert_eq!(response.headers()["warning"], "299 - \"stable.example.com/v2 Host is deprecated\"");
    // the other version is stored from now on: watches begin anew, lists are of one version, and writes migrate
    let name = format!("{CRDS}/hosts.stable.example.com");
    let mut crd = api.get(&name).await;
    (crd["spec"]["versions"][0]["storage"], crd["spec"]["versions"][1]["storage"]) = (false.into(), true.into());
    let (status, crd) = api.call("PUT", &name, crd).await;
    assert_eq!((status, &crd["status"]["storedVersions"]), (200, &json!(["v1", "v2"])));
    assert!(tokio::time::timeout(std::time::Duration::from_secs(60), watch.line()).await.unwrap().is_none());
    api.create(&path("v2"), json!({"metadata": {"name": "three"}, "spec": {"host": "c.example", "port": "82"}})).await;
    let list = api.get(&path("v2")).await;
    let hosts: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|i| i["spec"]["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["a.example", "c.example", "b.example"]);
    let before = api.get(&format!("{}/one", path("v1"))).await;
    let (_, after) = api.call("PATCH", &format!("{}/one", path("v1")), json!({})).await;
    assert_ne!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"], "stored anew");
    let (_, again) = api.call("PATCH", &format!("{}/one", path("v1")), json!({})).await;
    assert_eq!(again["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]);
    let mut crd = api.get(&name).await;
    crd["spec"]["conversion"]["webhook"]["clientConfig"]["url"] = "https://127.0.0.1:1/".into();
    assert_eq!(api.call("PUT", &name, crd).await.0, 200);
    let failed = api.call("GET", &format!("{}/one", path("v1")), Value::Null).await;
    assert_eq!(failed.0, 500);
    assert!(message(&failed).starts_with("conversion webhook for stable.example.com/v2, Kind=Host failed: Post \"https://127.0.0.1:1/?timeout=30s\": "), "{}", failed.1);
}

/// kubectl chooses its patch by what is published, and generic clients read a list's items by their own kind.
#[tokio::test]
async fn generic_clients_are_told_what_they_need() {
    let api = Api::start().await;
    api.create(CRDS, crontabs()).await;
    api.create(CRONS, cron("a", json!({"cronSpec": "*"}))).await;
    let list = api.get(CRONS).await;
    let item = &list["items"][0];
    assert_eq!((&item["apiVersion"], &item["kind"]), (&json!("stable.example.com/v1"), &json!("CronTab")));
    let document = api.get("/openapi/v3/apis/stable.example.com/v1").await;
    let paths = document["paths"].as_object().unwrap();
    let patches = paths.iter().filter_map(|(_, path)| path.get("patch"));
    let bodies: Vec<_> = patches.filter_map(|patch| patch["requestBody"]["content"].as_object()).collect();
    assert!(!bodies.is_empty());
    for body in bodies {
        assert!(body.contains_key("application/merge-patch+json"), "{body:?}");
        assert!(!body.contains_key("application/strategic-merge-patch+json"), "{body:?}");
    }
}

#[tokio::test]
async fn kubectl_uses_custom_resources() {
    let api = Api::start().await;
    api.kubectl_ok(&["apply", "--validate=false", "-f", "-"], &crontabs().to_string()).await;
    let text = api
        .kubectl_ok(&["wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=60s"], "")
        .await;
    assert!(text.contains("condition met"), "{text}");
    api.kubectl_ok(&["apply", "--validate=false", "-f", "-"], &cron("k", json!({"cronSpec": "x"})).to_string()).await;
    let text = api.kubectl_ok(&["get", "cr"], "").await;
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!((&lines[0][..], &lines[1][..2]), (&["NAME", "SPEC", "AGE"][..], &["k", "x"][..]), "{text}");
    api.kubectl_ok(&["scale", "crontab/k", "--replicas=3"], "").await;
    api.kubectl_ok(&["patch", "crontab", "k", "--type=merge", "-p", r#"{"spec":{"image":"i"}}"#], "").await;
    assert_eq!(
        api.kubectl_ok(&["get", "crontab", "k", "-o", "jsonpath={.spec.replicas}{.spec.image}"], "").await,
        "3i"
    );
    let text = api.kubectl_ok(&["api-resources", "--api-group=stable.example.com"], "").await;
    assert!(text.contains("crontabs") && text.contains("CronTab"), "{text}");
    let text = api.kubectl_ok(&["explain", "crontabs.spec.replicas"], "").await;
    assert!(text.contains("CronTab") && text.contains("<integer>"), "{text}");
    let published = api.get("/openapi/v3/apis/stable.example.com/v1").await;
    let schema = &published["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["properties"]["replicas"]["maximum"].as_f64(), Some(10.0), "{schema}");
    api.kubectl_ok(&["delete", "crd", "crontabs.stable.example.com", "--timeout=60s"], "").await;
    assert!(!api.kubectl("admin", &["get", "cr"], "").await.0);
}

#[tokio::test]
async fn rules_are_asked_about_objects_that_are_right_otherwise() {
    let api = Api::start().await;
    let mut spec = spec();
    spec["x-kubernetes-validations"] = json!([{"rule": "self.replicas < 5", "message": "too many"}]);
    api.create(CRDS, definition("crontabs", "CronTab", &[version("v1", spec.clone())])).await;
    let broken = api.call("POST", CRONS, cron("a", json!({"cronSpec": "x", "replicas": 6}))).await;
    assert_eq!(broken.0, 422);
    assert!(
        message(&broken).starts_with("CronTab.stable.example.com \"a\" is invalid: spec: Invalid value: "),
        "{}",
        broken.1
    );
    assert!(message(&broken).ends_with(": too many"), "{}", broken.1);
    let absent = api.call("POST", CRONS, cron("a", json!({"replicas": 6}))).await;
    assert!(
        message(&absent).contains("some validation rules were not checked because the object was invalid"),
        "{}",
        absent.1
    );
    spec["x-kubernetes-validations"][0]["rule"] = "self.nothing > 1".into();
    let unknown = api.call("POST", CRDS, definition("others", "Other", &[version("v1", spec)])).await;
    assert_eq!(unknown.0, 422);
    assert!(
        message(&unknown).contains("spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"),
        "{}",
        unknown.1
    );
}
