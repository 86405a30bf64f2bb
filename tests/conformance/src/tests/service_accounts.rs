//! Service accounts: tokens, what pods get of them, the cluster's CA; and reviews of access.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::objects::{pod, pod_spec};
use crate::client::{Client, JSON};
use crate::context::{T, random, same};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    let mut all: Vec<Entry> = vec![
        Entry::new("ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer", discovery),
        Entry::new("should allow opting out of API token automount", opting_out),
        Entry::new("should create a serviceAccountToken and ensure a successful TokenReview", review),
        Entry::new("should guarantee kube-root-ca.crt exist in any namespace", root_ca),
        Entry::new("should mount an API token into pods", mount),
        Entry::new("should mount projected service account token", projected),
        Entry::new("should update a ServiceAccount", update),
    ]
    .into_iter()
    .map(|entry| entry.under("[sig-auth] ServiceAccounts"))
    .collect();
    all.push(Entry::new("[sig-auth] SubjectReview should support SubjectReview API operations", subject_review));
    let nodes = "[sig-architecture] Conformance Tests should have at least two untainted nodes";
    all.push(Entry::new(nodes, untainted));
    all
}

/// A token of an account of the test's namespace.
async fn token(t: &T, account: &str, spec: Value) -> Result<Value> {
    let path = format!("{}/token", t.path(&Res::SERVICE_ACCOUNT, account));
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let issued = t.api.post(&path, &request).await?;
    ensure!(issued["status"]["token"].as_str().is_some_and(|token| !token.is_empty()), "no token: {issued}");
    Ok(issued)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn claims(token: &str) -> Result<(Value, Value)> {
    let mut parts = token.split('.');
    let mut part = || -> Result<Value> {
        let part = parts.next().context("the token has too few parts")?;
        Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part)?)?)
    };
    Ok((part()?, part()?))
}

async fn review(t: Arc<T>) -> Result<()> {
    let account = t.make(&Res::SERVICE_ACCOUNT, json!({"metadata": {"name": "reviewed"}})).await?;
    let issued = token(&t, "reviewed", json!({"expirationSeconds": 3600})).await?;
    let ask = |spec: Value| {
        let t = t.clone();
        async move {
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
            t.api.post("/apis/authentication.k8s.io/v1/tokenreviews", &body).await
        }
    };
    let reviewed = ask(json!({"token": issued["status"]["token"]})).await?;
    same("authenticated", &reviewed["status"]["authenticated"], &json!(true))?;
    ensure!(text(&reviewed["status"]["error"]).is_empty(), "{}", reviewed["status"]);
    let user = &reviewed["status"]["user"];
    same("username", &user["username"], &json!(format!("system:serviceaccount:{}:reviewed", t.ns)))?;
    same("uid", &user["uid"], &account["metadata"]["uid"])?;
    let groups = user["groups"].as_array().context("no groups")?;
    for group in ["system:serviceaccounts", &format!("system:serviceaccounts:{}", t.ns), "system:authenticated"] {
        ensure!(groups.contains(&json!(group)), "no {group} in {groups:?}");
    }
    let wrong = ask(json!({"token": "nonsense"})).await?;
    ensure!(wrong["status"]["authenticated"] != true, "nonsense is authenticated");
    let elsewhere = ask(json!({"token": issued["status"]["token"], "audiences": ["another"]})).await?;
    ensure!(elsewhere["status"]["authenticated"] != true, "a token is authenticated for another audience");
    t.remove(&Res::SERVICE_ACCOUNT, "reviewed").await?;
    t.eventually("the token ends with its account", || async {
        let reviewed = ask(json!({"token": issued["status"]["token"]})).await?;
        ensure!(reviewed["status"]["authenticated"] != true, "still authenticated");
        Ok(())
    })
    .await
}

/// The keys by which a stranger can check a token stand at the issuer's well-known address.
async fn discovery(t: Arc<T>) -> Result<()> {
    let issued = token(&t, "default", json!({"expirationSeconds": 3600})).await?;
    let token = text(&issued["status"]["token"]);
    let (head, claims) = claims(token)?;
    // a pod asks with its own token; the bootstrap roles let every service account
    let asker = t.env.anonymous.with("authorization", &format!("Bearer {token}"))?;
    let document = asker.get("/.well-known/openid-configuration").await?;
    same("issuer", &document["issuer"], &claims["iss"])?;
    ensure!(text(&document["jwks_uri"]).ends_with("/openid/v1/jwks"), "jwks_uri: {document}");
    let algorithms = document["id_token_signing_alg_values_supported"].as_array().context("no algorithms")?;
    ensure!(algorithms.contains(&head["alg"]), "{algorithms:?} lacks {}", head["alg"]);
    let answer = asker.send("GET", "/openid/v1/jwks", &[], "").await?;
    same("content type of the keys", answer.header("content-type"), "application/jwk-set+json")?;
    let keys = answer.ok()?;
    let all = keys["keys"].as_array().context("no keys")?;
    ensure!(all.iter().any(|key| key["kid"] == head["kid"] && key["use"] == "sig"), "no key {} in {keys}", head["kid"]);
    let stranger = t.env.anonymous.call("GET", "/openid/v1/jwks", JSON, &Value::Null).await?;
    // refused as nobody, or because nobody may: both are upstream's, by its configuration
    ensure!(matches!(stranger.status, 401 | 403), "a stranger reads the keys: {}", stranger.status);
    Ok(())
}

