//! A server that falls silent without closing anything, as a machine does whose power is cut.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::Patience;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Node;
use kube::api::WatchParams;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Client, cable and server share a process: that it stands still for ten seconds is no silence.
const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(12), ping: Duration::from_millis(300), answer: Duration::from_secs(12) };
/// When a wait is given up.
const LIMIT: Duration = Duration::from_secs(60);

/// Serves one watch event for each request, then leaves the stream open. Returns its address and its authority.
async fn server() -> (SocketAddr, String) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let ca = certs::Ca::generate("test").unwrap();
    let leaf = certs::Leaf::new(certs::Subject::new("test", &[]), certs::Usage::Server).names(["127.0.0.1"]);
    let leaf = ca.issue(&leaf).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = hyper::service::service_fn(|_| async {
                    let event = serde_json::json!({"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "resourceVersion": "1"}}});
                    let first =
                        futures::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n"))))]);
                    Ok::<_, Infallible>(http::Response::new(BodyExt::boxed(StreamBody::new(
                        first.chain(futures::stream::pending()),
                    ))))
                });
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answer)
                    .await
                    .ok();
            });
        }
    });
    (address, ca.cert_pem().to_string())
}

/// Passes bytes on while the switch is on; then takes connections and passes nothing, and closes nothing.
async fn cable(to: SocketAddr, mut on: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut near, _)) = listener.accept().await {
            if !*on.borrow_and_update() {
                kept.push(near);
                continue;
            }
            let mut on = on.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let cut = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
                    _ = on.wait_for(|on| !on) => true,
                };
                if cut {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    address
}

/// Nodes, through a connection of their own.
fn nodes(address: SocketAddr, ca_pem: &str, patience: Patience) -> kube::Api<Node> {
    let mut config = kube::Config::new(format!("https://{address}").parse().unwrap());
    config.root_cert = Some(vec![CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap().to_vec()]);
    kube::Api::all(client::connect_with(config, patience).unwrap())
}

#[tokio::test]
async fn a_watch_on_which_nothing_happens_stays_while_the_server_answers_pings() {
    let (server, ca) = server().await;
    let nodes = nodes(server, &ca, PATIENCE);
    let mut events = nodes.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(events.next().await.unwrap().is_ok());
    // without an answer to the first ping it would have ended by then
    let time = PATIENCE.ping + PATIENCE.answer + Duration::from_secs(1);
    assert!(tokio::time::timeout(time, events.next()).await.is_err(), "ended without a reason");
}

#[tokio::test]
async fn a_watch_ends_soon_after_the_server_fell_silent() {
    let (server, ca) = server().await;
    let (switch, on) = watch::channel(true);
    let address = cable(server, on).await;
    let connected = nodes(address, &ca, PATIENCE);
    let mut events = connected.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(events.next().await.unwrap().is_ok());

    switch.send(false).unwrap();
    let next = tokio::time::timeout(LIMIT, events.next()).await.expect("the watch hangs");
    assert!(!matches!(next, Some(Ok(_))), "{next:?}");

    // A server that accepts and never reads keeps nobody waiting either. Who asks here never gets an answer: none can be late.
    let stranger = nodes(address, &ca, Patience { connect: Duration::from_millis(500), ..PATIENCE });
    let listed = tokio::time::timeout(LIMIT, stranger.list_metadata(&Default::default())).await;
    assert!(listed.expect("the request hangs").is_err());

    switch.send(true).unwrap();
    let mut events = connected.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(events.next().await.unwrap().is_ok(), "a new connection when the server is back");
}

/// Kubernetes exchanges a pod's token in its file about every hour; kube reads the file again when a minute has passed, so
/// this shows that the file is what is sent, and by whom: not how soon.
#[tokio::test]
async fn the_token_is_the_files() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let told = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = vec![0; 2048];
        let n = tokio::io::AsyncReadExt::read(&mut stream, &mut text).await.unwrap();
        String::from_utf8_lossy(&text[..n]).to_ascii_lowercase()
    });
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "from-the-file").unwrap();
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.auth_info.token_file = Some(token.path().display().to_string());
    let client = client::connect_with(config, PATIENCE).unwrap();
    kube::Api::<Node>::all(client).get("n1").await.unwrap_err();
    assert!(told.await.unwrap().contains("authorization: bearer from-the-file"));
}
