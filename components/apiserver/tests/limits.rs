//! What one client may take: bytes, time, connections, streams, places; and how the server ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use apiserver::Identity;
use bytes::Bytes;
use common::{Api, admin};
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::client::TlsStream;
use tower::Service;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A server that is impatient after so many seconds.
async fn hasty(seconds: u64) -> Api {
    Api::start_with(|config, _| {
        config.limits.request_timeout_seconds = seconds;
        config.limits.header_timeout_seconds = seconds;
        config.limits.idle_timeout_seconds = seconds;
    })
    .await
}

/// A connection of the administrator.
async fn connect(api: &Api, protocol: &str) -> TlsStream<TcpStream> {
    let file = |name: &str| api.path().join(name);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.crt")).unwrap()).unwrap();
    let own = vec![CertificateDer::from_pem_file(file("admin.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("admin.key")).unwrap();
    let mut tls =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(own, key).unwrap();
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(api.server().address()).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(tls)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

/// What comes until the server ends the connection.
async fn rest(mut stream: impl AsyncReadExt + Unpin) -> String {
    let mut all = Vec::new();
    let read = async {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            all.extend_from_slice(&piece[..count]);
        }
    };
    tokio::time::timeout(LONG, read).await.expect("the connection is still open");
    String::from_utf8_lossy(&all).into_owned()
}

/// A create whose body never comes to its end, or when it is told to.
async fn slow_create(api: &Api, who: Identity, query: &str, end: oneshot::Receiver<()>) -> (u16, Value) {
    let body = json!({"metadata": {"name": "slow"}}).to_string();
    let pieces = stream::once(async move {
        let _ = end.await;
        Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(body)))
    });
    let request = http::Request::post(format!("{MAPS}{query}"))
        .header("content-type", "application/json")
        .body(StreamBody::new(pieces.boxed()))
        .unwrap();
    let response = api.server().handler_as(who).call(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()))
}

