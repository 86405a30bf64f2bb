//! PodSecurity: what the labels of a namespace allow.

use serde_json::{Value, json};

use crate::common::{Api, admin};

const NS: &str = "/api/v1/namespaces/guarded";

async fn warnings(api: &Api, method: &str, path: &str, body: &Value) -> (u16, Vec<String>) {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let response = api.send(admin(), method, path, kind, body).await;
    let text = |v: &http::HeaderValue| v.to_str().unwrap().to_owned();
    (response.status().as_u16(), response.headers().get_all("warning").iter().map(text).collect())
}

#[tokio::test]
async fn labels_of_a_namespace_guard_its_pods() {
    let api = Api::start_with(|config, _| config.pod_security.exemptions.usernames = vec!["trusted".into()]).await;
    let labels =
        json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"});
    api.create("/api/v1/namespaces", json!({"metadata": {"name": "guarded", "labels": labels}})).await;
    api.create(&format!("{NS}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let pod = |name: &str, spec: Value| {
        let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        pod
    };
    let url = format!("{NS}/pods");
    let (status, error) = api.call("POST", &url, pod("host", json!({"hostNetwork": true}))).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (
            403,
            "pods \"host\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
        )
    );
    let (status, warned) = warnings(&api, "POST", &url, &pod("plain", json!({}))).await;
    assert_eq!((status, warned.len()), (201, 1));
    let text =
        "299 - \"would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false (container";
    assert!(warned[0].starts_with(text), "{warned:?}");
    let mut trusted = admin();
    trusted.user = "trusted".into();
    assert_eq!(api.call_as(trusted, "POST", &url, pod("host", json!({"hostNetwork": true}))).await.0, 201);

    // a workload is made, but who makes it is told
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let deployment =
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let (status, warned) = warnings(&api, "POST", "/apis/apps/v1/namespaces/guarded/deployments", &deployment).await;
    assert_eq!((status, warned.len()), (201, 1), "{warned:?}");

    // raising the level tells about the pods that are there
    let raised = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let (status, warned) = warnings(&api, "PATCH", NS, &raised).await;
    assert_eq!(status, 200);
    assert_eq!(
        warned[0],
        "299 - \"existing pods in namespace \\\"guarded\\\" violate the new PodSecurity enforce level \\\"restricted:latest\\\"\""
    );
    assert!(warned[1].contains("host: host namespaces, allowPrivilegeEscalation != false"), "{warned:?}");
    let wrong = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "strict"}}});
    let (status, error) = api.call("PATCH", NS, wrong).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (
            422,
            "Namespace \"guarded\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
        )
    );
    assert!(api.get("/metrics").await.as_str().unwrap().contains("pod_security_evaluations_total{decision=\"deny\""));
}
