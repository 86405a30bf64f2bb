//! Field validation: unknown and duplicate fields, by syntax, verb and directive.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Api, admin};
use http_body_util::BodyExt;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

const JSON: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "strange": 1},
  "spec": {
    "unknown1": "val1", "unknownDupe": "val", "unknownDupe": {"a": 1, "a": 2}, "paused": true, "paused": true, "paused": false,
    "selector": {"matchLabels": {"app": "web"}},
    "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
      {"name": "c", "image": "x", "unknownNested": "v", "imagePullPolicy": "Never", "imagePullPolicy": "Always"}]}}}}"#;

const YAML: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  unknown1: val1
  unknownDupe: val
  unknownDupe: val2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: x
        unknownNested: v
        imagePullPolicy: Never
        imagePullPolicy: Always
";

async fn send(api: &Api, method: &str, path: &str, content_type: &str, body: &str) -> (u16, Value, Vec<String>) {
    let response = api.send(admin(), method, path, content_type, body).await;
    let status = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter().map(|v| v.to_str().unwrap());
    let warnings =
        warnings.map(|w| w.strip_prefix("299 - \"").unwrap().strip_suffix('"').unwrap().replace("\\\"", "\""));
    let warnings = warnings.collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap(), warnings)
}

#[tokio::test]
async fn bodies_are_judged_in_their_order() {
    let api = Api::start().await;
    let wanted = [
        "unknown field \"metadata.strange\"",
        "unknown field \"spec.unknown1\"",
        "unknown field \"spec.unknownDupe\"",
        "duplicate field \"spec.paused\"",
        "unknown field \"spec.template.spec.containers[0].unknownNested\"",
        "duplicate field \"spec.template.spec.containers[0].imagePullPolicy\"",
    ];
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let (status, error, _) = send(&api, "POST", &strict, "application/json", JSON).await;
    let text = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: ";
    assert_eq!((status, error["message"].as_str().unwrap()), (400, format!("{text}{}", wanted.join(", ")).as_str()));
    let ignore = format!("{DEPLOYMENTS}?fieldValidation=Ignore&dryRun=All");
    let (status, _, warnings) = send(&api, "POST", &ignore, "application/json", JSON).await;
    assert_eq!((status, warnings.len()), (201, 0));
    let (status, made, warnings) = send(&api, "POST", DEPLOYMENTS, "application/json", JSON).await;
    assert_eq!((status, warnings), (201, wanted.map(str::to_owned).to_vec()));
    assert!(made["spec"].get("unknown1").is_none() && made["metadata"].get("strange").is_none());

    let url = format!("{DEPLOYMENTS}/web");
    let (status, error, _) =
        send(&api, "PUT", &format!("{url}?fieldValidation=Strict"), "application/yaml", YAML).await;
    let report = "yaml: unmarshal errors:\n  line 8: key \"unknownDupe\" already set in map\n  line 18: key \"imagePullPolicy\" already set in map";
    let unknown = [
        "unknown field \"spec.template.spec.containers[0].unknownNested\"",
        "unknown field \"spec.unknown1\"",
        "unknown field \"spec.unknownDupe\"",
    ];
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (400, format!("{text}{report}, {}", unknown.join(", ")).as_str())
    );
    let (status, _, warnings) = send(&api, "PUT", &url, "application/yaml", YAML).await;
    let lines =
        ["line 8: key \"unknownDupe\" already set in map", "line 18: key \"imagePullPolicy\" already set in map"];
    assert_eq!((status, warnings), (200, lines.into_iter().chain(unknown).map(str::to_owned).collect()));
    let (status, error, _) =
        send(&api, "POST", &format!("{DEPLOYMENTS}?fieldValidation=Odd"), "application/json", JSON).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Odd\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        )
    );
}

