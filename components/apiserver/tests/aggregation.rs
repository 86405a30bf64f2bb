//! APIServices: a real extension server with TLS behind a Service, by HTTP and kubectl.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use apiserver::{Identity, http::body::BoxError};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use certs::{Ca, Leaf, Subject, Usage};
use common::{Api, admin};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::broadcast,
};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";
const VERSION: &str = "/apis/wardle.example.com/v1alpha1";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What the extension server holds and saw.
struct Flunders {
    objects: BTreeMap<String, Value>,
    changes: broadcast::Sender<Value>,
    /// (path, headers, whether the client showed a certificate of the front proxy) of each request.
    seen: Vec<(String, HeaderMap, bool)>,
    /// Knows neither aggregated discovery nor OpenAPI v3.
    old: bool,
}

struct Extension {
    port: u16,
    ca: String,
    state: Arc<Mutex<Flunders>>,
    task: tokio::task::JoinHandle<()>,
}

impl Extension {
    async fn start(api: &Api, address: IpAddr, old: bool) -> Self {
        let ca = Ca::generate("extension").unwrap();
        let leaf = Leaf::new(Subject::new("sample-api", &[]), Usage::Server).names(["sample-api.default.svc"]);
        let issued = ca.issue(&leaf).unwrap();
        let chain = CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).flatten().collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(api.path().join("front-proxy-ca.crt")).unwrap()).unwrap();
        let clients = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots));
        let clients = clients.allow_unauthenticated().build().unwrap();
        let tls =
            rustls::ServerConfig::builder().with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let changes = broadcast::channel(16).0;
        let state = Arc::new(Mutex::new(Flunders { objects: BTreeMap::new(), changes, seen: Vec::new(), old }));
        let held = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), held.clone());
                connections.spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    let known = tls.get_ref().1.peer_certificates().is_some();
                    let service = hyper::service::service_fn(move |request| answer(request, state.clone(), known));
                    let io = TokioIo::new(tls);
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(io, service).with_upgrades().await;
                });
            }
        });
        Extension { port, ca: STANDARD.encode(ca.cert_pem()), state, task }
    }

    /// The Service `default/sample-api` as another name for this host, and its APIService.
    async fn register(&self, api: &Api) {
        let spec = json!({"type": "ExternalName", "externalName": "localhost"});
        api.create("/api/v1/namespaces/default/services", json!({"metadata": {"name": "sample-api"}, "spec": spec}))
            .await;
        api.create(SERVICES, self.registration()).await;
        available(api, "True").await;
    }

    fn registration(&self) -> Value {
        json!({"metadata": {"name": NAME}, "spec": {
            "service": {"namespace": "default", "name": "sample-api", "port": self.port}, "group": "wardle.example.com",
            "version": "v1alpha1", "caBundle": self.ca, "groupPriorityMinimum": 17150, "versionPriority": 15}})
    }

    /// The last request for a path.
    fn last(&self, path: &str) -> (HeaderMap, bool) {
        let state = self.state.lock().unwrap();
        let found = state.seen.iter().rev().find(|(seen, ..)| seen == path);
        found.map(|(_, headers, known)| (headers.clone(), *known)).expect("no such request came")
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    state: Arc<Mutex<Flunders>>,
    known: bool,
) -> Result<Response<Body>, Infallible> {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    state.lock().unwrap().seen.push((path.clone(), request.headers().clone(), known));
    if path.ends_with("/connect") {
        return Ok(echo(request));
    }
    let method = request.method().clone();
    let accept = request.headers().get("accept").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let sent = request.into_body().collect().await.unwrap().to_bytes();
    let mut state = state.lock().unwrap();
    if query.contains("watch") {
        let events = futures::stream::unfold(state.changes.subscribe(), |mut changes| async move {
            let event = changes.recv().await.ok()?;
            Some((Ok(http_body::Frame::data(Bytes::from(format!("{event}\n")))), changes))
        });
        return Ok(Response::new(StreamBody::new(events).boxed_unsync()));
    }
    if method == "GET"
        && let Some((media, document)) = document(&path, &accept, state.old)
    {
        let mut response = Response::new(full(&document));
        response.headers_mut().insert("content-type", media.parse().unwrap());
        return Ok(response);
    }
    let name = path.strip_prefix(FLUNDERS).map(|rest| rest.trim_start_matches('/').to_owned());
    let (status, value) = match (method.as_str(), name.as_deref()) {
        ("GET", Some("")) => {
            let items: Vec<&Value> = state.objects.values().collect();
            (
                200,
                json!({"kind": "FlunderList", "apiVersion": "wardle.example.com/v1alpha1", "metadata": {}, "items": items}),
            )
        }
        ("POST", Some("")) => {
            let object: Value = serde_json::from_slice(&sent).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            state.objects.insert(name, object.clone());
            let _ = state.changes.send(json!({"type": "ADDED", "object": object}));
            (201, object)
        }
        ("GET", Some(name)) if state.objects.contains_key(name) => (200, state.objects[name].clone()),
        ("DELETE", Some(name)) if state.objects.contains_key(name) => {
            state.objects.remove(name);
            (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        _ => (
            404,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "no such flunder", "code": 404}),
        ),
    };
    let mut response = Response::new(full(&value));
    *response.status_mut() = status.try_into().unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    Ok(response)
}

