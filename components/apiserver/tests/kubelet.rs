//! Logs and exec through the API server to a kubelet, here one that only echoes, over real TLS on both sides.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{net::SocketAddr, sync::Arc};

use certs::{Ca, Leaf, Subject, Usage};
use common::Api;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers `/containerLogs` with its path and `/exec` with an upgrade that echoes; refuses clients without certificate.
async fn kubelet(api: &Api) -> SocketAddr {
    let read = |name: &str| std::fs::read_to_string(api.path().join(name)).unwrap();
    let ca = Ca::from_pem(&read("ca.crt"), &read("ca.key")).unwrap();
    let issued = ca
        .issue(&Leaf::new(Subject::new("system:node:n1", &["system:nodes"]), Usage::Server).names(["127.0.0.1"]))
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(read("ca.crt").as_bytes()).unwrap()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let tls = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                let path = head.split(' ').nth(1).unwrap().to_owned();
                if !head.to_ascii_lowercase().contains("upgrade: spdy/3.1") {
                    let body = format!("log of {path}\n");
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    return stream.write_all(answer.as_bytes()).await.unwrap();
                }
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\nx-path: {path}\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    address
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn with_pod() -> Api {
    let api = Api::start().await;
    let address = kubelet(&api).await;
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    api.create("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}}});
    assert_eq!(api.call("PATCH", "/api/v1/nodes/n1/status", status).await.0, 200);
    let spec = json!({"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]});
    api.create("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "p"}, "spec": spec})).await;
    api
}

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    let api = with_pod().await;
    let (status, text) =
        api.call("GET", "/api/v1/namespaces/default/pods/p/log?tailLines=5&container=c", Value::Null).await;
    assert_eq!((status, text), (200, "log of /containerLogs/default/p/c?tailLines=5\n".into()));
    assert!(api.kubectl_ok(&["logs", "p"], "").await.starts_with("log of /containerLogs/default/p/c"));
    let (status, error) = api.call("GET", "/api/v1/namespaces/default/pods/p/log?container=nope", Value::Null).await;
    assert_eq!((status, error["message"].as_str()), (400, Some("container nope is not valid for pod p")));
}

#[tokio::test]
async fn exec_becomes_a_tunnel() {
    let api = with_pod().await;
    let read = |name: &str| std::fs::read(api.path().join(name)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.crt")).unwrap()).unwrap();
    let certificate = CertificateDer::from_pem_slice(&read("admin.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("admin.key")).unwrap();
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    let address = api.server().address();
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut stream =
        tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(ServerName::from(address.ip()), tcp).await.unwrap();
    let path = "/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&command=a%20b&stdin=true&stdout=true";
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 101")
            && answer.contains("x-path: /exec/default/p/c?input=1&output=1&command=sh&command=%2Dc&command=a%20b"),
        "{answer}"
    );
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}