#[tokio::test]
async fn bodies_are_bounded() {
    let api = Api::start().await;
    let url = api.url(MAPS);
    let fits = json!({"metadata": {"name": "fits"}, "data": {"a": "x".repeat(900_000)}});
    let body =
        |bytes: usize| format!("{{\"metadata\":{{\"name\":\"large\"}},\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(bytes));
    for http1 in [true, false] {
        let client = api.wire_with("admin", |builder| if http1 { builder.http1_only() } else { builder });
        let small = client.post(&url).json(&fits).send().await.unwrap();
        assert_eq!(small.status().as_u16(), if http1 { 201 } else { 409 });
        for bytes in [3 * 1024 * 1024, 20 * 1024 * 1024] {
            let answer = client
                .post(&url)
                .header("content-type", "application/json")
                .body(body(bytes))
                .send()
                .await
                .unwrap_or_else(|e| panic!("http1 {http1}, {bytes} bytes: {e:?}"));
            let (status, answer) = (answer.status().as_u16(), answer.json::<Value>().await.unwrap());
            assert_eq!((status, &answer["reason"]), (413, &json!("RequestEntityTooLarge")), "{answer}");
            assert_eq!(answer["message"], "Request entity too large: limit is 3145728");
        }
    }
}

#[tokio::test]
async fn requests_have_a_time_and_clients_may_shorten_it() {
    let (api, patient) = (hasty(1).await, hasty(20).await);
    // at most as long as it would take if the server's limit (60 s by default) or the client's wish did not count
    for (server, query, least, most) in [
        (&api, "", 900, 60_000),
        (&patient, "?timeout=200ms", 150, 20_000),
        (&api, "?timeout=1h", 900, 60_000),
        (&api, "?timeout=-1s", 900, 60_000),
    ] {
        let (_keep, end) = oneshot::channel();
        let begun = Instant::now();
        let (status, answer) = slow_create(server, admin(), query, end).await;
        let took = begun.elapsed().as_millis();
        assert!((least..most).contains(&took), "{query}: {took} ms");
        assert_eq!((status, &answer["reason"]), (504, &json!("Timeout")), "{query}: {answer}");
        assert_eq!(answer["message"], "Timeout: request did not complete within the allotted timeout");
    }
    for (text, why) in [
        ("1", "missing unit in duration \"1\""),
        ("x", "invalid duration \"x\""),
        ("1y", "unknown unit \"y\" in duration \"1y\""),
    ] {
        let (status, answer) = api.call("GET", &format!("{MAPS}?timeout={text}"), Value::Null).await;
        let wanted = format!("invalid timeout specified in the request URL - time: {why}");
        assert_eq!((status, answer["message"].as_str()), (400, Some(wanted.as_str())));
    }
    // a watch lasts as long as it wants to
    let mut watch = api.watch(&format!("{MAPS}?watch=1&timeoutSeconds=300")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // a write has one second as well: after that it is done all the same, or once more
    let begun = Instant::now();
    loop {
        let (status, answer) = api.call("POST", MAPS, json!({"metadata": {"name": "late"}})).await;
        if [201, 409].contains(&status) {
            break;
        }
        assert!(status == 504 && begun.elapsed() < LONG, "{status} {answer}");
    }
    while watch.next().await.1["metadata"]["name"] != "late" {}
}

#[tokio::test]
async fn clients_that_dawdle_are_cut() {
    // longer than this process may stand still between a connection and its request; a watch lasts longer
    const PATIENCE: u64 = 12;
    const WATCH: u64 = 16;
    let api = hasty(PATIENCE).await;
    let get = format!("GET {MAPS}?limit=1 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let half = "GET /version HTTP/1.1\r\nhost: localhost\r\nx-slow:";
    let post = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let mut all = Vec::new();
    for (protocol, text, wanted) in [
        ("http/1.1", "", ""),
        ("h2", "", ""),
        ("http/1.1", half, ""),
        // the answer, and then the connection is idle
        ("http/1.1", &get, "HTTP/1.1 200 OK"),
        // the rest of the body never comes
        ("http/1.1", &post, "HTTP/1.1 504 Gateway Timeout"),
    ] {
        let mut stream = connect(&api, protocol).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        all.push(async move {
            let answer = rest(stream).await;
            let fits = if wanted.is_empty() { !answer.contains("HTTP/1.1 2") } else { answer.starts_with(wanted) };
            assert!(fits, "{protocol} {text:?}: {answer}");
        });
    }
    // a second head that comes in drops
    let mut dripping = connect(&api, "http/1.1").await;
    dripping.write_all(get.as_bytes()).await.unwrap();
    let drops = async {
        let (reading, mut writing) = tokio::io::split(dripping);
        let drip = async {
            while writing.write_all(b"G").await.is_ok() && writing.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! { answer = rest(reading) => assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}"), () = drip => {} }
    };
    // a quiet watch is no idle connection
    let mut watching = connect(&api, "http/1.1").await;
    let watch =
        format!("GET {MAPS}?watch=1&timeoutSeconds={WATCH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let begun = Instant::now();
    watching.write_all(watch.as_bytes()).await.unwrap();
    let quiet = async {
        rest(watching).await;
        assert!(begun.elapsed() > Duration::from_secs(PATIENCE + 2), "{:?}", begun.elapsed());
    };
    futures::join!(futures::future::join_all(all), drops, quiet);
}

#[tokio::test]
async fn heads_and_streams_are_bounded() {
    let api = Api::start_with(|config, _| config.limits.http2_max_streams_per_connection = 7).await;
    let mut stream = connect(&api, "http/1.1").await;
    let head = format!("GET /version HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(3_000_000));
    // the server may end the connection before it has read all of it
    let _ = stream.write_all(head.as_bytes()).await;
    let answer = rest(stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");

    let mut stream = connect(&api, "h2").await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the first frame of a server is SETTINGS");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([frame[1], frame[2]]))];
    stream.read_exact(&mut settings).await.unwrap();
    let most = settings.chunks(6).find(|s| s[..2] == [0, 3]).map(|s| u32::from_be_bytes([s[2], s[3], s[4], s[5]]));
    assert_eq!(most, Some(7), "{settings:?}");
}

/// The answer's first record, for a ClientHello of some version.
async fn hello(api: &Api, version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    // no session; suites of TLS 1.0 and 1.2; no compression
    body.extend([0, 0, 4, 0xc0, 0x09, 0xc0, 0x2b, 1, 0]);
    // curves, forms of points, signatures
    body.extend([0, 22, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    let mut stream = TcpStream::connect(api.server().address()).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = vec![0; 7];
    tokio::time::timeout(LONG, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn old_tls_is_refused_and_every_sound_suite_offered() {
    let api = Api::start().await;
    for version in [[3, 1], [3, 2]] {
        // an alert, fatal: protocol_version
        let answer = hello(&api, version).await;
        assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "{version:?}");
    }
    assert_eq!(hello(&api, [3, 3]).await[0], 22, "the same of TLS 1.2 is answered");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(api.path().join("ca.crt")).unwrap()).unwrap();
    let mut agreed = Vec::new();
    for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![*suite],
            ..rustls::crypto::aws_lc_rs::default_provider()
        };
        let version = if suite.tls13().is_some() { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(api.server().address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        if connector.connect("localhost".try_into().unwrap(), stream).await.is_ok() {
            agreed.push(format!("{:?}", suite.suite()));
        }
    }
    // our certificate has an elliptic key: suites for RSA keys need one of those
    for wanted in [
        "TLS13_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ] {
        assert!(agreed.iter().any(|it| it == wanted), "{wanted}: {agreed:?}");
    }
}

#[tokio::test]
async fn without_fairness_places_are_counted() {
    let api = Api::start_with(|config, _| {
        config.fairness.enabled = false;
        config.fairness.max_requests_inflight = 2;
        config.fairness.max_mutating_requests_inflight = 1;
    })
    .await;
    let binding = json!({"metadata": {"name": "all"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}]});
    api.create("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", binding).await;
    let joe = || Identity::new("joe", ["system:authenticated"]);
    let (end, ended) = oneshot::channel();
    let mut first = Box::pin(slow_create(&api, joe(), "", ended));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut first).await.is_err());
    let refused = api.send(joe(), "POST", MAPS, "application/json", "{}").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    let text = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "Too many requests, please try again later.\n");
    // reads have places of their own, and administrators need none
    assert_eq!(api.call_as(joe(), "GET", MAPS, Value::Null).await.0, 200);
    assert_eq!(api.call("POST", MAPS, json!({"metadata": {"name": "admins"}})).await.0, 201);
    end.send(()).unwrap();
    assert_eq!(first.await.0, 201);
    assert_eq!(api.call_as(joe(), "POST", MAPS, json!({"metadata": {"name": "next"}})).await.0, 201);
}

/// The handler reads a body that panics: no error a request can bring about is worse.
#[tokio::test]
async fn a_panic_ends_one_request_only() {
    let api = Api::start().await;
    let body = stream::once(async { panic!("a test's body") as Result<Frame<Bytes>, std::convert::Infallible> });
    let request = http::Request::post(MAPS)
        .header("content-type", "application/json")
        .body(StreamBody::new(body.boxed()))
        .unwrap();
    let response = api.server().handler_as(admin()).call(request).await.unwrap();
    assert_eq!(response.status(), 500);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (status["kind"].as_str(), status["message"].as_str()),
        (Some("Status"), Some("This request caused apiserver to panic. Look in the logs for details."))
    );
    api.create(MAPS, json!({"metadata": {"name": "after"}})).await;
}

/// Between its connection and its request: a client that is sent away there cannot know that it may ask again.
#[tokio::test]
async fn who_has_just_connected_is_answered_before_the_end() {
    for protocol in ["http/1.1", "h2"] {
        // The server waits a second for the request. Where this process stood still for so long, another one is asked.
        for left in (0..5).rev() {
            let mut api = Api::start().await;
            let stream = connect(&api, protocol).await;
            let server = api.server.take().unwrap();
            let address = server.address();
            let begun = Instant::now();
            let ending = tokio::spawn(server.shutdown());
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            let request = http::Request::get("https://localhost/livez").header("host", "localhost");
            let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
            let io = TokioIo::new(stream);
            let asking = async {
                let answer = if protocol == "h2" {
                    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
                    tokio::spawn(driver);
                    sender.send_request(request).await
                } else {
                    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await?;
                    tokio::spawn(driver);
                    sender.send_request(request).await
                };
                let answer = answer?;
                let status = answer.status().as_u16();
                Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
            };
            let answer = asking.await;
            let took = begun.elapsed();
            tokio::time::timeout(LONG, ending).await.expect("it ends").unwrap();
            match answer {
                Ok((status, text)) => {
                    assert_eq!((status, &text[..]), (200, &b"ok"[..]), "{protocol}");
                    break;
                }
                Err(error) => assert!(took >= Duration::from_secs(1) && left > 0, "{protocol}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn the_end_is_graceful() {
    // longer than this process may stand still
    const DELAY: Duration = Duration::from_secs(15);
    let mut api = Api::start_with(|config, _| {
        config.limits.shutdown_delay_seconds = DELAY.as_secs();
        config.limits.shutdown_wait_seconds = LONG.as_secs();
    })
    .await;
    let client = api.wire("admin");
    let url = |path: &str| api.url(path);
    let (ready, map, live) = (url("/readyz?verbose"), url(&format!("{MAPS}/slow")), url("/livez"));
    assert_eq!(client.get(&ready).send().await.unwrap().status(), 200);
    let mut watching = connect(&api, "http/1.1").await;
    let watch = format!("GET {MAPS}?watch=1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    watching.write_all(watch.as_bytes()).await.unwrap();
    let body = json!({"metadata": {"name": "slow"}}).to_string();
    let mut slow = connect(&api, "http/1.1").await;
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.flush().await.unwrap();
    assert_eq!(client.get(&map).send().await.unwrap().status(), 404);

    let begun = Instant::now();
    let server = api.server.take().unwrap();
    let ending = tokio::spawn(server.shutdown());
    // it is still there, but tells others to stay away
    let answer = loop {
        let answer = client.get(&ready).send().await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
        assert!(begun.elapsed() < DELAY, "readyz stays 200");
    };
    assert_eq!(answer.status(), 500);
    assert!(answer.text().await.unwrap().contains("[-]shutdown failed: reason withheld"));
    assert_eq!(client.get(&live).send().await.unwrap().status(), 200);
    // watches end when the listener closes
    rest(watching).await;
    assert!(begun.elapsed() >= DELAY && !ending.is_finished());
    assert!(client.get(&live).send().await.is_err());
    // and who had begun gets an answer
    slow.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(slow).await;
    assert!(answer.starts_with("HTTP/1.1 201 Created"), "{answer}");
    tokio::time::timeout(LONG, ending).await.unwrap().unwrap();
}