fn full(value: &Value) -> Body {
    Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync()
}

fn document(path: &str, accept: &str, old: bool) -> Option<(&'static str, Value)> {
    let verbs = json!(["create", "delete", "get", "list", "watch"]);
    let kind = json!({"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"});
    let flunder = json!({"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": verbs, "shortNames": ["fl"]});
    let plain = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1", "resources": [flunder]});
    Some(match path {
        VERSION => ("application/json", plain),
        "/apis" if !old && accept.contains("APIGroupDiscoveryList") => {
            let resource = json!({"resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder", "verbs": verbs, "shortNames": ["fl"]});
            let version = json!({"version": "v1alpha1", "resources": [resource], "freshness": "Current"});
            let item = json!({"metadata": {"name": "wardle.example.com"}, "versions": [version]});
            (
                AGGREGATED,
                json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [item]}),
            )
        }
        "/openapi/v3" if !old => {
            let url = "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=1";
            (
                "application/json",
                json!({"paths": {"apis/wardle.example.com/v1alpha1": {"serverRelativeURL": url}, "version": {"serverRelativeURL": "/x"}}}),
            )
        }
        "/openapi/v3/apis/wardle.example.com/v1alpha1" if !old => ("application/json", documented()),
        "/openapi/v2" => {
            let schema = json!({"description": "A flunder of the sea.", "type": "object", "x-kubernetes-group-version-kind": [kind],
                "properties": {"spec": {"$ref": "#/definitions/wardle.Spec"}}});
            let spec = json!({"type": "object", "properties": {"reference": {"type": "string", "description": "Whom it swims with."}}});
            let get = json!({"responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/wardle.Flunder"}}}});
            (
                "application/json",
                json!({"swagger": "2.0", "paths": {format!("{VERSION}/flunders"): {"get": get}},
                    "definitions": {"wardle.Flunder": schema, "wardle.Spec": spec}}),
            )
        }
        _ => return None,
    })
}

/// As much OpenAPI v3 as `kubectl explain` wants.
fn documented() -> Value {
    let kind = json!({"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"});
    let get = json!({"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": kind, "responses": {}});
    let spec = json!({"type": "object", "description": "How it is.", "properties": {"reference": {"type": "string", "description": "Whom it swims with."}}});
    let flunder = json!({"type": "object", "description": "A flunder of the sea.", "x-kubernetes-group-version-kind": [kind], "properties": {"spec": spec}});
    json!({"openapi": "3.0.0", "mine": true, "info": {"title": "sample", "version": "v1"},
        "paths": {FLUNDERS.replace("/default/", "/{namespace}/"): {"get": get}}, "components": {"schemas": {"wardle.Flunder": flunder}}})
}

/// Speaks a protocol of its own after the upgrade: says what it hears.
fn echo(mut request: http::Request<hyper::body::Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..n]).await.unwrap();
        }
    });
    Response::builder()
        .status(101)
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(full(&json!({})))
        .unwrap()
}

/// Waits until the condition has this status; gives it.
async fn available(api: &Api, status: &str) -> Value {
    until(api, NAME, |condition| condition["status"] == status).await
}

