//! Who may do what: certificates, tokens, RBAC, nodes, anonymous.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "security/identities.rs"]
mod identities;
#[path = "security/pod_certificates.rs"]
mod pod_certificates;
#[path = "security/pods.rs"]
mod pods;
#[path = "security/reviews.rs"]
mod reviews;
#[path = "security/tokens.rs"]
mod tokens;

use apiserver::Identity;
use common::Api;
use serde_json::{Value, json};

const DEFAULT: &str = "/api/v1/namespaces/default";

fn user(name: &str) -> Identity {
    Identity::new(name, [""; 0])
}

fn node(name: &str) -> Identity {
    Identity::new(format!("system:node:{name}"), ["system:nodes"])
}

#[tokio::test]
async fn rbac_decides_from_the_write_on() {
    let api = Api::start().await;
    let (status, error) = api.call_as(user("joe"), "GET", &format!("{DEFAULT}/pods"), Value::Null).await;
    assert_eq!(status, 403);
    assert_eq!(
        error["message"],
        "pods is forbidden: User \"joe\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let binding = json!({"metadata": {"name": "joe"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]});
    api.create("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", binding.clone()).await;
    assert_eq!(api.call_as(user("joe"), "GET", &format!("{DEFAULT}/pods"), Value::Null).await.0, 200);
    assert_eq!(api.call_as(user("joe"), "GET", "/api/v1/namespaces/kube-system/pods", Value::Null).await.0, 403);
    assert_eq!(api.call_as(user("joe"), "GET", "/apis", Value::Null).await.0, 200);
    assert_eq!(api.call_as(user("joe"), "GET", "/metrics", Value::Null).await.0, 403);
    let review = json!({"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "default"}, "user": "joe"}});
    let answer = api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review).await;
    assert_eq!(answer["status"]["allowed"], true);
}

#[tokio::test]
async fn nobody_grants_more_than_he_has() {
    let api = Api::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let binding = |name: &str, role: &str| {
        json!({"metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "boss"}]})
    };
    api.create(&format!("{rbac}/rolebindings"), binding("boss", "admin")).await;
    assert_eq!(
        api.call_as(user("boss"), "POST", &format!("{rbac}/rolebindings"), binding("more", "cluster-admin")).await.0,
        403
    );
    assert_eq!(
        api.call_as(user("boss"), "POST", &format!("{rbac}/rolebindings"), binding("same", "view")).await.0,
        201
    );
    let role = |resource: &str| json!({"metadata": {"name": resource}, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]});
    assert_eq!(api.call_as(user("boss"), "POST", &format!("{rbac}/roles"), role("pods")).await.0, 201);
    assert_eq!(api.call_as(user("boss"), "POST", &format!("{rbac}/roles"), role("nodes")).await.0, 403);
}

#[tokio::test]
async fn tokens_live_as_long_as_their_account() {
    let api = Api::start().await;
    let accounts = format!("{DEFAULT}/serviceaccounts");
    api.create(&accounts, json!({"metadata": {"name": "robot"}})).await;
    let issued = api.create(&format!("{accounts}/robot/token"), json!({"spec": {"expirationSeconds": 600}})).await;
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    let review = json!({"spec": {"token": token}});
    let answer = api.create("/apis/authentication.k8s.io/v1/tokenreviews", review.clone()).await;
    assert_eq!(
        (&answer["status"]["authenticated"], &answer["status"]["user"]["username"]),
        (&json!(true), &json!("system:serviceaccount:default:robot")),
        "{answer}"
    );
    let elsewhere = api.create(&format!("{accounts}/robot/token"), json!({"spec": {"audiences": ["other"]}})).await;
    let foreign = json!({"spec": {"token": elsewhere["status"]["token"]}});
    assert_eq!(
        api.create("/apis/authentication.k8s.io/v1/tokenreviews", foreign).await["status"]["authenticated"],
        Value::Null
    );
    assert_eq!(
        api.call("POST", &format!("{accounts}/robot/token"), json!({"spec": {"expirationSeconds": 10}})).await.0,
        422
    );

    // over the wire, as a pod would
    let server = format!("https://{}", api.server().address());
    let ca = api.path().join("ca.crt").display().to_string();
    std::fs::write(api.path().join("robot.kubeconfig"), json!({"apiVersion": "v1", "kind": "Config"}).to_string())
        .unwrap();
    let args = ["--server", &server, "--certificate-authority", &ca, "--token", &token];
    let (ok, text) = api.kubectl("robot", &[&args[..], &["get", "pods"]].concat(), "").await;
    assert!(!ok && text.contains("User \"system:serviceaccount:default:robot\" cannot list"), "{text}");
    api.call("DELETE", &format!("{accounts}/robot"), Value::Null).await;
    assert_eq!(
        api.create("/apis/authentication.k8s.io/v1/tokenreviews", review).await["status"]["authenticated"],
        Value::Null
    );
    let (ok, text) = api.kubectl("robot", &[&args[..], &["get", "--raw", "/api"]].concat(), "").await;
    assert!(!ok && (text.contains("Unauthorized") || text.contains("logged in")), "{text}");
}

#[tokio::test]
async fn strangers_see_only_health() {
    let api = Api::start().await;
    let ca = reqwest::Certificate::from_pem(&std::fs::read(api.path().join("ca.crt")).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
    let status = async |path: &str, token: &str| {
        let url = format!("https://{}{path}", api.server().address());
        let request = if token.is_empty() { client.get(url) } else { client.get(url).bearer_auth(token) };
        request.send().await.unwrap().status().as_u16()
    };
    for (path, wanted) in [
        ("/healthz", 200),
        ("/livez", 200),
        ("/readyz?verbose", 200),
        ("/version", 200),
        ("/api", 401),
        ("/metrics", 401),
        ("/api/v1/secrets", 401),
    ] {
        assert_eq!(status(path, "").await, wanted, "{path}");
    }
    assert_eq!(status("/healthz", "wrong").await, 401, "a token that is not accepted is refused everywhere");
}

#[tokio::test]
async fn certificates_name_users() {
    let api = Api::start().await;
    apiserver::testing::client(api.path(), "joe", "joe", "dev").unwrap();
    apiserver::testing::kubeconfig(api.path(), api.server().address(), "joe").unwrap();
    let (ok, text) = api.kubectl("joe", &["get", "nodes"], "").await;
    assert!(!ok && text.contains("User \"joe\" cannot list resource \"nodes\""), "{text}");
}

#[tokio::test]
async fn kubelets_see_only_what_their_pods_need() {
    let api = Api::start().await;
    api.create(&format!("{DEFAULT}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    for name in ["mine", "other"] {
        api.create(&format!("{DEFAULT}/secrets"), json!({"metadata": {"name": name}, "stringData": {"k": "v"}})).await;
    }
    let spec = json!({"nodeName": "n1", "containers": [{"name": "c", "image": "x", "envFrom": [{"secretRef": {"name": "mine"}}]}]});
    let pod = api.create(&format!("{DEFAULT}/pods"), json!({"metadata": {"name": "p"}, "spec": spec})).await;
    let get = async |who: &str, path: &str| api.call_as(node(who), "GET", path, Value::Null).await.0;
    assert_eq!(get("n1", &format!("{DEFAULT}/secrets/mine")).await, 200);
    assert_eq!(get("n1", &format!("{DEFAULT}/secrets/other")).await, 403);
    assert_eq!(get("n2", &format!("{DEFAULT}/secrets/mine")).await, 403);
    assert_eq!(get("n1", &format!("{DEFAULT}/configmaps/kube-root-ca.crt")).await, 404);
    assert_eq!(get("n1", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await, 200);
    assert_eq!(get("n1", "/api/v1/pods").await, 403);
    let body =
        |uid: &Value| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}});
    let token = format!("{DEFAULT}/serviceaccounts/default/token");
    assert_eq!(api.call_as(node("n1"), "POST", &token, body(&pod["metadata"]["uid"])).await.0, 201);
    assert_eq!(api.call_as(node("n1"), "POST", &token, json!({})).await.0, 403);
    assert_eq!(api.call_as(node("n2"), "POST", &token, body(&pod["metadata"]["uid"])).await.0, 403);
    let patch = json!({"status": {"phase": "Running"}});
    assert_eq!(api.call_as(node("n2"), "PATCH", &format!("{DEFAULT}/pods/p/status"), patch.clone()).await.0, 403);
    assert_eq!(api.call_as(node("n1"), "PATCH", &format!("{DEFAULT}/pods/p/status"), patch).await.0, 200);
    assert_eq!(api.call_as(node("n1"), "POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await.0, 201);
    assert_eq!(api.call_as(node("n1"), "POST", "/api/v1/nodes", json!({"metadata": {"name": "n2"}})).await.0, 403);
    let role = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    assert_eq!(api.call_as(node("n1"), "PATCH", "/api/v1/nodes/n1", role).await.0, 403);
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(api.call_as(node("n1"), "POST", leases, lease("n1")).await.0, 201);
    assert_eq!(api.call_as(node("n1"), "POST", leases, lease("n2")).await.0, 403);
}

#[tokio::test]
async fn certificate_requests_carry_their_requester() {
    let api = Api::start().await;
    let url = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = certs::generate_key().unwrap();
    let pem = certs::create_csr(&key, &certs::Subject::new("system:node:n1", &["system:nodes"]), &[]).unwrap();
    let bootstrap = Identity::new("system:bootstrap:n1", ["system:bootstrappers"]);
    use base64::Engine;
    let request = base64::engine::general_purpose::STANDARD.encode(pem);
    let body = json!({"metadata": {"name": "c"}, "spec": {"request": request, "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["client auth"], "username": "forged"}});
    let (status, made) = api.call_as(bootstrap.clone(), "POST", url, body).await;
    assert_eq!((status, &made["spec"]["username"]), (201, &json!("system:bootstrap:n1")), "{made}");
    let mut approved = made.clone();
    approved["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "Auto"}]);
    assert_eq!(api.call_as(bootstrap, "PUT", &format!("{url}/c/approval"), approved.clone()).await.0, 403);
    let controllers = user("system:kube-controller-manager");
    let (status, approved) = api.call_as(controllers.clone(), "PUT", &format!("{url}/c/approval"), approved).await;
    assert_eq!((status, &approved["status"]["conditions"][0]["type"]), (200, &json!("Approved")), "{approved}");
    // neither decision is made through /status, whoever signs
    let more = json!({"type": "Denied", "status": "True", "reason": "x"});
    let forged = json!({"status": {"conditions": [approved["status"]["conditions"][0], more]}});
    assert_eq!(api.call_as(controllers.clone(), "PATCH", &format!("{url}/c/status"), forged).await.0, 403);
    let mut reworded = approved["status"]["conditions"].clone();
    reworded[0]["reason"] = "Other".into();
    let reworded = json!({"status": {"conditions": reworded}});
    assert_eq!(api.call_as(controllers.clone(), "PATCH", &format!("{url}/c/status"), reworded).await.0, 403);
    let signed = json!({"status": {"certificate": base64::engine::general_purpose::STANDARD.encode("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")}});
    let (status, answer) = api.call_as(user("joe"), "PATCH", &format!("{url}/c/status"), signed.clone()).await;
    assert_eq!(status, 403, "{answer}");
}

#[tokio::test]
async fn impersonation_needs_the_right() {
    let api = Api::start().await;
    api.kubectl_ok(&["get", "nodes", "--as", "x", "--as-group", "system:masters"], "").await;
    let (ok, text) = api.kubectl("admin", &["get", "pods", "--as", "x"], "").await;
    assert!(!ok && text.contains("User \"x\" cannot list"), "{text}");
    apiserver::testing::client(api.path(), "joe", "joe", "").unwrap();
    apiserver::testing::kubeconfig(api.path(), api.server().address(), "joe").unwrap();
    let (ok, text) =
        api.kubectl("joe", &["get", "--raw", "/healthz", "--as", "admin", "--as-group", "system:masters"], "").await;
    assert!(!ok && text.contains("cannot impersonate-on:user-info:get path \"/healthz\""), "{text}");
}

#[tokio::test]
async fn a_right_in_one_namespace_does_not_reach_another() {
    let api = Api::start().await;
    for name in ["a", "b"] {
        api.create("/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
    }
    let binding = json!({"metadata": {"name": "joe"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]});
    api.create("/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings", binding).await;
    for (method, path, body) in [
        ("GET", "/api/v1/namespaces/a/namespaces/b", Value::Null),
        ("DELETE", "/api/v1/namespaces/a/namespaces/b", Value::Null),
        ("PATCH", "/api/v1/namespaces/a/namespaces/b", json!({"metadata": {"labels": {"x": "y"}}})),
        ("GET", "/api/v1/namespaces/a/namespaces", Value::Null),
        ("DELETE", "/api/v1/namespaces/a/namespaces?fieldSelector=metadata.name%3Da", Value::Null),
        ("POST", "/api/v1/namespaces/a/namespaces", json!({"metadata": {"name": "c"}})),
        ("GET", "/api/v1/namespaces/a/nodes", Value::Null),
    ] {
        let (status, answer) = api.call_as(user("joe"), method, path, body).await;
        assert_eq!(status, 404, "{method} {path}: {answer}");
    }
    assert_eq!(api.call_as(user("joe"), "GET", "/api/v1/namespaces/a", Value::Null).await.0, 200);
    assert_eq!(api.get("/api/v1/namespaces/b").await["status"]["phase"], "Active");
    assert_eq!(api.call("GET", "/api/v1/namespaces/c", Value::Null).await.0, 404);

    // nor do reviews: they are asked where they belong
    let review =
        json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "a"}, "user": "x"}});
    let reviews = "/apis/authorization.k8s.io/v1";
    for path in [
        "namespaces/a/subjectaccessreviews",
        "namespaces/a/selfsubjectaccessreviews",
        "localsubjectaccessreviews",
        "namespaces/a/localsubjectaccessreviews/x",
    ] {
        assert_eq!(api.call("POST", &format!("{reviews}/{path}"), review.clone()).await.0, 404, "{path}");
    }
    api.create(&format!("{reviews}/namespaces/a/localsubjectaccessreviews"), review).await;
}

#[tokio::test]
async fn a_role_to_come_is_bound_only_by_who_may_bind() {
    let api = Api::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let binding = |name: &str, role: &str, who: &str| {
        json!({"metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": who}]})
    };
    api.create(&format!("{rbac}/rolebindings"), binding("boss", "admin", "boss")).await;
    let url = format!("{rbac}/rolebindings");
    let (status, answer) = api.call_as(user("boss"), "POST", &url, binding("x", "not-yet", "boss")).await;
    assert_eq!(status, 404, "{answer}");
    let role = json!({"metadata": {"name": "binder"}, "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"]}]});
    api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await;
    let cluster_binding = binding("binder", "binder", "boss");
    api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", cluster_binding).await;
    assert_eq!(api.call_as(user("boss"), "POST", &url, binding("x", "not-yet", "boss")).await.0, 201);
}

#[tokio::test]
async fn kubelets_make_no_pods_and_keep_to_their_labels() {
    let api = Api::start().await;
    let pod = json!({"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x", "envFrom": [{"secretRef": {"name": "s"}}]}]}});
    let (status, answer) = api.call_as(node("n1"), "POST", &format!("{DEFAULT}/pods"), pod).await;
    assert_eq!(status, 403, "{answer}");
    api.call_as(node("n1"), "POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    for (key, wanted) in [("kubernetes.io/os", 200), ("x.example.com/y", 200), ("kubernetes.io/made-up", 403)] {
        let labels = json!({"metadata": {"labels": {key: "v"}}});
        assert_eq!(api.call_as(node("n1"), "PATCH", "/api/v1/nodes/n1", labels).await.0, wanted, "{key}");
    }
}

#[tokio::test]
async fn metrics_name_only_what_exists() {
    let api = Api::start().await;
    api.call("GET", "/apis/evil%22%7D/v1/made-up", Value::Null).await;
    api.call("GET", "/api/v1/namespaces/default/pods/x/made-up", Value::Null).await;
    api.call_as(user("joe"), "GET", "/apis/evil/v1/made-up", Value::Null).await;
    api.get("/api/v1/pods").await;
    let text = api.get("/metrics").await;
    let text = text.as_str().unwrap();
    assert!(!text.contains("evil") && !text.contains("made-up"), "{text}");
    for wanted in [
        r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1"} 1"#,
        r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#,
        r#"apiserver_resource_objects{group="rbac.authorization.k8s.io",resource="clusterrolebindings"}"#,
        r#"etcd_request_duration_seconds_count{group="",operation="create",resource="namespaces"}"#,
        r#"kubernetes_build_info{git_version="v1.37"#,
        "process_resident_memory_bytes ",
        r#"apiserver_storage_size_bytes{storage_cluster_id="0"} "#,
    ] {
        assert!(text.lines().any(|line| line.starts_with(wanted)), "{wanted} is missing in\n{text}");
    }
}
