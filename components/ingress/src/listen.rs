//! Listeners and connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::forward::{Client, Forwarder};
use crate::{Args, Current, tls};

/// How long requests in flight may take after the end was asked for.
const DRAIN: Duration = Duration::from_secs(20);
/// A client that does not finish its handshake or its headers gives up its place.
const PATIENCE: Duration = Duration::from_secs(15);
/// Whoever has just connected did so for a request. Who is sent away before has nobody to ask again: it looks like an error.
const FIRST_REQUEST: Duration = Duration::from_secs(2);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

pub struct Listeners {
    http: TcpListener,
    https: TcpListener,
}

pub fn bind(args: &Args) -> Result<Listeners> {
    Ok(Listeners { http: listen(args.http)?, https: listen(args.https)? })
}

/// Another instance of ours may listen there too (SO_REUSEPORT); where `net.ipv4.tcp_migrate_req` is on, which hosts of ours see to,
/// the kernel gives what one has not accepted when it ends to the other.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().with_context(|| format!("cannot listen on {address}"))
}

/// Serves both ports until `stop`, then waits for what is in flight.
pub async fn serve(listeners: Listeners, current: Current, stop: CancellationToken) {
    let tls = match tls::server_config(current.clone()) {
        Ok(config) => TlsAcceptor::from(config),
        Err(error) => return tracing::error!("cannot prepare TLS: {error:#}"),
    };
    let client = Client::new();
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Ok((stream, peer)) = listeners.http.accept() => {
                let forwarder = Forwarder::new(client.clone(), current.clone(), peer, "http");
                prepare(&stream);
                connections.spawn(connection(stream, forwarder, stop.clone()));
            }
            Ok((stream, peer)) = listeners.https.accept() => {
                let forwarder = Forwarder::new(client.clone(), current.clone(), peer, "https");
                let (stop, tls) = (stop.clone(), tls.clone());
                prepare(&stream);
                connections.spawn(async move {
                    match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, forwarder, stop).await,
                        Ok(Err(error)) => tracing::debug!(%peer, "TLS handshake failed: {error}"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                    }
                });
            }
        }
    }
    drop(listeners);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("some requests did not finish within {DRAIN:?}");
    }
}

fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    forwarder: Forwarder,
    stop: CancellationToken,
) {
    let forwarder = Arc::new(forwarder);
    let asked = CancellationToken::new();
    let is_asked = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        asked.cancel();
        let forwarder = forwarder.clone();
        async move { Ok::<_, Infallible>(forwarder.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new());
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ending = async {
        stop.cancelled().await;
        let _ = tokio::time::timeout(FIRST_REQUEST, is_asked.cancelled()).await;
    };
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = ending => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("connection ended: {error}");
    }
}

/// Answers `/healthz` and `/ready` while this instance serves; when its end is asked for, one that takes over answers alone.
pub fn health(args: &Args, stop: CancellationToken) -> Result<JoinHandle<()>> {
    let listener = listen(args.health)?;
    Ok(tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                Ok((stream, _)) = listener.accept() => stream,
            };
            let service = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }))
}