async fn until(api: &Api, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut watch = api.watch(&format!("{SERVICES}?watch=true&fieldSelector=metadata.name={name}")).await;
    let waiting = async {
        loop {
            let (_, object) = watch.line().await.expect("the watch ended");
            let condition = &object["status"]["conditions"][0];
            if wanted(condition) {
                return condition.clone();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the condition did not come")
}

async fn get_as(api: &Api, who: Identity, path: &str, accept: &str) -> (u16, HeaderMap, String) {
    use tower::ServiceExt;
    let request = http::Request::builder().uri(path).header("accept", accept).body(Full::<Bytes>::default()).unwrap();
    let response = api.server().handler_as(who).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8_lossy(&body).into_owned())
}

async fn discovered(api: &Api) -> Value {
    let (_, _, text) = get_as(api, admin(), "/apis", AGGREGATED).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut items = document["items"].as_array().unwrap().iter();
    items.find(|it| it["metadata"]["name"] == "wardle.example.com").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_uses_an_aggregated_kind() {
    let api = Api::start().await;
    let extension = Extension::start(&api, "127.0.0.1".parse().unwrap(), false).await;
    extension.register(&api).await;
    let listed = api.kubectl_ok(&["get", "apiservices", NAME, "v1.", "v1.apps"], "").await;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(rows[0], ["NAME", "SERVICE", "AVAILABLE"]);
    assert!(
        rows.contains(&vec![NAME, "default/sample-api", "True"]) && rows.contains(&vec!["v1.", "Local", "True"]),
        "{listed}"
    );

    let flunder = json!({"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": "f", "namespace": "default"}});
    let created = api.kubectl_ok(&["create", "--validate=false", "-f", "-"], &flunder.to_string()).await;
    assert_eq!(created, "flunder.wardle.example.com/f created\n");
    assert!(api.kubectl_ok(&["get", "fl", "f", "-o", "name"], "").await.contains("flunder.wardle.example.com/f"));
    assert!(api.kubectl_ok(&["explain", "flunders.spec"], "").await.contains("Whom it swims with"));
    let deleted = api.kubectl_ok(&["delete", "flunder", "f", "--wait=false"], "").await;
    assert!(deleted.contains("deleted"), "{deleted}");
    let (ok, text) = api.kubectl("admin", &["get", "flunders", "f"], "").await;
    assert!(!ok && text.contains("no such flunder"), "{text}");
}

#[tokio::test]
async fn the_extension_server_learns_who_asks_and_nothing_else() {
    let api = Api::start().await;
    let extension = Extension::start(&api, "127.0.0.1".parse().unwrap(), false).await;
    extension.register(&api).await;
    let probe = extension.last(VERSION);
    assert_eq!(probe.0["x-remote-user"], "system:kube-aggregator");
    assert!(probe.1, "the server's own certificate is shown");

    let request = api
        .wire("admin")
        .get(api.url(&format!("{FLUNDERS}?limit=5&x=%2F")))
        .header("authorization", "Bearer secret")
        .header("x-remote-user", "somebody-else")
        .header("x-remote-group", "wheel")
        .header("x-remote-extra-scopes", "all")
        .header("cookie", "session=secret")
        .header("accept", "application/vnd.example+json");
    let response = request.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["cache-control"]),
        (200, &"no-cache, private".parse().unwrap())
    );
    let (headers, known) = extension.last(FLUNDERS);
    assert!(known, "front proxy");
    let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        (all("x-remote-user"), all("x-remote-group")),
        (vec!["kubernetes-admin"], vec!["system:masters", "system:authenticated"])
    );
    assert_eq!(all("accept"), ["application/vnd.example+json"], "what is acceptable is between the two");
    assert_eq!(all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all("x-remote-extra-authentication.kubernetes.io%2fcredential-id").len(), 1, "{headers:?}");
    for gone in ["authorization", "cookie", "x-remote-extra-scopes"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    let mut who = Identity::new("jürgen", ["dev", "system:masters"]);
    who.uid = "7".into();
    assert_eq!(api.call_as(who, "GET", FLUNDERS, Value::Null).await.0, 200);
    let (headers, _) = extension.last(FLUNDERS);
    assert_eq!(
        (headers["x-remote-user"].as_bytes(), &headers["x-remote-uid"]),
        ("jürgen".as_bytes(), &"7".parse().unwrap())
    );
    let (code, _) = api.call_as(Identity::new("joe", ["dev"]), "GET", FLUNDERS, Value::Null).await;
    assert_eq!(code, 403, "authorization comes first");
}

