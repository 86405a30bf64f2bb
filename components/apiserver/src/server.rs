//! Listening: TLS, connections, the graceful end. Also the in-process way in.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use store::EmbeddedStore;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::{
    authn::x509,
    bootstrap,
    config::Config,
    core::Core,
    http::{ResponseBody, body::BoxError},
    identity::Identity,
    pipeline,
};

const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);
/// How long connections may take to end after the listener closed.
const DRAIN: Duration = Duration::from_secs(5);
/// HTTP/2 clients hold many watches on one connection.
const STREAMS: u32 = 1000;

/// A running API server.
pub struct ApiServer {
    core: Arc<Core>,
    store: Arc<EmbeddedStore>,
    address: SocketAddr,
    connections: TaskTracker,
}

impl ApiServer {
    /// Opens the store, makes what must always exist, and listens. A default rustls provider must be installed.
    pub async fn start(config: Config) -> anyhow::Result<ApiServer> {
        let store = EmbeddedStore::open(&config.data_dir)
            .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))?;
        let acceptor = acceptor(&config)?;
        let listener = listen(SocketAddr::new(config.bind_address, config.secure_port)).await?;
        let address = listener.local_addr()?;
        let interval = Duration::from_secs(config.compaction_interval_seconds);
        let core = Core::open(config, store.clone()).await?;
        bootstrap::run(&core, address.port()).await.context("cannot make the objects every cluster has")?;
        store::spawn_compactor(&store, interval);
        let connections = TaskTracker::new();
        connections.spawn(accept(core.clone(), listener, acceptor, connections.clone()));
        tracing::info!(%address, "the API server listens");
        Ok(ApiServer { core, store, address, connections })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A service for callers in this process. They say who they are by an [`Identity`] in the request's extensions; a request
    /// without one is treated like any from outside.
    pub fn handler(&self) -> Handler {
        Handler { core: self.core.clone(), identity: None }
    }

    /// As [`ApiServer::handler`], for one fixed identity: what `kube::Client::new` wants.
    pub fn handler_as(&self, identity: Identity) -> Handler {
        Handler { core: self.core.clone(), identity: Some(identity) }
    }

    /// Ends watches, lets the requests under way finish, closes the store.
    pub async fn shutdown(self) {
        self.core.stopping.cancel();
        self.connections.close();
        if tokio::time::timeout(DRAIN, self.connections.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time and were dropped");
        }
        self.store.close();
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn acceptor(config: &Config) -> anyhow::Result<TlsAcceptor> {
    let mut roots = rustls::RootCertStore::empty();
    for authority in certificates(&config.client_ca_file)? {
        roots
            .add(authority)
            .with_context(|| format!("{} holds no usable authority", config.client_ca_file.display()))?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
        .allow_unauthenticated()
        .build()
        .context("cannot verify client certificates")?;
    let key_file = &config.tls_private_key_file;
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|e| anyhow::anyhow!("cannot read {}: {e}", key_file.display()))?;
    let mut tls = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&config.tls_cert_file)?, key)
        .context("the serving certificate and key do not fit")?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

fn certificates(path: &std::path::Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|e| anyhow::anyhow!("cannot read certificates from {}: {e}", path.display()))
}

async fn accept(core: Arc<Core>, listener: TcpListener, acceptor: TlsAcceptor, connections: TaskTracker) {
    loop {
        let stream = tokio::select! {
            () = core.stopping.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // out of file descriptors: others must end first
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        connections.spawn(connection(core.clone(), stream, acceptor.clone()));
    }
}

async fn connection(core: Arc<Core>, stream: TcpStream, acceptor: TlsAcceptor) {
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let peer = tls.get_ref().1.peer_certificates().and_then(|c| x509::identity(c.first()?)).map(Arc::new);
    let service = {
        let core = core.clone();
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (core, peer) = (core.clone(), peer.clone());
            async move {
                let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
                Ok::<_, Infallible>(pipeline::serve(core, peer, request).await)
            }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Duration::from_secs(30));
    let mut serving = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(tls), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = core.stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The API server as a `tower::Service`, without sockets.
#[derive(Clone)]
pub struct Handler {
    core: Arc<Core>,
    identity: Option<Identity>,
}

impl<B> tower::Service<http::Request<B>> for Handler
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let core = self.core.clone();
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if let Some(identity) = &self.identity {
            request.extensions_mut().insert(identity.clone());
        }
        Box::pin(async move { Ok(pipeline::serve(core, None, request).await) })
    }
}
