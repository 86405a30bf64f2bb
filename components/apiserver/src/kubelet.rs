//! The way to kubelets: HTTPS with the API server's client certificate, one connection for each request, upgrades as bytes.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    config::Config,
    http::{Request, RequestBody, Response, ResponseBody},
};

const CONNECT: Duration = Duration::from_secs(10);
/// What belongs to one hop, and who the client was, stays here.
const NOT_FORWARDED: &[HeaderName] = &[header::AUTHORIZATION, header::HOST, header::TRANSFER_ENCODING, header::COOKIE];

pub struct KubeletClient {
    connector: TlsConnector,
}

impl KubeletClient {
    /// `None` when the configuration names no client certificate.
    pub fn from_config(config: &Config) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key), Some(ca)) =
            (&config.kubelet_client_certificate, &config.kubelet_client_key, &config.kubelet_ca_file)
        else {
            return Ok(None);
        };
        let mut roots = rustls::RootCertStore::empty();
        for authority in certificates(ca)? {
            roots.add(authority).with_context(|| format!("{} holds no usable authority", ca.display()))?;
        }
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|e| anyhow::anyhow!("cannot read {}: {e}", key.display()))?;
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(certificate)?, private)
            .context("the kubelet client certificate and key do not fit")?;
        Ok(Some(KubeletClient { connector: TlsConnector::from(Arc::new(tls)) }))
    }

    /// Sends `request` to `path_and_query` on the kubelet and gives its answer, streaming; an upgrade becomes a tunnel.
    pub async fn forward(
        &self,
        address: IpAddr,
        port: u16,
        path_and_query: &str,
        mut request: Request,
    ) -> Result<Response, ApiError> {
        let authority = format!("{address}:{port}");
        let failed = |error: anyhow::Error| {
            ApiError::new(
                500,
                "InternalError",
                format!("Internal error occurred: error dialing backend: {error:#} (kubelet {authority})"),
            )
        };
        let mut sender = self.connect(address, port).await.map_err(failed)?;
        let client_side = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let outgoing = rewrite(request, &authority, path_and_query)?;
        let mut answer = sender.send_request(outgoing).await.context("the request was not answered").map_err(failed)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let kubelet_side = hyper::upgrade::on(&mut answer);
            if let Some(client_side) = client_side {
                tokio::spawn(tunnel(client_side, kubelet_side));
            }
            let (parts, _) = answer.into_parts();
            return Ok(Response::from_parts(parts, ResponseBody::empty()));
        }
        let (mut parts, body) = answer.into_parts();
        drop_hop_headers(&mut parts.headers);
        let stream = body.into_data_stream().map(|piece| piece.map_err(Into::into));
        Ok(Response::from_parts(parts, ResponseBody::Stream(stream.boxed())))
    }

    async fn connect(
        &self,
        address: IpAddr,
        port: u16,
    ) -> anyhow::Result<hyper::client::conn::http1::SendRequest<RequestBody>> {
        let connecting = async {
            let tcp = TcpStream::connect((address, port)).await.context("cannot connect")?;
            tcp.set_nodelay(true)?;
            let tls =
                self.connector.connect(ServerName::from(address), tcp).await.context("the TLS handshake failed")?;
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.context("the HTTP handshake failed")
        };
        let (sender, connection) =
            tokio::time::timeout(CONNECT, connecting).await.context("no connection within 10 s")??;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a kubelet ended");
            }
        });
        Ok(sender)
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|e| anyhow::anyhow!("cannot read certificates from {}: {e}", path.display()))
}

fn rewrite(request: Request, authority: &str, path_and_query: &str) -> Result<Request, ApiError> {
    let (mut parts, body) = request.into_parts();
    for name in NOT_FORWARDED {
        parts.headers.remove(name);
    }
    let foreign: Vec<HeaderName> = parts
        .headers
        .keys()
        .filter(|n| n.as_str().starts_with("impersonate-") || n.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in foreign {
        parts.headers.remove(name);
    }
    let mut outgoing =
        http::Request::builder().method(parts.method).uri(path_and_query).header(header::HOST, authority);
    if let Some(headers) = outgoing.headers_mut() {
        headers.extend(parts.headers);
    }
    outgoing.body(body).map_err(ApiError::internal)
}

fn drop_hop_headers(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
}

async fn tunnel(client: hyper::upgrade::OnUpgrade, kubelet: hyper::upgrade::OnUpgrade) {
    let (client, kubelet) = match tokio::try_join!(client, kubelet) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "an upgrade did not happen"),
    };
    if let Err(error) = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(kubelet)).await {
        tracing::debug!(%error, "a tunnel to a kubelet ended");
    }
}