#[tokio::test]
async fn watches_and_upgrades_stream_through() {
    let api = Api::start().await;
    let extension = Extension::start(&api, "127.0.0.1".parse().unwrap(), false).await;
    extension.register(&api).await;
    let mut watch = api.watch(&format!("{FLUNDERS}?watch=true")).await;
    api.create(FLUNDERS, json!({"metadata": {"name": "f"}})).await;
    let (kind, object) = watch.next().await;
    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!("f")));

    let mut stream = tls(&api, api.server().address()).await;
    let token = token(&api).await;
    let head = format!(
        "GET {FLUNDERS}/f/connect HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("upgrade: echo"), "{answer}");
    stream.write_all(b"hello").await.unwrap();
    let mut said = [0; 5];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
    assert_eq!(
        extension.last(&format!("{FLUNDERS}/f/connect")).0["x-remote-user"],
        "system:serviceaccount:default:ext"
    );
}

/// A token of a service account that may everything.
async fn token(api: &Api) -> String {
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "ext"}})).await;
    let binding = json!({"metadata": {"name": "ext"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "ext"}]});
    api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let made = api.create("/api/v1/namespaces/default/serviceaccounts/ext/token", json!({"spec": {}})).await;
    made["status"]["token"].as_str().unwrap().to_owned()
}

async fn tls(api: &Api, address: SocketAddr) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(api.path().join("ca.crt")).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

