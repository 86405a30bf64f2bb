//! Reviews of rights, and the words of refusals.

use serde_json::{Value, json};

use crate::{DEFAULT, common::Api, node, user};

const AUTHZ: &str = "/apis/authorization.k8s.io/v1";

#[tokio::test]
async fn access_reviews_check_what_they_are_asked_and_say_why() {
    let api = Api::start().await;
    let role = json!({"metadata": {"name": "view-joe"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]});
    api.create("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", role).await;
    let ask = |spec: Value| {
        let body = json!({"spec": spec});
        let api = &api;
        async move { api.call("POST", &format!("{AUTHZ}/subjectaccessreviews"), body).await }
    };
    let pods = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let (_, answer) = ask(json!({"user": "joe", "resourceAttributes": pods})).await;
    assert_eq!(
        answer["status"],
        json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"view-joe/default\" of ClusterRole \"view\" to User \"joe\""})
    );
    let (_, answer) = ask(json!({"user": "eve", "resourceAttributes": pods})).await;
    assert_eq!(answer["status"], json!({"allowed": false}));
    let (status, error) = ask(json!({"resourceAttributes": pods})).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (
            422,
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified"
        )
    );
    // a kubelet may list its own pods, and the review of a webhook sees that by the selector
    let mut own = json!({"verb": "list", "resource": "pods", "fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]}});
    let spec = |r: &Value| json!({"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": r});
    assert_eq!(ask(spec(&own)).await.1["status"]["allowed"], true);
    own["fieldSelector"]["requirements"][0]["values"] = json!(["n2"]);
    assert_eq!(
        ask(spec(&own)).await.1["status"],
        json!({"allowed": false, "reason": "can only list/watch pods with spec.nodeName field selector"})
    );
    let local = json!({"spec": {"user": "joe", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "kube-system"}}});
    let (status, error) =
        api.call("POST", &format!("{AUTHZ}/namespaces/default/localsubjectaccessreviews"), local).await;
    assert_eq!(status, 422, "{error}");
    assert!(error["message"].as_str().unwrap().contains("must match metadata.namespace"), "{error}");
}

#[tokio::test]
async fn refusals_tell_what_is_missing() {
    let api = Api::start().await;
    let (status, error) = api.call_as(node("n1"), "GET", &format!("{DEFAULT}/secrets/s"), Value::Null).await;
    assert_eq!(status, 403);
    assert_eq!(
        error["message"],
        "secrets \"s\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node 'n1' and this object"
    );
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nope"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]});
    api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let (_, error) = api.call_as(user("joe"), "GET", "/api/v1/nodes", Value::Null).await;
    assert_eq!(
        error["message"],
        "nodes is forbidden: User \"joe\" cannot list resource \"nodes\" in API group \"\" at the cluster scope: RBAC: clusterrole.rbac.authorization.k8s.io \"nope\" not found"
    );
    let rules = api
        .call_as(
            user("joe"),
            "POST",
            &format!("{AUTHZ}/selfsubjectrulesreviews"),
            json!({"spec": {"namespace": "default"}}),
        )
        .await
        .1;
    assert_eq!(rules["status"]["incomplete"], false, "{rules}");
    let rules = api
        .call_as(
            node("n1"),
            "POST",
            &format!("{AUTHZ}/selfsubjectrulesreviews"),
            json!({"spec": {"namespace": "default"}}),
        )
        .await
        .1;
    assert_eq!(rules["status"]["incomplete"], true, "{rules}");
}

#[tokio::test]
async fn what_nobody_holds_nobody_aggregates() {
    let api = Api::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let binding = json!({"metadata": {"name": "maker"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]});
    let maker = json!({"metadata": {"name": "maker"}, "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["create"]}]});
    api.create(&format!("{rbac}/clusterroles"), maker).await;
    api.create(&format!("{rbac}/clusterrolebindings"), binding).await;
    let role = json!({"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}});
    let (status, error) = api.call_as(user("joe"), "POST", &format!("{rbac}/clusterroles"), role).await;
    assert_eq!(status, 403);
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"), "{text}");
}

#[tokio::test]
async fn requests_end_in_time() {
    let api = Api::start().await;
    let (status, error) = api.call("GET", "/api/v1/pods?timeout=soon", Value::Null).await;
    assert_eq!(status, 400, "{error}");
    assert_eq!(api.call("GET", "/api/v1/pods?timeout=10s", Value::Null).await.0, 200);
    let response = api.send(crate::common::admin(), "GET", "/api", "", "").await;
    assert_eq!(response.headers()["audit-id"].len(), 36);
}
