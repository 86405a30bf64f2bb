#![allow(clippy::unwrap_used, clippy::expect_used)]
//! Real sockets on the loopback: a client, the proxy, endpoints.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::table::Snapshot;

/// An endpoint that tells its name, what it was asked and the headers that the proxy adds; joins `upgrade: echo`.
async fn endpoint(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |mut request: Request<Incoming>| async move {
                if request.headers().contains_key("upgrade") {
                    let upgrade = hyper::upgrade::on(&mut request);
                    tokio::spawn(async move {
                        let mut io = TokioIo::new(upgrade.await.unwrap());
                        let mut buffer = [0; 64];
                        while let Ok(n @ 1..) = io.read(&mut buffer).await {
                            io.write_all(&buffer[..n]).await.unwrap();
                        }
                    });
                    let switching =
                        Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
                    return Ok::<_, Infallible>(switching.body(Full::default()).unwrap());
                }
                let header = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
                let told = json!({
                    "name": name,
                    "path": request.uri().path_and_query().unwrap().as_str(),
                    "host": header("host"),
                    "for": header("x-forwarded-for"),
                    "proto": header("x-forwarded-proto"),
                    "connection": header("connection"),
                });
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let told = format!("{told}\n{}", String::from_utf8_lossy(&body));
                Ok(Response::new(Full::new(Bytes::from(told))))
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    address
}

/// For what takes a moment: this process may be paused meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port on which nobody listens. As long as the socket is kept nobody gets it who does not share it, as our instances do.
fn refused() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// One Service per name with these endpoints, and an Ingress with these rules: (host, path type, path, service).
fn snapshot(services: &[(&str, &[SocketAddr])], rules: &[(&str, &str, &str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.classes.push(object::<IngressClass>(json!({
        "metadata": { "name": "kinstall", "annotations": { "ingressclass.kubernetes.io/is-default-class": "true" } },
        "spec": { "controller": table::CONTROLLER },
    })));
    for (name, endpoints) in services {
        snapshot.services.push(object::<Service>(json!({
            "metadata": { "name": name, "namespace": "a" },
            "spec": { "ports": [{ "name": "http", "port": 80 }] },
        })));
        for endpoint in *endpoints {
            snapshot.slices.push(object::<EndpointSlice>(json!({
                "metadata": { "name": format!("{name}-{}", endpoint.port()), "namespace": "a", "labels": { "kubernetes.io/service-name": name } },
                "addressType": "IPv4",
                "ports": [{ "name": "http", "port": endpoint.port() }],
                "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }, { "addresses": ["127.0.0.9"], "conditions": { "ready": false } }],
            })));
        }
    }
    for (n, (host, kind, path, service)) in rules.iter().enumerate() {
        let mut rule = json!({ "http": { "paths": [{ "path": path, "pathType": kind,
            "backend": { "service": { "name": service, "port": { "number": 80 } } } }] } });
        if !host.is_empty() {
            rule["host"] = json!(host);
        }
        snapshot.ingresses.push(object::<Ingress>(json!({
            "metadata": { "name": format!("i{n}"), "namespace": "a" },
            "spec": { "rules": [rule], "tls": [{ "hosts": [host], "secretName": "tls" }] },
        })));
    }
    snapshot
}

struct Proxy {
    http: SocketAddr,
    https: SocketAddr,
    current: Current,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

async fn proxy(snapshot: &Snapshot) -> Proxy {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let ((_http, http), (_https, https), (_health, health)) = (refused(), refused(), refused());
    let args = Args {
        http,
        https,
        health,
        ingress_class: "kinstall".into(),
        node_ip: None,
        ready_file: None,
        is_ready: false,
    };
    let listeners = listen::bind(&args).unwrap();
    let current: Current = Arc::new(RwLock::new(Arc::new(Table::build(snapshot, "kinstall"))));
    let stop = CancellationToken::new();
    let served = tokio::spawn(listen::serve(listeners, current.clone(), stop.clone()));
    Proxy { http, https, current, stop, served }
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn get(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", host).body(Full::default()).unwrap()
}

#[tokio::test]
async fn requests_go_where_the_rules_say_and_tell_of_the_client() {
    let (one, two) = (endpoint("one").await, endpoint("two").await);
    let snapshot = snapshot(
        &[("one", &[one]), ("two", &[two]), ("none", &[])],
        &[
            ("blog.test", "Prefix", "/", "one"),
            ("blog.test", "Exact", "/two", "two"),
            ("*.wild.test", "Prefix", "/", "two"),
            ("empty.test", "Prefix", "/", "none"),
        ],
    );
    let proxy = proxy(&snapshot).await;
    let (status, body) = send(proxy.http, get("Blog.test:8080", "/x?y=1")).await;
    assert_eq!(status, 200);
    let told: serde_json::Value = serde_json::from_str(body.lines().next().unwrap()).unwrap();
    assert_eq!(told["name"], "one");
    assert_eq!(told["path"], "/x?y=1");
    assert_eq!(told["host"], "Blog.test:8080");
    assert_eq!((&told["for"], &told["proto"]), (&json!("127.0.0.1"), &json!("http")));
    assert!(send(proxy.http, get("blog.test", "/two")).await.1.contains("\"two\""));
    assert!(send(proxy.http, get("a.wild.test", "/")).await.1.contains("\"two\""));
    assert_eq!(send(proxy.http, get("a.b.wild.test", "/")).await.0, 404);
    assert_eq!(send(proxy.http, get("other.test", "/")).await.0, 404);
    assert_eq!(send(proxy.http, get("empty.test", "/")).await.0, 503);
}

#[tokio::test]
async fn a_body_reaches_another_endpoint_when_the_first_refuses() {
    let (good, (_bad, bad)) = (endpoint("good").await, refused());
    let proxy = proxy(&snapshot(&[("s", &[good, bad])], &[("", "Prefix", "/", "s")])).await;
    for n in 0..6 {
        let text = format!("body {n} {}", "x".repeat(100_000));
        let request = Request::post("/").header("host", "h").body(Full::new(Bytes::from(text.clone()))).unwrap();
        let (status, body) = send(proxy.http, request).await;
        assert_eq!(status, 200);
        assert_eq!(body.split_once('\n').unwrap().1, text);
    }
}

/// Takes every connection, reads what is asked, and goes away without an answer.
async fn dying() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    address
}

#[tokio::test]
async fn an_endpoint_that_dies_over_a_request_is_followed_by_another_where_twice_is_as_once() {
    // two turns: whichever comes first
    let endpoints = [dying().await, endpoint("web").await];
    let proxy = proxy(&snapshot(&[("web", &endpoints)], &[("a.example", "Prefix", "/", "web")])).await;
    for _ in 0..2 {
        let (status, told) = send(proxy.http, get("a.example", "/")).await;
        assert_eq!(status, StatusCode::OK, "{told}");
    }
    let dead = [dying().await];
    let proxy = super::tests::proxy(&snapshot(&[("web", &dead)], &[("a.example", "Prefix", "/", "web")])).await;
    let (status, _) = send(proxy.http, get("a.example", "/")).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again() {
    let endpoints = [dying().await, endpoint("web").await];
    let proxy = proxy(&snapshot(&[("web", &endpoints)], &[("a.example", "Prefix", "/", "web")])).await;
    let post = || Request::post("/").header("host", "a.example").body(Full::new(Bytes::from("order"))).unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(send(proxy.http, post()).await.0);
    }
    assert!(seen.contains(&StatusCode::BAD_GATEWAY), "{seen:?}");
}

#[tokio::test]
async fn upgraded_connections_are_joined() {
    let echo = endpoint("echo").await;
    let proxy = proxy(&snapshot(&[("s", &[echo])], &[("", "Prefix", "/", "s")])).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    let request = b"GET /ws HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, Upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let one = endpoint("one").await;
    let mut snapshot = snapshot(&[("s", &[one])], &[("tls.test", "Prefix", "/", "s")]);
    let ca = certs::Ca::generate("test").unwrap();
    let leaf = certs::Leaf::new(certs::Subject::new("tls.test", &[]), certs::Usage::Server).names(["tls.test"]);
    let issued = ca.issue(&leaf).unwrap();
    let mut secret = Secret::default();
    secret.metadata.name = Some("tls".into());
    secret.metadata.namespace = Some("a".into());
    let bytes = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
    secret.data =
        Some([("tls.crt".into(), bytes(&issued.cert_pem)), ("tls.key".into(), bytes(&issued.key_pem))].into());
    snapshot.secrets.push(Arc::new(secret));
    let proxy = proxy(&snapshot).await;

    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connect = async |name: &'static str| {
        let stream = TcpStream::connect(proxy.https).await.unwrap();
        connector.connect(rustls_pki_types::ServerName::try_from(name).unwrap(), stream).await
    };
    let stream = connect("tls.test").await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(get("tls.test", "/")).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("\"proto\":\"https\""));
    assert!(connect("unknown.test").await.is_err(), "the certificate of last resort is nobody's");
}

#[tokio::test]
async fn reloads_and_the_end_drop_no_request() {
    let (one, two) = (endpoint("one").await, endpoint("two").await);
    let tables = [one, two].map(|address| {
        Arc::new(Table::build(&snapshot(&[("s", &[address])], &[("", "Prefix", "/", "s")]), "kinstall"))
    });
    let proxy = proxy(&snapshot(&[("s", &[one])], &[("", "Prefix", "/", "s")])).await;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let address = proxy.http;
            tokio::spawn(async move {
                for _ in 0..50 {
                    assert_eq!(send(address, get("h", "/")).await.0, 200);
                }
            })
        })
        .collect();
    for n in 0..40 {
        *proxy.current.write() = tables[n % 2].clone();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    proxy.stop.cancel();
    tokio::time::timeout(PATIENCE, proxy.served).await.unwrap().unwrap();
}

/// An API server that takes its time for every list and keeps watches open.
fn slow_api() -> kube::Client {
    let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let list = json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [] });
        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(list.to_string()))))
    });
    kube::Client::new(service, "default")
}

