//! One connection to an API server, HTTP/1.1 or h2, one request at a time: so that "64 connections" means just that.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use conformance::kubeconfig::Kubeconfig;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How to connect; cheap to clone.
#[derive(Clone)]
pub struct Target {
    tls: TlsConnector,
    host: String,
    address: String,
    authority: String,
    token: Option<String>,
    http2: bool,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

pub struct Connection {
    sender: Sender,
    target: Target,
}

impl Target {
    pub fn new(config: &Kubeconfig, http2: bool) -> Result<Self> {
        let uri: Uri = config.server.parse().context("the server's address")?;
        let authority = uri.authority().context("the server's address has no host")?.to_string();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let mut roots = rustls::RootCertStore::empty();
        let ca = config.ca.as_deref().context("the kubeconfig names no authority")?;
        for certificate in CertificateDer::pem_slice_iter(ca) {
            roots.add(certificate?)?;
        }
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let mut tls = match &config.identity {
            Some(pem) => {
                let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pem)?)?
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(Target {
            tls: TlsConnector::from(Arc::new(tls)),
            address: format!("{}:{port}", uri.host().unwrap_or_default()),
            host,
            authority,
            token: config.token.clone(),
            http2,
        })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address).await.with_context(|| self.address.clone())?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let stream = TokioIo::new(self.tls.connect(name, stream).await?);
        // the connection's own task ends with the connection; requests on it then fail by themselves
        let sender = if self.http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Sender::One(sender)
        };
        Ok(Connection { sender, target: self.clone() })
    }
}

impl Connection {
    pub async fn send(&mut self, method: &str, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .header("user-agent", "bench");
        if let Some(token) = &self.target.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let authority = &self.target.authority;
        let response = match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await?;
                sender.send_request(request.uri(path).header("host", authority).body(Full::new(body))?).await?
            }
            Sender::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request.uri(format!("https://{authority}{path}")).body(Full::new(body))?).await?
            }
        };
        if !response.status().is_success() {
            let status = response.status();
            let text = response.into_body().collect().await?.to_bytes();
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&text[..text.len().min(500)]));
        }
        Ok(response)
    }

    /// Sends and reads all of the answer; its size in bytes.
    pub async fn call(&mut self, method: &str, path: &str, body: Bytes) -> Result<usize> {
        let mut body = self.send(method, path, body).await?.into_body();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame?.data_ref().map_or(0, Bytes::len);
        }
        ensure!(size > 0, "{method} {path}: an empty answer");
        Ok(size)
    }
}