#[tokio::test]
async fn discovery_and_documents_are_merged() {
    let api = Api::start().await;
    let extension = Extension::start(&api, "127.0.0.1".parse().unwrap(), false).await;
    extension.register(&api).await;
    let list = api.get("/apis").await;
    let names: Vec<&str> = list["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    let at = |name: &str| names.iter().position(|it| *it == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    assert_eq!(names[0], "apiregistration.k8s.io");
    assert_eq!(at("networking.k8s.io") + 1, at("wardle.example.com"), "by priority: {names:?}");
    assert_eq!(at("wardle.example.com") + 1, at("policy"), "by priority: {names:?}");
    let group = api.get("/apis/wardle.example.com").await;
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    let found = discovered(&api).await;
    assert_eq!(
        (&found["versions"][0]["freshness"], &found["versions"][0]["resources"][0]["resource"]),
        (&json!("Current"), &json!("flunders"))
    );

    let index = api.get("/openapi/v3").await;
    let url = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(api.get(url).await["mine"], true);
    assert!(index["paths"].get("version").is_none(), "only what was registered");
    let v2 = api.get("/openapi/v2").await;
    assert!(v2["definitions"]["wardle.Flunder"].is_object() && v2["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    assert!(v2["paths"][format!("{VERSION}/flunders")]["get"].is_object());

    extension.task.abort();
    api.call("GET", FLUNDERS, Value::Null).await;
    available(&api, "False").await;
    let found = discovered(&api).await;
    assert_eq!((&found["versions"][0]["freshness"], &found["versions"][0]["resources"]), (&json!("Stale"), &json!([])));
    assert_eq!(api.call("DELETE", &format!("{SERVICES}/{NAME}"), Value::Null).await.0, 200);
    assert!(!api.get("/apis").await.to_string().contains("wardle"), "the group goes with its APIService");
    assert_eq!(api.call("GET", VERSION, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_server_that_knows_only_old_forms_is_merged_too() {
    let api = Api::start().await;
    let extension = Extension::start(&api, "127.0.0.1".parse().unwrap(), true).await;
    extension.register(&api).await;
    let found = discovered(&api).await;
    let resource = &found["versions"][0]["resources"][0];
    assert_eq!(
        (&resource["resource"], &resource["responseKind"]["kind"], &resource["shortNames"]),
        (&json!("flunders"), &json!("Flunder"), &json!(["fl"]))
    );
    let index = api.get("/openapi/v3").await;
    let url = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    let document = api.get(url).await;
    assert_eq!(
        document["components"]["schemas"]["wardle.Flunder"]["properties"]["spec"]["$ref"],
        "#/components/schemas/wardle.Spec"
    );
}

/// An address of this machine that is not loopback: what is sent there never leaves it.
fn own_address() -> IpAddr {
    let output = Command::new("hostname").arg("-I").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().filter_map(|a| a.parse().ok()).find(|a: &IpAddr| a.is_ipv4()).expect("an IPv4 address")
}

#[tokio::test]
async fn availability_follows_service_endpoints_and_server() {
    let api = Api::start().await;
    let address = own_address();
    let extension = Extension::start(&api, address, false).await;
    let mut registration = extension.registration();
    registration["spec"]["service"]["port"] = 443.into();
    api.create(SERVICES, registration).await;
    let reason = async |wanted: &str| until(&api, NAME, |condition| condition["reason"] == wanted).await;
    let condition = reason("ServiceNotFound").await;
    assert_eq!(
        (&condition["status"], &condition["message"]),
        (&json!("False"), &json!("service/sample-api in \"default\" is not present"))
    );
    let (code, head, text) = get_as(&api, admin(), FLUNDERS, "*/*").await;
    assert_eq!(
        (code, text.as_str(), &head["content-type"]),
        (503, "service unavailable\n", &"text/plain; charset=utf-8".parse().unwrap())
    );
    let (ok, text) = api.kubectl("admin", &["get", "--raw", FLUNDERS], "").await;
    assert!(!ok && text.contains("the server is currently unable to handle the request"), "{text}");

    let services = "/api/v1/namespaces/default/services";
    let spec = json!({"ports": [{"name": "https", "port": 444}]});
    api.create(services, json!({"metadata": {"name": "sample-api"}, "spec": spec})).await;
    assert_eq!(
        reason("ServicePortError").await["message"],
        "service/sample-api in \"default\" is not listening on port 443"
    );
    let ports = json!({"spec": {"ports": [{"name": "https", "port": 443}]}});
    assert_eq!(api.call("PATCH", &format!("{services}/sample-api"), ports).await.0, 200);
    assert_eq!(
        reason("EndpointsNotFound").await["message"],
        "cannot find endpointslices for service/sample-api in \"default\""
    );
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = |ready: bool, port: u16| {
        json!({"metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample-api"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}], "ports": [{"name": "https", "port": port}]})
    };
    api.create(slices, slice(false, extension.port)).await;
    let condition = reason("MissingEndpoints").await;
    assert_eq!(
        condition["message"],
        "endpointslices for service/sample-api in \"default\" have no addresses with port name \"https\""
    );
    let free = TcpListener::bind((address, 0)).await.unwrap().local_addr().unwrap().port();
    assert_eq!(api.call("PUT", &format!("{slices}/sample-1"), slice(true, free)).await.0, 200);
    let condition = reason("FailedDiscoveryCheck").await;
    let url = format!("https://{address}:{free}{VERSION}");
    let wanted = format!(
        "failing or missing response from {url}: Get \"{url}\": dial tcp {address}:{free}: connect: connection refused"
    );
    assert_eq!(condition["message"], wanted);
    assert_eq!(api.call("PUT", &format!("{slices}/sample-1"), slice(true, extension.port)).await.0, 200);
    let condition = reason("Passed").await;
    assert_eq!((&condition["status"], &condition["message"]), (&json!("True"), &json!("all checks passed")));
    assert_eq!(api.call("GET", FLUNDERS, Value::Null).await.0, 200);

    // a status that somebody else writes does not last
    let lie = json!({"status": {"conditions": [{"type": "Available", "status": "False", "reason": "Whim", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    assert_eq!(api.call("PATCH", &format!("{SERVICES}/{NAME}/status"), lie).await.0, 200);
    reason("Passed").await;

    assert_eq!(api.call("DELETE", &format!("{services}/sample-api"), Value::Null).await.0, 200);
    reason("ServiceNotFound").await;
    let wanted = [
        "aggregator_unavailable_apiservice{name=\"v1.apps\"} 0".to_owned(),
        format!("aggregator_unavailable_apiservice{{name=\"{NAME}\"}} 1"),
        format!("aggregator_unavailable_apiservice_total{{name=\"{NAME}\",reason=\"ServiceNotFound\"}} 1"),
    ];
    // what is counted follows the object, and has no event
    for _ in 0..100 {
        let (_, _, metrics) = get_as(&api, admin(), "/metrics", "*/*").await;
        if wanted.iter().all(|line| metrics.lines().any(|it| it == line)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{wanted:?}: {}", get_as(&api, admin(), "/metrics", "*/*").await.2);
}

#[tokio::test]
async fn whom_to_believe_is_the_apiservices_word() {
    let api = Api::start().await;
    let extension = Extension::start(&api, "127.0.0.1".parse().unwrap(), false).await;
    extension.register(&api).await;
    let one = format!("{SERVICES}/{NAME}");
    let other = STANDARD.encode(Ca::generate("other").unwrap().cert_pem());
    assert_eq!(api.call("PATCH", &one, json!({"spec": {"caBundle": other}})).await.0, 200);
    // as upstream, the condition does not say so: only discovery is asked, of anybody
    let (code, text) = api.call("GET", FLUNDERS, Value::Null).await;
    let why = "error trying to reach service: tls: failed to verify certificate: x509: certificate signed by unknown authority\n";
    assert_eq!((code, text.as_str()), (503, Some(why)));
    let insecure = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    assert_eq!(api.call("PATCH", &one, insecure).await.0, 200);
    assert_eq!(api.call("GET", FLUNDERS, Value::Null).await.0, 200);
}

#[tokio::test]
async fn custom_resources_have_apiservices() {
    let mut api = Api::start().await;
    let definition = json!({"metadata": {"name": "widgets.x.example"}, "spec": {"group": "x.example", "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
            {"name": "v2", "served": false, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    api.create(definitions, definition).await;
    let condition = until(&api, "v1.x.example", |condition| condition["reason"] == "Local").await;
    assert_eq!(
        (&condition["status"], &condition["message"]),
        (&json!("True"), &json!("Local APIServices are always available"))
    );
    let made = api.get(&format!("{SERVICES}/v1.x.example")).await;
    assert_eq!(made["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    assert_eq!(
        made["spec"],
        json!({"group": "x.example", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100})
    );
    assert_eq!(api.call("GET", &format!("{SERVICES}/v2.x.example"), Value::Null).await.0, 404, "not served");

    // changed or deleted, it comes back; with its definition it goes
    let mut watch = api.watch(&format!("{SERVICES}?watch=true&fieldSelector=metadata.name=v1.x.example")).await;
    watch.next().await;
    assert_eq!(
        api.call("PATCH", &format!("{SERVICES}/v1.x.example"), json!({"spec": {"versionPriority": 5}})).await.0,
        200
    );
    while watch.next().await.1["spec"]["versionPriority"] != 5 {}
    assert_eq!(watch.next().await.1["spec"]["versionPriority"], 100);
    assert_eq!(api.call("DELETE", &format!("{SERVICES}/v1.x.example"), Value::Null).await.0, 200);
    while watch.next().await.0 != "DELETED" {}
    assert_eq!(watch.next().await.0, "ADDED");
    api.restart().await;
    assert_eq!(api.get(&format!("{SERVICES}/v1.x.example")).await["metadata"]["name"], "v1.x.example");
    let mut watch = api.watch(&format!("{SERVICES}?watch=true&fieldSelector=metadata.name=v1.x.example")).await;
    assert_eq!(api.call("DELETE", &format!("{definitions}/widgets.x.example"), Value::Null).await.0, 200);
    while watch.next().await.0 != "DELETED" {}
}

#[tokio::test]
async fn the_authorities_are_published_and_kept() {
    let api = Api::start().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let read = |name: &str| std::fs::read_to_string(Path::new(api.path()).join(name)).unwrap();
    let data = api.get(path).await["data"].clone();
    assert_eq!(data["client-ca-file"], read("ca.crt"));
    assert_eq!(data["requestheader-client-ca-file"], read("front-proxy-ca.crt"));
    for (key, value) in [
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
    ] {
        assert_eq!(data[key], value, "{key}");
    }
    let mut watch = api.watch("/api/v1/namespaces/kube-system/configmaps?watch=true&fieldSelector=metadata.name=extension-apiserver-authentication").await;
    watch.next().await;
    assert_eq!(api.call("DELETE", path, Value::Null).await.0, 200);
    assert_eq!((watch.next().await.0, watch.next().await.0), ("DELETED".into(), "ADDED".into()));
    let both = read("front-proxy-ca.crt") + Ca::generate("next").unwrap().cert_pem();
    std::fs::write(api.path().join("front-proxy-ca.crt"), &both).unwrap();
    while watch.next().await.1["data"]["requestheader-client-ca-file"] != both {}
}