#[tokio::test]
async fn asking_for_readiness_does_not_disturb_the_first_sync() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let ((_http, http), (_https, https), (_health, health)) = (refused(), refused(), refused());
    let args = Args {
        http,
        https,
        health,
        ingress_class: "kinstall".into(),
        node_ip: None,
        ready_file: None,
        is_ready: false,
    };
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(slow_api(), args, stop.clone()));
    let asked = async {
        loop {
            if TcpStream::connect(health).await.is_ok() && send(health, get("h", "/ready")).await.0 == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it becomes ready");
    let answered = tokio::time::timeout(PATIENCE, send(http, get("h", "/"))).await;
    assert_eq!(answered.expect("it serves").0, 404);
    stop.cancel();
    served.await.unwrap().unwrap();
}

/// Kept connections are told when they end; one that was just made has a request on its way.
#[tokio::test]
async fn who_has_just_connected_is_answered_although_the_end_was_asked_for() {
    // less than who has just connected is given
    const SECOND: Duration = Duration::from_secs(1);
    // a pause makes one round too slow to tell anything, what is wrong makes all of them so
    for _ in 0..5 {
        let proxy = proxy(&Snapshot::default()).await;
        let early = TcpStream::connect(proxy.http).await.unwrap();
        // accepted in turn: whoever asks after it has been answered after it was accepted
        assert_eq!(send(proxy.http, get("h", "/")).await.0, 404);
        let stopped = Instant::now();
        proxy.stop.cancel();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(early)).await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(get("h", "/")).await;
        if stopped.elapsed() > SECOND {
            continue;
        }
        assert_eq!(answer.unwrap().status(), 404);
        tokio::time::timeout(PATIENCE, proxy.served).await.expect("it ends").unwrap();
        if stopped.elapsed() < SECOND {
            return;
        }
    }
    panic!("nobody was answered and gone within a second");
}

