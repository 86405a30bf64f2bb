//! Definitions of custom resources: their conditions, their numbers, and who owns fields across versions that a webhook converts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{Api, admin, converter};
use http_body_util::BodyExt;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn version(name: &str, storage: bool, spec: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}})
}

fn definition(group: &str, plural: &str, kind: &str, versions: &[Value]) -> Value {
    json!({"metadata": {"name": format!("{plural}.{group}")}, "spec": {"group": group, "scope": "Namespaced",
        "versions": versions, "names": {"plural": plural, "kind": kind}}})
}

fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Type, status, reason and message of each condition.
fn conditions(definition: &Value) -> Vec<[&str; 4]> {
    let all = definition["status"]["conditions"].as_array().unwrap();
    all.iter().map(|c| ["type", "status", "reason", "message"].map(|key| c[key].as_str().unwrap())).collect()
}

const ACCEPTED: [&str; 4] = ["NamesAccepted", "True", "NoConflicts", "no conflicts found"];
const ESTABLISHED: [&str; 4] = ["Established", "True", "InitialNamesAccepted", "the initial names have been accepted"];

#[tokio::test]
async fn conditions_are_upstreams() {
    let api = Api::start().await;
    let create = |mut definition: Value, metadata: Value| {
        for (key, value) in metadata.as_object().unwrap() {
            definition["metadata"][key] = value.clone();
        }
        api.create(CRDS, definition)
    };
    let v1 = || [version("v1", true, open())];
    let first = create(definition("a.example", "ones", "One", &v1()), json!({"finalizers": ["x.io/keep"]})).await;
    assert_eq!(conditions(&first), [ACCEPTED, ESTABLISHED]);
    assert_eq!(first["status"]["storedVersions"], json!(["v1"]));
    let second = create(definition("a.example", "others", "One", &v1()), json!({"finalizers": ["x.io/keep"]})).await;
    let conflict = ["NamesAccepted", "False", "ListKindConflict", "\"OneList\" is already in use"];
    assert_eq!(conditions(&second), [conflict, ["Established", "False", "NotAccepted", "not all names are accepted"]]);
    for (plural, annotation, wanted) in [
        ("xs", "https://example.com/1", ["True", "ApprovedAnnotation", "approved in https://example.com/1"]),
        ("ys", "unapproved, a test", ["False", "UnapprovedAnnotation", "not approved: \"unapproved, a test\""]),
    ] {
        let kind = plural.to_uppercase();
        let annotated = json!({"annotations": {"api-approved.kubernetes.io": annotation}});
        let made = create(definition("test.k8s.io", plural, &kind, &v1()), annotated).await;
        let [status, reason, message] = wanted;
        let approval = ["KubernetesAPIApprovalPolicyConformant", status, reason, message];
        assert_eq!(conditions(&made), [ACCEPTED, ESTABLISHED, approval]);
    }

    // a definition that is deleted says how far it is
    let ones = "/apis/a.example/v1/namespaces/default/ones";
    api.create(ones, json!({"metadata": {"name": "held", "finalizers": ["x.io/y"]}})).await;
    let mut watch = api.watch(&format!("{CRDS}?watch=1&fieldSelector=metadata.name%3Dones.a.example")).await;
    let (_, going) = api.call("DELETE", &format!("{CRDS}/ones.a.example"), Value::Null).await;
    let waiting = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    assert_eq!(conditions(&going)[2], ["Terminating", "True", "InstanceDeletionPending", waiting]);
    let working = ["Terminating", "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress"];
    while conditions(&watch.next().await.1).get(2) != Some(&working) {}
    assert_eq!(api.call("PATCH", &format!("{ones}/held"), json!({"metadata": {"finalizers": null}})).await.0, 200);
    let done = watch.next().await.1;
    let all_gone = ["Terminating", "False", "InstanceDeletionCompleted", "removed all instances"];
    assert_eq!((conditions(&done)[2], &done["metadata"]["finalizers"]), (all_gone, &json!(["x.io/keep"])));
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(api.call("PATCH", &format!("{CRDS}/ones.a.example"), free.clone()).await.0, 200);
    assert_eq!(watch.next().await.0, "DELETED");

    let mut watch = api.watch(&format!("{CRDS}?watch=1&fieldSelector=metadata.name%3Dothers.a.example")).await;
    // its names are free now
    while conditions(&watch.next().await.1) != [ACCEPTED, ESTABLISHED] {}
    let third = create(definition("a.example", "thirds", "One", &v1()), json!({"finalizers": ["x.io/keep"]})).await;
    assert_eq!(conditions(&third)[1][1], "False");
    let mut watch = api.watch(&format!("{CRDS}?watch=1&fieldSelector=metadata.name%3Dthirds.a.example")).await;
    api.call("DELETE", &format!("{CRDS}/thirds.a.example"), Value::Null).await;
    let never = ["Terminating", "False", "NeverEstablished", "resource was never established"];
    while conditions(&watch.next().await.1).get(2) != Some(&never) {}
}