#[tokio::test]
async fn patches_are_judged_with_what_they_make() {
    let api = Api::start().await;
    let made = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
    api.create(DEPLOYMENTS, made).await;
    let url = format!("{DEPLOYMENTS}/web");
    let strict = format!("{url}?fieldValidation=Strict");
    let merge = r#"{"spec": {"unknown1": 1, "unknownDupe": 1, "unknownDupe": 2, "paused": true, "paused": false}}"#;
    let wanted = [
        "duplicate field \"spec.unknownDupe\"",
        "duplicate field \"spec.paused\"",
        "unknown field \"spec.unknown1\"",
        "unknown field \"spec.unknownDupe\"",
    ];
    for kind in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        let (status, error, _) = send(&api, "PATCH", &strict, kind, merge).await;
        let message = error["message"].as_str().unwrap();
        assert_eq!(status, 422, "{error}");
        assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: \""), "{message}");
        assert!(message.ends_with(&format!("strict decoding error: {}", wanted.join(", "))), "{message}");
        let (status, _, warnings) = send(&api, "PATCH", &url, kind, merge).await;
        assert_eq!((status, warnings), (200, wanted.map(str::to_owned).to_vec()));
    }
    let operations = r#"[{"op": "add", "path": "/spec/unknown1", "value": 1, "foo": "bar"},
        {"op": "add", "path": "/spec/unknown2", "path": "/spec/unknown3", "value": 1}]"#;
    let (status, _, warnings) = send(&api, "PATCH", &url, "application/json-patch+json", operations).await;
    let wanted = [
        "json patch unknown field \"[0].foo\"",
        "json patch duplicate field \"[1].path\"",
        "unknown field \"spec.unknown1\"",
        "unknown field \"spec.unknown3\"",
    ];
    assert_eq!((status, warnings), (200, wanted.map(str::to_owned).to_vec()));
    let bad = r#"{"spec": {"replicas": "many"}}"#;
    let (status, error, _) = send(&api, "PATCH", &url, "application/merge-patch+json", bad).await;
    assert!(status == 422 && error["message"].as_str().unwrap().contains("json: cannot unmarshal string"), "{error}");
    let absent = r#"[{"op": "remove", "path": "/spec/nothing"}]"#;
    let (status, error, _) = send(&api, "PATCH", &url, "application/json-patch+json", absent).await;
    let text = "the server rejected our request due to an error in our request";
    assert_eq!((status, error["message"].as_str().unwrap(), &error["reason"]), (422, text, &json!("Invalid")));
}

const BAD_SERVICE: &str = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
  "type": "LoadBalancer", "externalTrafficPolicy": "Foo", "externalIPs": ["127.0.0.1"],
  "ports": [{"port": 80}, {"name": "b", "port": 0, "targetPort": 1}]}}"#;

#[tokio::test]
async fn what_is_invalid_is_told_whole() {
    let api = Api::start().await;
    let (status, error, _) =
        send(&api, "POST", "/api/v1/namespaces/default/services", "application/json", BAD_SERVICE).await;
    let found = [
        ("FieldValueRequired", "spec.ports[0].name", "Required value"),
        ("FieldValueInvalid", "spec.ports[1].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
        (
            "FieldValueInvalid",
            "spec.externalIPs[0]",
            "Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            "FieldValueNotSupported",
            "spec.externalTrafficPolicy",
            "Unsupported value: \"Foo\": supported values: \"Cluster\", \"Local\"",
        ),
    ];
    let texts: Vec<String> = found.iter().map(|(_, field, text)| format!("{field}: {text}")).collect();
    let causes: Vec<Value> =
        found.iter().map(|(reason, field, text)| json!({"reason": reason, "message": text, "field": field})).collect();
    assert_eq!(status, 422);
    assert_eq!(
        error,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
            "message": format!("Service \"web\" is invalid: [{}]", texts.join(", ")),
            "details": {"name": "web", "kind": "Service", "causes": causes},
        })
    );
    let (ok, printed) = api.kubectl("admin", &["create", "-f", "-"], BAD_SERVICE).await;
    let lines: Vec<&str> = printed.trim().lines().map(str::trim_end).collect();
    let mut wanted = vec!["The Service \"web\" is invalid:".to_owned()];
    wanted.extend(texts.iter().map(|text| format!("* {text}")));
    assert!(!ok && lines == wanted, "{printed}");
}

#[tokio::test]
async fn services_of_two_families_need_a_cluster_of_two() {
    let api = Api::start().await;
    let wish = |wish: Value| {
        let mut service =
            json!({"metadata": {"name": "two"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
        service["spec"].as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        service
    };
    let (status, error) = api
        .call("POST", "/api/v1/namespaces/default/services", wish(json!({"ipFamilyPolicy": "RequireDualStack"})))
        .await;
    let wanted = "Service \"two\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
    assert_eq!((status, error["message"].as_str().unwrap()), (422, wanted));
    let (status, error) =
        api.call("POST", "/api/v1/namespaces/default/services", wish(json!({"ipFamilies": ["IPv6"]}))).await;
    let wanted =
        "Service \"two\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster";
    assert_eq!((status, error["message"].as_str().unwrap()), (422, wanted));
    let headless = api
        .create(
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}}),
        )
        .await;
    assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
}
