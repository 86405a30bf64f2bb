//! The audit log: what the policy names, no more of it, and never the content of secrets at Metadata level.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use apiserver::Identity;
use common::{Api, admin};
use serde_json::{Value, json};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- {level: None, users: [nobody]}
- {level: Metadata, resources: [{group: '', resources: [secrets, serviceaccounts/token]}, {group: authentication.k8s.io}]}
- {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], omitStages: [RequestReceived]}
- {level: Metadata, verbs: [watch], resources: [{group: '', resources: [pods]}]}
- {level: Metadata, nonResourceURLs: [/version]}
";

async fn audited() -> Api {
    Api::start_with(|config, dir| {
        std::fs::write(dir.join("policy.yaml"), POLICY).unwrap();
        let audit = json!({"policyFile": dir.join("policy.yaml"), "logPath": dir.join("audit.log")});
        config.audit = serde_json::from_value(audit).unwrap();
    })
    .await
}

/// Ends the server, which writes what waits; the events of one user.
async fn events(api: &mut Api, user: &str) -> (String, Vec<Value>) {
    api.server.take().unwrap().shutdown().await;
    let text = std::fs::read_to_string(api.path().join("audit.log")).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own = all.filter(|e| e["user"]["username"] == user).collect();
    (text, own)
}

#[tokio::test]
async fn what_is_asked_for_is_written_and_secrets_are_not() {
    let mut api = audited().await;
    let auditor = || Identity { uid: "7".into(), ..Identity::new("auditor", ["system:masters"]) };
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "nobody-may-know"}});
    assert_eq!(api.call_as(auditor(), "POST", secrets, secret).await.0, 201);
    let map = json!({"metadata": {"name": "c"}, "data": {"k": "everybody-may-know"}});
    assert_eq!(api.call_as(auditor(), "POST", "/api/v1/namespaces/default/configmaps", map).await.0, 201);
    assert_eq!(api.call_as(auditor(), "GET", "/api/v1/nodes", Value::Null).await.0, 200);
    let watch = api.send(auditor(), "GET", "/api/v1/pods?watch=1&timeoutSeconds=1", "", "").await;
    drop(watch);
    let (text, events) = events(&mut api, "auditor").await;
    let view: Vec<(&str, &str, &str)> = events
        .iter()
        .map(|e| {
            let text = |key: &str| e[key].as_str().unwrap();
            (text("stage"), text("level"), e["objectRef"]["resource"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        view,
        [
            ("RequestReceived", "Metadata", "secrets"),
            ("ResponseComplete", "Metadata", "secrets"),
            ("ResponseComplete", "RequestResponse", "configmaps"),
            ("RequestReceived", "Metadata", "pods"),
            ("ResponseStarted", "Metadata", "pods"),
            ("ResponseComplete", "Metadata", "pods"),
        ]
    );
    let secret = &events[1];
    assert_eq!(
        secret["objectRef"],
        json!({"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"})
    );
    assert_eq!((&secret["verb"], &secret["responseStatus"]["code"]), (&json!("create"), &json!(201)));
    assert_eq!(secret["user"]["uid"], "7");
    assert_eq!(secret["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(secret.get("requestObject").is_none() && secret["auditID"] == events[0]["auditID"]);
    assert!(!text.contains("nobody-may-know"), "{text}");
    let map = &events[2];
    assert_eq!(map["requestObject"]["data"]["k"], "everybody-may-know");
    assert_eq!(
        (&map["responseObject"]["kind"], &map["responseObject"]["metadata"]["name"]),
        (&json!("ConfigMap"), &json!("c"))
    );
    assert!(map["responseObject"]["metadata"].get("managedFields").is_none());
}

/// Bodies in any syntax are written as JSON, and patches as they were sent.
#[tokio::test]
async fn bodies_of_every_kind_are_readable() {
    let policy = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Request, resources: [{group: '', resources: [services, configmaps/x]}], omitManagedFields: true}
- {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], omitStages: [ResponseStarted]}
- {level: RequestResponse, resources: [{group: '', resources: [endpoints]}], omitManagedFields: true}
";
    let mut api = Api::start_with(|config, dir| {
        std::fs::write(dir.join("policy.yaml"), policy).unwrap();
        let audit = json!({"policyFile": dir.join("policy.yaml"), "logPath": dir.join("audit.log")});
        config.audit = serde_json::from_value(audit).unwrap();
    })
    .await;
    let who = || Identity::new("auditor", ["system:masters"]);
    let maps = "/api/v1/namespaces/default/configmaps";
    let protobuf = "application/vnd.kubernetes.protobuf";
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": {"k": "v"}});
    let send = async |method: &str, path: &str, media: &str, body: Vec<u8>| {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .header("accept", protobuf)
            .body(http_body_util::Full::new(bytes::Bytes::from(body)))
            .unwrap();
        let response = tower::ServiceExt::oneshot(api.server().handler_as(who()), request).await.unwrap();
        assert!(response.status().is_success(), "{method} {path}: {}", response.status());
        assert_eq!(response.headers()["content-type"], protobuf);
    };
    send("POST", maps, protobuf, machinery::protobuf::encode(&map).unwrap()).await;
    send("GET", maps, "", Vec::new()).await;
    let patches = [
        ("application/merge-patch+json", r#"{"data":{"a":"1"}}"#, json!({"data": {"a": "1"}})),
        ("application/strategic-merge-patch+json", r#"{"data":{"b":"2"}}"#, json!({"data": {"b": "2"}})),
        (
            "application/json-patch+json",
            r#"[{"op":"add","path":"/data/c","value":"3"}]"#,
            json!([{"op": "add", "path": "/data/c", "value": "3"}]),
        ),
    ];
    for (media, text, _) in &patches {
        send("PATCH", &format!("{maps}/c"), media, text.as_bytes().to_vec()).await;
    }
    let applied = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {d: '4'}\n";
    let apply = format!("{maps}/c?fieldManager=m");
    send("PATCH", &apply, "application/apply-patch+yaml", applied.as_bytes().to_vec()).await;
    let service =
        json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    send("POST", "/api/v1/namespaces/default/services", "application/json", service.to_string().into_bytes()).await;
    send("GET", "/api/v1/namespaces/default/endpoints/kubernetes", "", Vec::new()).await;

    let (text, events) = events(&mut api, "auditor").await;
    let events: Vec<&Value> = events.iter().filter(|e| e["stage"] == "ResponseComplete").collect();
    assert_eq!(events.len(), 8, "{text}");
    assert!(!text.contains("\"RequestReceived\""), "{text}");
    let create = events[0];
    assert_eq!((&create["requestObject"], &create["level"]), (&map, &json!("RequestResponse")));
    let answer = &create["responseObject"];
    assert_eq!((&answer["kind"], &answer["data"]["k"]), (&json!("ConfigMap"), &json!("v")));
    assert!(answer["metadata"]["managedFields"].is_array(), "{answer}");
    let list = &events[1]["responseObject"];
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("ConfigMapList"), 1));
    assert!(events[1].get("requestObject").is_none());
    for (event, (_, _, wanted)) in events[2..5].iter().zip(&patches) {
        assert_eq!(&event["requestObject"], wanted);
        assert_eq!((&event["verb"], &event["responseObject"]["data"]["k"]), (&json!("patch"), &json!("v")));
    }
    assert_eq!(events[5]["requestObject"]["data"], json!({"d": "4"}));
    // no answers at level Request
    let service = events[6];
    assert_eq!(
        (&service["level"], &service["requestObject"]["spec"]["ports"][0]["port"], service.get("responseObject")),
        (&json!("Request"), &json!(80), None)
    );
    let endpoints = &events[7]["responseObject"];
    assert!(endpoints["kind"] == "Endpoints" && endpoints["metadata"].get("managedFields").is_none(), "{endpoints}");
}

#[tokio::test]
async fn refusals_and_impersonation_are_written() {
    let mut api = audited().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    assert_eq!(api.call_as(Identity::new("joe", [""; 0]), "GET", secrets, Value::Null).await.0, 403);
    let response = api
        .wire("admin")
        .get(api.url(secrets))
        .header("impersonate-user", "joe")
        .header("audit-id", "mine")
        .header("user-agent", "tests/1")
        .send()
        .await
        .unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["audit-id"].to_str().unwrap()), (403, "mine"));
    let strangers = api.wire("").get(api.url(secrets)).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(strangers.status(), 401);
    let metrics = api.call_as(admin(), "GET", "/metrics", Value::Null).await.1;
    assert!(metrics.as_str().unwrap().contains("apiserver_audit_event_total"), "{metrics}");
    let (text, joe) = events(&mut api, "joe").await;
    assert_eq!(
        (&joe[1]["annotations"]["authorization.k8s.io/decision"], &joe[1]["responseStatus"]["reason"]),
        (&json!("forbid"), &json!("Forbidden"))
    );
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let acting = all.iter().find(|e| e["auditID"] == "mine" && e["stage"] == "ResponseComplete").unwrap();
    assert_eq!(
        (&acting["user"]["username"], &acting["impersonatedUser"]["username"]),
        (&json!("kubernetes-admin"), &json!("joe"))
    );
    assert_eq!((&acting["sourceIPs"], &acting["userAgent"]), (&json!(["127.0.0.1"]), &json!("tests/1")));
    let refused = all.iter().filter(|e| e["responseStatus"]["code"] == 401).count();
    assert_eq!(refused, 1, "{text}");
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_stops_the_start() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    apiserver::testing::prepare(dir.path()).unwrap();
    std::fs::write(dir.path().join("policy.yaml"), "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]")
        .unwrap();
    let mut config = apiserver::Config::in_dir(dir.path(), 0);
    let audit = json!({"policyFile": dir.path().join("policy.yaml"), "logPath": dir.path().join("audit.log")});
    config.audit = serde_json::from_value(audit).unwrap();
    let error = format!("{:#}", apiserver::ApiServer::start(config).await.err().unwrap());
    assert!(error.contains("audit policy") && error.contains("All"), "{error}");
}
