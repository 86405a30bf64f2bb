//! The probe's HTTP server.

use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};

use anyhow::Context;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

pub async fn serve(port: u16, name: String) -> anyhow::Result<()> {
    let listener = listen(port).await.with_context(|| format!("cannot listen on port {port}"))?;
    let mut end = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = end.recv() => return Ok(()),
            accepted = listener.accept() => {
                let (stream, client) = accepted?;
                tokio::spawn(answer(stream, client, name.clone()));
            }
        }
    }
}

/// On both families where the pod has IPv6, else on IPv4.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
}

async fn answer(stream: TcpStream, client: SocketAddr, name: String) {
    let service = service_fn(move |_: Request<hyper::body::Incoming>| {
        let body = serde_json::json!({ "name": name, "client": client.ip().to_canonical().to_string() }).to_string();
        async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body + "\n")))) }
    });
    if let Err(error) = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    {
        tracing::debug!(%client, "connection ended: {error}");
    }
}