/// In a network of its own, whose kernel parameters are those of our hosts.
#[test]
fn an_instance_takes_over_and_no_connection_is_refused() {
    let tested = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        std::fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(takes_over());
    });
    tested.join().unwrap();
}

/// An instance takes another one's place on the same ports while a client connects all the time.
async fn takes_over() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let ((_http, http), (_https, https), (_health, health)) = (refused(), refused(), refused());
    let directory = std::env::temp_dir().join(format!("kinstall-ingress-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let begin = |number: usize| {
        let file = directory.join(number.to_string());
        let ready_file = Some(file.clone());
        let args =
            Args { http, https, health, ingress_class: "kinstall".into(), node_ip: None, ready_file, is_ready: false };
        let stop = CancellationToken::new();
        (tokio::spawn(serve(slow_api(), args, stop.clone())), stop, file)
    };
    let ready = async |file: &std::path::Path| {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (mut served, mut stop, file) = begin(0);
    tokio::time::timeout(PATIENCE, ready(&file)).await.expect("the first one serves");
    let end = CancellationToken::new();
    let ended = end.clone();
    let client = tokio::spawn(async move {
        let mut answers = 0;
        while !ended.is_cancelled() {
            assert_eq!(send(http, get("h", "/")).await.0, 404);
            assert_eq!(send(health, get("h", "/ready")).await.0, 200);
            answers += 1;
        }
        answers
    });
    for number in 1..4 {
        let (next, next_stop, file) = begin(number);
        tokio::time::timeout(PATIENCE, ready(&file)).await.expect("the next one serves");
        stop.cancel();
        served.await.unwrap().unwrap();
        (served, stop) = (next, next_stop);
    }
    end.cancel();
    assert!(client.await.unwrap() > 10);
    stop.cancel();
    served.await.unwrap().unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}