#[tokio::test]
async fn stored_versions_are_remembered_until_somebody_says_otherwise() {
    let api = Api::start().await;
    let name = format!("{CRDS}/ones.a.example");
    let (v1, v2) = (|storage| version("v1", storage, open()), |storage| version("v2", storage, open()));
    api.create(CRDS, definition("a.example", "ones", "One", &[v1(true), v2(false)])).await;
    let put = async |versions: &[Value]| {
        let mut crd = api.get(&name).await;
        crd["spec"]["versions"] = versions.into();
        api.call("PUT", &name, crd).await
    };
    let (_, moved) = put(&[v1(false), v2(true)]).await;
    assert_eq!(moved["status"]["storedVersions"], json!(["v1", "v2"]));
    let (status, refused) = put(&[v2(true)]).await;
    let why = "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions";
    assert!(status == 422 && refused["message"].as_str().unwrap().contains(why), "{refused}");
    let migrated = json!({"status": {"storedVersions": ["v2"]}});
    assert_eq!(api.call("PATCH", &format!("{name}/status"), migrated).await.0, 200);
    assert_eq!(put(&[v2(true)]).await.0, 200);
}

#[tokio::test]
async fn numbers_are_kept_as_go_keeps_them() {
    let api = Api::start().await;
    let ratio = json!({"type": "object", "properties": {"ratio": {"type": "number", "x-kubernetes-validations": [
        {"rule": "self < 0.30000000000000004", "message": "too large"}]},
        "count": {"type": "integer"}, "any": open()}});
    api.create(CRDS, definition("a.example", "ones", "One", &[version("v1", true, ratio)])).await;
    let path = "/apis/a.example/v1/namespaces/default/ones";
    let text = async |method: &str, path: &str, media: &str, body: &str| {
        let response = api.send(admin(), method, path, media, body).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let spec = r#"{"ratio":0.3,"count":9007199254740993,"any":{"a":-3.597847523160892e-242,"b":1.0,"c":1e21,"d":9223372036854775808,"e":0.1234567890123456789}}"#;
    let body = format!(r#"{{"apiVersion":"a.example/v1","kind":"One","metadata":{{"name":"a"}},"spec":{spec}}}"#);
    let (status, made) = text("POST", path, "application/json", &body).await;
    assert_eq!(status, 201, "{made}");
    let kept = r#""spec":{"any":{"a":-3.597847523160892e-242,"b":1,"c":1e+21,"d":9223372036854776000,"e":0.12345678901234568},"count":9007199254740993,"ratio":0.3}"#;
    assert!(made.contains(kept), "{made}");
    let one = format!("{path}/a");
    assert!(text("GET", &one, "", "").await.1.contains(kept));
    // the same numbers in other words are no change, and no conflict
    let revision = |text: &str| serde_json::from_str::<Value>(text).unwrap()["metadata"]["resourceVersion"].clone();
    let again = r#"{"spec":{"any":{"b":1.0,"c":1000000000000000000000},"ratio":3e-1}}"#;
    let (status, same) = text("PATCH", &one, "application/merge-patch+json", again).await;
    assert_eq!((status, revision(&same)), (200, revision(&made)), "{same}");
    let applied = r#"{"apiVersion":"a.example/v1","kind":"One","metadata":{"name":"a"},"spec":{"any":{"b":1.0},"count":9007199254740993}}"#;
    let (status, answer) =
        text("PATCH", &format!("{one}?fieldManager=m"), "application/apply-patch+yaml", applied).await;
    assert!(status == 200 && answer.contains(kept), "{answer}");
    // neighbours are not the same
    let (status, refused) =
        text("PATCH", &one, "application/merge-patch+json", r#"{"spec":{"ratio":0.30000000000000004}}"#).await;
    assert!(status == 422 && refused.contains("too large"), "{refused}");
    let (_, moved) =
        text("PATCH", &one, "application/merge-patch+json", r#"{"spec":{"count":9007199254740992}}"#).await;
    assert!(moved.contains("\"count\":9007199254740992") && revision(&moved) != revision(&made), "{moved}");
    let (status, refused) = text("PATCH", &one, "application/merge-patch+json", r#"{"spec":{"count":1.5}}"#).await;
    assert_eq!(status, 422, "{refused}");
}

#[tokio::test]
async fn fields_are_owned_across_versions_that_a_webhook_converts() {
    let api = Api::start().await;
    let url = converter::start(&api).await;
    let text = json!({"type": "string"});
    let v1 = version("v1", true, json!({"type": "object", "properties": {"hostPort": text, "note": text}}));
    let v2 = version("v2", false, json!({"type": "object", "properties": {"host": text, "port": text, "note": text}}));
    let mut crd = definition("a.example", "hosts", "Host", &[v1, v2]);
    crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"url": url, "caBundle": STANDARD.encode(std::fs::read(api.path().join("ca.crt")).unwrap())}}});
    api.create(CRDS, crd).await;
    let apply = async |version: &str, manager: &str, query: &str, spec: Value| {
        let path = format!("/apis/a.example/{version}/namespaces/default/hosts/h?fieldManager={manager}{query}");
        let config = json!({"apiVersion": format!("a.example/{version}"), "kind": "Host", "metadata": {"name": "h"}, "spec": spec});
        let response = api.send(admin(), "PATCH", &path, "application/apply-patch+yaml", config).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let owned = |object: &Value, manager: &str| {
        let all = object["metadata"]["managedFields"].as_array().unwrap();
        all.iter().find(|entry| entry["manager"] == manager).map(|entry| entry["fieldsV1"]["f:spec"].clone())
    };
    let (status, made) = apply("v1", "one", "", json!({"hostPort": "a:80", "note": "n"})).await;
    assert_eq!(status, 201, "{made}");
    // what is the same in the other version's words is shared
    let (status, shared) = apply("v2", "two", "", json!({"host": "a", "port": "80"})).await;
    assert_eq!(status, 200, "{shared}");
    assert_eq!(owned(&shared, "one"), Some(json!({"f:hostPort": {}, "f:note": {}})));
    assert_eq!(owned(&shared, "two"), Some(json!({"f:host": {}, "f:port": {}})));
    // and what changes a field in its owner's words is a conflict
    let (status, refused) = apply("v2", "three", "", json!({"host": "b"})).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    let causes: Vec<(&str, &str)> = refused["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["message"].as_str().unwrap(), c["field"].as_str().unwrap()))
        .collect();
    assert_eq!(causes, [("conflict with \"one\"", ".spec.hostPort"), ("conflict with \"two\"", ".spec.host")]);
    let (status, forced) = apply("v2", "three", "&force=true", json!({"host": "b"})).await;
    assert_eq!((status, &forced["spec"]), (200, &json!({"host": "b", "port": "80", "note": "n"})), "{forced}");
    assert_eq!(owned(&forced, "one"), Some(json!({"f:note": {}})));
    assert_eq!(owned(&forced, "two"), Some(json!({"f:port": {}})));
    // an ordinary write of one version takes from those who own in another
    let path = "/apis/a.example/v1/namespaces/default/hosts/h?fieldManager=four";
    let (status, patched) = api.call("PATCH", path, json!({"spec": {"hostPort": "c:81"}})).await;
    assert_eq!((status, &patched["spec"]["hostPort"]), (200, &json!("c:81")), "{patched}");
    assert_eq!((owned(&patched, "two"), owned(&patched, "three")), (None, None), "{patched}");
    assert_eq!(owned(&patched, "four"), Some(json!({"f:hostPort": {}})));
    // a webhook that is gone keeps nobody from writing the stored version; who owned what is forgotten then
    apply("v2", "five", "&force=true", json!({"host": "d", "port": "82"})).await;
    let gone = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"url": "https://127.0.0.1:1/"}}}}});
    assert_eq!(api.call("PATCH", &format!("{CRDS}/hosts.a.example"), gone).await.0, 200);
    let (status, alone) = api.call("PATCH", path, json!({"spec": {"note": "m"}})).await;
    assert_eq!((status, &alone["spec"]["note"], alone["metadata"].get("managedFields")), (200, &json!("m"), None));
}