async fn root_ca(t: Arc<T>) -> Result<()> {
    let path = t.path(&Res::CONFIG_MAP, "kube-root-ca.crt");
    let first = t.api.get(&path).await?;
    ensure!(text(&first["data"]["ca.crt"]).contains("BEGIN CERTIFICATE"), "no certificate: {first}");
    let uid = first["metadata"]["uid"].clone();
    t.api.delete(&path, &Value::Null).await?;
    t.until("it made anew", &path, |map| map["metadata"]["uid"] != uid && map["data"] == first["data"]).await?;
    t.update(&path, |map| map["data"] = json!({"ca.crt": ""})).await?;
    t.until("it put right", &path, |map| map["data"] == first["data"]).await.map(drop)
}

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn mounts_token(pod: &Value) -> bool {
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    mounts.iter().any(|mount| mount["mountPath"] == MOUNT)
}

/// The volume of the token that admission gave a pod.
fn token_volume(pod: &Value) -> Result<&Value> {
    let volumes = pod["spec"]["volumes"].as_array().context("no volumes")?;
    let api = volumes.iter().find(|volume| text(&volume["name"]).starts_with("kube-api-access-"));
    Ok(&api.context("no volume kube-api-access-…")?["projected"])
}

async fn opting_out(t: Arc<T>) -> Result<()> {
    for (account, automount) in [("mount-default", None), ("mount", Some(true)), ("nomount", Some(false))] {
        let mut body = json!({"metadata": {"name": account}});
        if let Some(automount) = automount {
            body["automountServiceAccountToken"] = json!(automount);
        }
        t.make(&Res::SERVICE_ACCOUNT, body).await?;
        for in_pod in [None, Some(true), Some(false)] {
            let mut spec = pod_spec(&t);
            spec["serviceAccountName"] = json!(account);
            if let Some(in_pod) = in_pod {
                spec["automountServiceAccountToken"] = json!(in_pod);
            }
            let made = t.make(&Res::POD, json!({"metadata": {"generateName": "pod-"}, "spec": spec})).await?;
            let expected = in_pod.or(automount).unwrap_or(true);
            same(&format!("token in a pod with {in_pod:?} of {account}"), &mounts_token(&made), &expected)?;
        }
    }
    Ok(())
}

/// What a kubelet will mount is in the pod; where kubelets run, a container reads it.
async fn mount(t: Arc<T>) -> Result<()> {
    let mut body = pod(&t, "mount-test");
    if t.env.real_nodes {
        let script = format!("cat {MOUNT}/token && cat {MOUNT}/ca.crt && test $(cat {MOUNT}/namespace) = {}", t.ns);
        body["spec"]["restartPolicy"] = json!("Never");
        body["spec"]["containers"][0] =
            json!({"name": "main", "image": t.env.surroundings.shell_image, "command": ["sh", "-c", script]});
    }
    let made = t.make(&Res::POD, body).await?;
    ensure!(mounts_token(&made), "no token: {made}");
    let sources = token_volume(&made)?["sources"].as_array().context("no sources")?.clone();
    same("sources", &sources.len(), &3)?;
    same("the token", &sources[0]["serviceAccountToken"], &json!({"expirationSeconds": 3607, "path": "token"}))?;
    same("the CA", &sources[1]["configMap"]["name"], &json!("kube-root-ca.crt"))?;
    let item = &sources[2]["downwardAPI"]["items"][0];
    same("the namespace", &item["fieldRef"]["fieldPath"], &json!("metadata.namespace"))?;
    if t.env.real_nodes {
        succeeded(&t, "mount-test").await?;
    }
    // what the kubelet asks for in the pod's name works
    let bound = json!({"expirationSeconds": 3607, "boundObjectRef": {
        "kind": "Pod", "apiVersion": "v1", "name": "mount-test", "uid": made["metadata"]["uid"]}});
    let issued = token(&t, "default", bound).await?;
    let as_pod = as_token(&t, text(&issued["status"]["token"]))?;
    let me = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let me = as_pod.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &me).await?;
    let user = &me["status"]["userInfo"];
    same("user", &user["username"], &json!(format!("system:serviceaccount:{}:default", t.ns)))?;
    same("pod of the token", &user["extra"]["authentication.kubernetes.io/pod-name"], &json!(["mount-test"]))?;
    same(
        "uid of the token's pod",
        &user["extra"]["authentication.kubernetes.io/pod-uid"],
        &json!([made["metadata"]["uid"]]),
    )
}

fn as_token(t: &T, token: &str) -> Result<Client> {
    t.env.anonymous.with("authorization", &format!("Bearer {token}"))
}

