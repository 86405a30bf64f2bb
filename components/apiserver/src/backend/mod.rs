//! Requests that another server answers: kubelets, pods and services behind `/proxy`, extension API servers.
//!
//! One connection for each request; answers stream, upgrades become tunnels of bytes.

pub mod insecure;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::http::{Request, RequestBody, Response, ResponseBody};

const CONNECT: Duration = Duration::from_secs(10);
/// What belongs to one hop, and who the client was, stays here.
const NOT_FORWARDED: &[HeaderName] = &[header::AUTHORIZATION, header::HOST, header::TRANSFER_ENCODING, header::COOKIE];

/// A server to pass requests on to.
pub struct Backend {
    pub address: SocketAddr,
    /// `Host` of requests.
    pub authority: String,
    /// HTTPS, and who must answer.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
    /// What we say ourselves, in place of what the client said.
    pub headers: HeaderMap,
}

impl Backend {
    /// Sends `request` to `path_and_query` and gives the answer, streaming; an upgrade becomes a tunnel.
    pub async fn forward(&self, path_and_query: &str, mut request: Request) -> anyhow::Result<Response> {
        let client_side = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let mut answer = self.send(path_and_query, request).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let backend_side = hyper::upgrade::on(&mut answer);
            if let Some(client_side) = client_side {
                tokio::spawn(tunnel(client_side, backend_side));
            }
            let (parts, _) = answer.into_parts();
            return Ok(Response::from_parts(parts, ResponseBody::empty()));
        }
        Ok(streaming(answer))
    }

    /// Sends `request`, without what belongs to the client's own hop.
    pub async fn send(&self, path_and_query: &str, request: Request) -> anyhow::Result<http::Response<Incoming>> {
        let mut sender = self.connect().await?;
        let mut outgoing = rewrite(request, &self.authority, path_and_query)?;
        outgoing.headers_mut().extend(self.headers.clone());
        sender.send_request(outgoing).await.context("the request was not answered")
    }

    async fn connect(&self) -> anyhow::Result<hyper::client::conn::http1::SendRequest<RequestBody>> {
        let connecting = async {
            let tcp = TcpStream::connect(self.address).await.map_err(|error| refused(self.address, &error))?;
            tcp.set_nodelay(true)?;
            match &self.tls {
                None => handshake(tcp).await,
                Some((connector, name)) => {
                    let tls = connector.connect(name.clone(), tcp).await.context("the TLS handshake failed")?;
                    handshake(tls).await
                }
            }
        };
        tokio::time::timeout(CONNECT, connecting).await.context("no connection within 10 s")?
    }
}

/// As Go's dialer says it.
fn refused(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => anyhow::anyhow!("dial tcp {address}: connect: connection refused"),
        _ => anyhow::anyhow!("dial tcp {address}: {error}"),
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<hyper::client::conn::http1::SendRequest<RequestBody>> {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("the HTTP handshake failed")?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a backend ended");
        }
    });
    Ok(sender)
}

/// The backend's answer as ours, without what belongs to its own hop.
pub fn streaming(answer: http::Response<Incoming>) -> Response {
    let (mut parts, body) = answer.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    parts.version = http::Version::HTTP_11;
    let stream = body.into_data_stream().map(|piece| piece.map_err(Into::into));
    Response::from_parts(parts, ResponseBody::Stream(stream.boxed()))
}

fn rewrite(request: Request, authority: &str, path_and_query: &str) -> anyhow::Result<Request> {
    let (mut parts, body) = request.into_parts();
    strip_identity(&mut parts.headers);
    let mut outgoing =
        http::Request::builder().method(parts.method).uri(path_and_query).header(header::HOST, authority);
    if let Some(headers) = outgoing.headers_mut() {
        headers.extend(parts.headers);
    }
    outgoing.body(body).context("the request cannot be passed on")
}

/// A backend must not learn the client's credentials, nor believe what the client says of itself.
pub(crate) fn strip_identity(headers: &mut HeaderMap) {
    for name in NOT_FORWARDED {
        headers.remove(name);
    }
    let foreign: Vec<HeaderName> = headers
        .keys()
        .filter(|n| n.as_str().starts_with("impersonate-") || n.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in foreign {
        headers.remove(name);
    }
}

pub(crate) async fn tunnel(client: hyper::upgrade::OnUpgrade, backend: hyper::upgrade::OnUpgrade) {
    let (client, backend) = match tokio::try_join!(client, backend) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "an upgrade did not happen"),
    };
    if let Err(error) = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await {
        tracing::debug!(%error, "a tunnel to a backend ended");
    }
}

/// As upstream's `ErrAddressNotAllowed`: what only this host can reach must not be reached through it.
pub fn check_proxyable(address: std::net::IpAddr) -> Result<(), ApiError> {
    let allowed = match address {
        std::net::IpAddr::V4(a) => {
            !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_link_local() || a.is_broadcast())
        }
        std::net::IpAddr::V6(a) => {
            !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_unicast_link_local())
        }
    };
    if allowed { Ok(()) } else { Err(ApiError::bad_request("address not allowed")) }
}
