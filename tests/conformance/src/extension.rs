//! HTTPS servers inside the harness: webhooks, conversion, an extension API server, a kubelet. They listen on the harness's
//! own address, so that no pod is needed to run them.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use certs::{Ca, Leaf, Subject, Usage};
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A request as a handler sees it.
pub struct Incoming {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Incoming {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// One parameter of the query, percent-decoding left out: the values tests look at have none.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

pub struct Outgoing {
    pub status: u16,
    pub kind: &'static str,
    pub body: Bytes,
}

impl Outgoing {
    pub fn json(status: u16, body: &Value) -> Self {
        Outgoing { status, kind: "application/json", body: Bytes::from(body.to_string()) }
    }
    pub fn text(body: impl Into<Bytes>) -> Self {
        Outgoing { status: 200, kind: "text/plain", body: body.into() }
    }
}

pub type Handler = Arc<dyn Fn(Incoming) -> BoxFuture<'static, Outgoing> + Send + Sync>;

/// Makes a handler of an async function.
pub fn handler<F, Fut>(function: F) -> Handler
where
    F: Fn(Incoming) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outgoing> + Send + 'static,
{
    Arc::new(move |incoming| Box::pin(function(incoming)))
}

/// A running server; it ends when dropped.
pub struct Extension {
    pub port: u16,
    /// PEM of the authority that signed its certificate.
    pub ca: String,
    address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Extension {
    /// With a certificate of its own authority for `address` and `names`.
    pub async fn start(address: &str, names: &[String], handler: Handler) -> Result<Self> {
        let ca = Ca::generate("conformance-extension")?;
        let mut all = vec![address.to_owned()];
        all.extend_from_slice(names);
        let leaf = ca.issue(&Leaf::new(Subject::new("conformance-extension", &[]), Usage::Server).names(all))?;
        Self::with_certificate(address, &leaf.cert_pem, &leaf.key_pem, ca.cert_pem(), handler).await
    }

    pub async fn with_certificate(
        address: &str,
        certificate: &str,
        key: &str,
        ca: &str,
        handler: Handler,
    ) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((address, 0)).await.with_context(|| format!("cannot listen on {address}"))?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, acceptor.clone(), handler.clone()));
            }
        });
        Ok(Extension { port, ca: ca.to_owned(), address: address.to_owned(), task })
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.address, self.port)
    }

    /// A `clientConfig` for one path of this server.
    pub fn client_config(&self, path: &str) -> Value {
        json!({"url": self.url(path), "caBundle": self.ca_bundle()})
    }

    pub fn ca_bundle(&self) -> String {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.encode(&self.ca)
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, handler: Handler) {
    // a client that does not believe our certificate goes away: that is its affair
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let handler = handler.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let incoming = Incoming {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                headers: head.headers,
                body,
            };
            let outgoing = handler(incoming).await;
            let response = hyper::Response::builder()
                .status(outgoing.status)
                .header("content-type", outgoing.kind)
                .body(Full::new(outgoing.body));
            Ok::<_, Infallible>(response.unwrap_or_else(|_| hyper::Response::new(Full::new(Bytes::new()))))
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // the end of a connection is no news either
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
