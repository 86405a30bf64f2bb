//! Other ways to say who one is: certificates, a front proxy, an OIDC provider, impersonation.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use apiserver::{
    Identity,
    authn::{
        jwt,
        keys::{SigningKey, VerifyingKey},
    },
};
use certs::{Ca, Leaf, Subject, Usage};
use hyper_util::client::legacy::connect::HttpInfo;
use parking_lot::Mutex;
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    common::{Api, admin},
    user,
};

const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn client_of(ca: &Ca, dir: &Path, name: &str, user: &str) {
    let issued = ca.issue(&Leaf::new(Subject::new(user, &["crew"]), Usage::Client)).unwrap();
    std::fs::write(dir.join(format!("{name}.crt")), issued.cert_pem).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), issued.key_pem).unwrap();
}

async fn whoami(api: &Api, certificate: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut request = api.wire(certificate).post(api.url(SELF)).json(&json!({}));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn certificates_of_strangers_are_answered_not_hung_up_on() {
    let api = Api::start().await;
    client_of(&Ca::generate("somebody").unwrap(), api.path(), "stranger", "kubernetes-admin");
    let (status, answer) = whoami(&api, "stranger", &[]).await;
    assert_eq!((status, &answer["kind"], &answer["reason"]), (401, &json!("Status"), &json!("Unauthorized")));
    let (status, answer) = whoami(&api, "admin", &[]).await;
    assert_eq!(status, 201, "{answer}");
    let id = &answer["status"]["userInfo"]["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(id.as_str().unwrap().starts_with("X509SHA256="), "{answer}");
}

/// Its connection is not the worse for having come too early; nor for the server's clock, which may have been set since.
#[tokio::test]
async fn a_certificate_that_was_not_valid_yet_is_looked_at_again() {
    let api = Api::start().await;
    let read = |name: &str| std::fs::read_to_string(api.path().join(name)).unwrap();
    let ca = Ca::from_pem(&read("ca.crt"), &read("ca.key")).unwrap();
    let ask = async |client: &reqwest::Client| {
        let answer = client.post(api.url(SELF)).json(&json!({})).send().await.unwrap();
        let from = answer.extensions().get::<HttpInfo>().unwrap().local_addr();
        (answer.status().as_u16(), from)
    };
    // where the machine stood still until it was valid, another one
    let (begins, client, first) = loop {
        let begins = time::OffsetDateTime::now_utc() + time::Duration::seconds(4);
        let leaf =
            Leaf::new(Subject::new("early", &["crew"]), Usage::Client).valid(begins, begins + time::Duration::HOUR);
        let issued = ca.issue(&leaf).unwrap();
        std::fs::write(api.path().join("early.crt"), issued.cert_pem).unwrap();
        std::fs::write(api.path().join("early.key"), issued.key_pem).unwrap();
        let client = api.wire("early");
        let (status, from) = ask(&client).await;
        if status != 401 && time::OffsetDateTime::now_utc() >= begins {
            continue;
        }
        assert_eq!(status, 401);
        break (begins, client, from);
    };
    let (mut status, mut from) = (401, first);
    while status == 401 {
        assert!(time::OffsetDateTime::now_utc() < begins + time::Duration::MINUTE, "refused although it is valid");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        (status, from) = ask(&client).await;
    }
    assert_eq!((status, from), (201, first), "over the connection that was refused");
}

#[tokio::test]
async fn a_front_proxy_says_who_asks() {
    let proxy_ca = Ca::generate("front").unwrap();
    let api = Api::start_with(|config, dir| {
        std::fs::write(dir.join("front-ca.crt"), proxy_ca.cert_pem()).unwrap();
        let file = dir.join("front-ca.crt");
        config.request_header =
            serde_json::from_value(json!({"clientCaFile": file, "allowedNames": ["front-proxy"]})).unwrap();
    })
    .await;
    client_of(&proxy_ca, api.path(), "front", "front-proxy");
    client_of(&proxy_ca, api.path(), "imposter", "imposter");
    let said =
        [("x-remote-user", "joe"), ("x-remote-group", "dev"), ("x-remote-uid", "7"), ("x-remote-extra-a%2fb", "c")];
    let (status, answer) = whoami(&api, "front", &said).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(
        answer["status"]["userInfo"],
        json!({"username": "joe", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"a/b": ["c"]}})
    );
    assert_eq!(whoami(&api, "imposter", &said).await.0, 401);
    // from others the headers mean nothing
    let (_, answer) = whoami(&api, "admin", &said).await;
    assert_eq!(answer["status"]["userInfo"]["username"], "kubernetes-admin");
    let map = api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
    assert_eq!(map["data"]["requestheader-allowed-names"], "[\"front-proxy\"]", "{map}");
    assert!(map["data"]["client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn impersonation_carries_uid_and_extra() {
    let api = Api::start().await;
    let acting = [
        ("impersonate-user", "joe"),
        ("impersonate-uid", "7"),
        ("impersonate-group", "dev"),
        ("impersonate-extra-scopes", "view"),
    ];
    let (status, answer) = whoami(&api, "admin", &acting).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(
        answer["status"]["userInfo"],
        json!({"username": "joe", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["view"]}})
    );
    let (status, answer) = whoami(&api, "admin", &[("impersonate-group", "dev")]).await;
    assert_eq!(
        (status, answer["message"].as_str().unwrap()),
        (
            400,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"dev\"}, Extra:map[string][]string(nil)} without impersonating a user name"
        )
    );
    apiserver::testing::client(api.path(), "joe", "joe", "").unwrap();
    let (status, answer) = whoami(&api, "joe", &[("impersonate-user", "system:serviceaccount:a:b")]).await;
    assert_eq!(status, 403);
    assert_eq!(
        answer["message"],
        "selfsubjectreviews.authentication.k8s.io is forbidden: User \"joe\" cannot impersonate-on:serviceaccount:create resource \"selfsubjectreviews\" in API group \"authentication.k8s.io\" at the cluster scope"
    );
}

/// KEP-5284: only for some requests, and only as some.
#[tokio::test]
async fn impersonation_may_be_constrained() {
    let api = Api::start().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let grant = async |user: &str, name: &str, rules: Value| {
        api.create(roles, json!({"metadata": {"name": name}, "rules": rules})).await;
        let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        api.create(bindings, json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]})).await;
    };
    let read = json!([{"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["list"]}]);
    grant("jane", "jane-reads", read.clone()).await;
    grant("system:serviceaccount:a:robot", "robot-reads", read).await;
    grant(
        "joe",
        "joe-acts",
        json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["impersonate-on:user-info:list", "impersonate-on:serviceaccount:list", "impersonate-on:arbitrary-node:list"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate:user-info"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["groups"], "resourceNames": ["dev", "system:masters"], "verbs": ["impersonate:user-info"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["serviceaccounts"], "verbs": ["impersonate:serviceaccount"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["nodes"], "verbs": ["impersonate:arbitrary-node"]},
        ]),
    )
    .await;
    let agent = "system:serviceaccount:a:agent";
    grant(
        agent,
        "agent-acts",
        json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["impersonate-on:associated-node:list"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["nodes"], "verbs": ["impersonate:associated-node"]},
        ]),
    )
    .await;
    let call = async |who: Identity, path: &str, headers: &[(&str, &str)]| {
        let mut request = http::Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let response = tower::ServiceExt::oneshot(api.server().handler_as(who), request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let joe = || Identity::new("joe", [""; 0]);
    let (pods, maps) = ("/api/v1/pods", "/api/v1/configmaps");
    let jane = ("impersonate-user", "jane");
    assert_eq!(call(joe(), pods, &[jane, ("impersonate-group", "dev")]).await, (200, String::new()));
    // jane may, but not joe as jane
    let on = "configmaps is forbidden: User \"joe\" cannot impersonate-on:user-info:list resource \"configmaps\" in API group \"\" at the cluster scope";
    assert_eq!(call(joe(), maps, &[jane]).await, (403, on.to_owned()));
    let other = "users.authentication.k8s.io \"jim\" is forbidden: User \"joe\" cannot impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\" at the cluster scope";
    assert_eq!(call(joe(), pods, &[("impersonate-user", "jim")]).await, (403, other.to_owned()));
    let (status, why) = call(joe(), pods, &[jane, ("impersonate-group", "system:masters")]).await;
    assert!(status == 403 && why.ends_with(": impersonating the system:masters group is not allowed"), "{why}");
    let (status, why) = call(joe(), pods, &[jane, ("impersonate-extra-scope", "x")]).await;
    let odd = "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: \"scope\": must be a domain-prefixed path (such as \"acme.io/foo\")";
    assert!(status == 403 && why.ends_with(odd), "{why}");
    // service accounts and nodes have verbs of their own
    let robot = ("impersonate-user", "system:serviceaccount:a:robot");
    assert_eq!(call(joe(), pods, &[robot]).await.0, 200);
    let node = |name: &'static str| ("impersonate-user", name);
    assert_eq!(call(joe(), "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", &[node("system:node:n1")]).await.0, 200);
    let mut on_n1 = Identity::new(agent, [""; 0]);
    on_n1.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n1".into()]);
    let own = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1";
    assert_eq!(call(on_n1.clone(), own, &[node("system:node:n1")]).await, (200, String::new()));
    let (status, why) = call(on_n1, own, &[node("system:node:n2")]).await;
    assert!(status == 403 && why.contains("cannot impersonate-on:arbitrary-node:list"), "{why}");
}

#[tokio::test]
async fn anonymous_goes_where_it_may() {
    let api = Api::start_with(|config, _| config.anonymous.paths.clear()).await;
    let answer = api.wire("").get(api.url("/api/v1/pods")).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    let answer: Value = answer.json().await.unwrap();
    assert!(answer["message"].as_str().unwrap().contains("User \"system:anonymous\" cannot list"), "{answer}");
    let api = Api::start_with(|config, _| config.anonymous.enabled = false).await;
    assert_eq!(api.wire("").get(api.url("/healthz")).send().await.unwrap().status(), 401);
}

/// A provider on a port of its own: answers its two documents over TLS, counts how often it is asked for keys.
struct Provider {
    issuer: String,
    keys: Arc<Mutex<Value>>,
    fetched: Arc<AtomicUsize>,
}

impl Provider {
    async fn start(dir: &Path) -> Self {
        let (ca, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        let ca = Ca::from_pem(&std::fs::read_to_string(ca).unwrap(), &std::fs::read_to_string(key).unwrap()).unwrap();
        let leaf = ca.issue(&Leaf::new(Subject::new("oidc", &[]), Usage::Server).names(["localhost"])).unwrap();
        std::fs::write(dir.join("oidc.crt"), &leaf.cert_pem).unwrap();
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                apiserver::tls::certificates(&dir.join("oidc.crt")).unwrap(),
                PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (keys, fetched) = (Arc::new(Mutex::new(Value::Null)), Arc::new(AtomicUsize::new(0)));
        let provider = Provider { issuer: issuer.clone(), keys: keys.clone(), fetched: fetched.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut buffer = [0; 4096];
                let length = stream.read(&mut buffer).await.unwrap_or(0);
                let body = if String::from_utf8_lossy(&buffer[..length]).starts_with("GET /.well-known/") {
                    json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")})
                } else {
                    fetched.fetch_add(1, Ordering::Relaxed);
                    keys.lock().clone()
                };
                let body = body.to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        provider
    }

    /// A new key, from now on the only one.
    fn rotate(&self) -> SigningKey {
        let pair = certs::generate_service_account_key().unwrap();
        let jwk = VerifyingKey::from_pem(pair.public_pem.as_bytes()).unwrap().to_jwk();
        *self.keys.lock() = json!({"keys": [jwk]});
        SigningKey::from_pem(pair.private_pem.as_bytes()).unwrap()
    }
}

#[tokio::test]
async fn tokens_of_an_oidc_provider_are_believed_while_its_keys_are_there() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    apiserver::testing::prepare(dir.path()).unwrap();
    let provider = Provider::start(dir.path()).await;
    let mut config = apiserver::Config::in_dir(dir.path(), 0);
    config.oidc = serde_json::from_value(json!({
        "issuerUrl": provider.issuer, "clientId": "kube", "groupsClaim": "groups", "groupsPrefix": "corp:",
        "caFile": dir.path().join("ca.crt"), "signingAlgs": ["ES256"], "requiredClaims": {"hd": "x"},
    }))
    .unwrap();
    let api = Api { server: Some(apiserver::ApiServer::start(config).await.unwrap()), dir };
    let key = provider.rotate();
    let until = time::OffsetDateTime::now_utc().unix_timestamp() + 600;
    let claims = |hd: &str| json!({"iss": provider.issuer, "aud": "kube", "sub": "joe", "exp": until, "groups": ["dev"], "hd": hd});
    let ask = async |token: &str| {
        let answer = api.wire("").post(api.url(SELF)).bearer_auth(token).json(&json!({})).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let token = jwt::sign(&key, &claims("x")).unwrap();
    let (status, answer) = ask(&token).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["status"]["userInfo"]["username"], format!("{}#joe", provider.issuer));
    assert_eq!(answer["status"]["userInfo"]["groups"], json!(["corp:dev", "system:authenticated"]));
    assert_eq!(ask(&jwt::sign(&key, &claims("y")).unwrap()).await.0, 401);
    assert_eq!(provider.fetched.load(Ordering::Relaxed), 1, "keys are kept");
    // a new key is fetched when a token names it, but not at once again
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let newer = jwt::sign(&provider.rotate(), &claims("x")).unwrap();
    assert_eq!(ask(&newer).await.0, 201);
    assert_eq!(provider.fetched.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn who_asks_is_told_to_himself() {
    let api = Api::start().await;
    let (status, answer) = api.call_as(user("joe"), "POST", SELF, json!({})).await;
    assert_eq!((status, &answer["status"]["userInfo"]["username"]), (201, &json!("joe")));
    let identity = Identity { uid: "7".into(), ..admin() };
    assert_eq!(api.call_as(identity, "POST", SELF, json!({})).await.1["status"]["userInfo"]["uid"], "7");
}