pub async fn succeeded(t: &T, name: &str) -> Result<()> {
    let ended = t
        .until("an ended pod", &t.path(&Res::POD, name), |pod| {
            matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
        })
        .await?;
    same("phase", &ended["status"]["phase"], &json!("Succeeded"))
}

async fn projected(t: Arc<T>) -> Result<()> {
    let source = json!({"serviceAccountToken": {"path": "mytoken", "expirationSeconds": 1200, "audience": "vault"}});
    let mut body = pod(&t, "projected");
    body["spec"]["volumes"] = json!([{"name": "vault-token", "projected": {"sources": [source]}}]);
    body["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "vault-token", "mountPath": "/var/run/secrets/tokens"}]);
    if t.env.real_nodes {
        body["spec"]["restartPolicy"] = json!("Never");
        body["spec"]["containers"][0]["image"] = json!(t.env.surroundings.shell_image);
        body["spec"]["containers"][0]["command"] = json!(["cat", "/var/run/secrets/tokens/mytoken"]);
    }
    let made = t.make(&Res::POD, body).await?;
    same("defaultMode", &made["spec"]["volumes"][0]["projected"]["defaultMode"], &json!(420))?;
    if t.env.real_nodes {
        succeeded(&t, "projected").await?;
    }
    let issued = token(&t, "default", json!({"audiences": ["vault"], "expirationSeconds": 1200})).await?;
    let (_, claims) = claims(text(&issued["status"]["token"]))?;
    same("audience", &claims["aud"], &json!(["vault"]))?;
    let (issued_at, ends) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    same("life in seconds", &(ends - issued_at), &1200)?;
    let foreign = as_token(&t, text(&issued["status"]["token"]))?;
    foreign.call("GET", "/api/v1/namespaces", JSON, &Value::Null).await?.refused(401, "Unauthorized").map(drop)
}

async fn update(t: Arc<T>) -> Result<()> {
    let name = format!("e2e-sa-{}", random(4));
    t.make(&Res::SERVICE_ACCOUNT, json!({"metadata": {"name": name}})).await?;
    let path = t.path(&Res::SERVICE_ACCOUNT, &name);
    t.update(&path, |account| account["automountServiceAccountToken"] = json!(true)).await?;
    same("the field", &t.api.get(&path).await?["automountServiceAccountToken"], &json!(true))
}

/// What a review says is what the impersonated request meets.
async fn subject_review(t: Arc<T>) -> Result<()> {
    t.make(&Res::SERVICE_ACCOUNT, json!({"metadata": {"name": "asked"}})).await?;
    let user = format!("system:serviceaccount:{}:asked", t.ns);
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", t.ns),
        "system:authenticated".to_owned(),
    ];
    let mut impersonating = t.api.with("impersonate-user", &user)?;
    for group in &groups {
        impersonating = impersonating.with("impersonate-group", group)?;
    }
    let me = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let me = impersonating.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &me).await?;
    same("impersonated user", &me["status"]["userInfo"]["username"], &json!(user))?;

    let secrets = Res::SECRET.collection(&t.ns);
    for allowed in [false, true] {
        let attributes = json!({"namespace": t.ns, "verb": "list", "resource": "secrets", "version": "v1"});
        let spec = json!({"user": user, "groups": groups, "resourceAttributes": attributes});
        for (kind, path) in [
            ("SubjectAccessReview", "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned()),
            (
                "LocalSubjectAccessReview",
                format!("/apis/authorization.k8s.io/v1/namespaces/{}/localsubjectaccessreviews", t.ns),
            ),
        ] {
            let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {"namespace": t.ns}, "spec": spec});
            let mut body = body;
            if kind == "SubjectAccessReview" {
                body["metadata"] = json!({});
            }
            let reviewed = t.api.post(&path, &body).await?;
            same(kind, &reviewed["status"]["allowed"], &json!(allowed))?;
        }
        let answer = impersonating.call("GET", &secrets, JSON, &Value::Null).await?;
        match (allowed, answer.status) {
            (true, 200) | (false, 403) => {}
            (_, status) => bail!("allowed {allowed}, but the request met {status}: {}", answer.text()),
        }
        if !allowed {
            let binding = json!({
                "metadata": {"name": "view-secrets"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
                "subjects": [{"kind": "ServiceAccount", "name": "asked", "namespace": t.ns}],
            });
            t.make(&Res::ROLE_BINDING, binding).await?;
            t.eventually("the binding acts", || impersonating.get(&secrets)).await?;
        }
    }
    Ok(())
}

/// Two nodes that are Ready and schedulable and repel nobody; where there are no kubelets, the harness's nodes, from which
/// the control plane must have taken the taint of the beginning.
async fn untainted(t: Arc<T>) -> Result<()> {
    let path = format!("{}?fieldSelector=spec.unschedulable%3Dfalse", Res::NODE.everywhere());
    t.until_list("two ready nodes without taints", &path, |nodes| {
        let free =
            |node: &&Value| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty) && crate::nodes::is_ready(node);
        nodes.iter().filter(free).count() >= 2
    })
    .await
    .map(drop)
}
