//! Listening: TLS, connections, the graceful end. Also the in-process way in.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use store::EmbeddedStore;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::{
    authn::x509::Peer,
    bootstrap,
    config::Config,
    connection::Connection,
    core::Core,
    crd, files,
    http::{ResponseBody, body::BoxError},
    identity::Identity,
    pipeline, tls,
};

/// How long a client may take over its part.
#[derive(Clone, Copy)]
struct Patience {
    handshake: Duration,
    /// Of each request, and until the first.
    headers: Duration,
}

const PATIENCE: Patience = Patience { handshake: Duration::from_secs(10), headers: Duration::from_secs(30) };
/// How long connections may take to end after the listener closed.
const DRAIN: Duration = Duration::from_secs(5);
/// Streams a client may open and reset before anything is done for them, and so for nothing.
const RESET_STREAMS: usize = 100;

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
        Self::start_with(config, PATIENCE).await
    }

    async fn start_with(config: Config, patience: Patience) -> anyhow::Result<ApiServer> {
        let store = EmbeddedStore::open(&config.data_dir)
            .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))?;
        let (tls, serving) = tls::server_config(&config)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = listen(SocketAddr::new(config.bind_address, config.secure_port)).await?;
        let address = listener.local_addr()?;
        let interval = Duration::from_secs(config.compaction_interval_seconds);
        let event_ttl = Duration::from_secs(config.event_ttl_seconds);
        let core = Core::open(config, store.clone()).await?;
        crd::start(&core);
        bootstrap::run(&core, address.port()).await.context("cannot make the objects every cluster has")?;
        store::spawn_compactor(&store, interval);
        reload_when_changed(&core, serving);
        let connections = TaskTracker::new();
        connections.spawn(crate::expiry::run(core.store.clone(), event_ttl, core.stopping.clone()));
        connections.spawn(accept(core.clone(), listener, acceptor, connections.clone(), patience));
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
        Handler { core: self.core.clone(), identity: Some(Arc::new(identity)) }
    }

    /// Ends watches, lets the requests under way finish, closes the store.
    pub async fn shutdown(self) {
        self.core.stopping.cancel();
        self.connections.close();
        if tokio::time::timeout(DRAIN, self.connections.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time and were dropped");
        }
        if let Some(audit) = self.core.audit.clone() {
            // its last events are written in a thread; waiting for that must not hold up others
            let _ = tokio::task::spawn_blocking(move || audit.close()).await;
        }
        self.store.close();
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Certificates and authorities are read again when their files change.
fn reload_when_changed(core: &Arc<Core>, serving: Arc<tls::Serving>) {
    let config = &core.config;
    let mut judges = vec![core.authn.client_authorities.clone()];
    judges.extend(core.authn.front_proxy.as_ref().map(|proxy| proxy.authorities.clone()));
    let mut paths = vec![config.tls_cert_file.clone(), config.tls_private_key_file.clone()];
    paths.extend(judges.iter().map(|judge| judge.file().to_owned()));
    let watching = files::watch(paths, core.stopping.clone(), move || {
        serving.reload();
        judges.iter().for_each(|judge| judge.reload());
    });
    if let Err(error) = watching {
        tracing::warn!(error = format!("{error:#}"), "changed certificates need a restart");
    }
}

async fn accept(
    core: Arc<Core>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: TaskTracker,
    patience: Patience,
) {
    let places = Arc::new(Semaphore::new(core.config.limits.max_connections));
    loop {
        let place = tokio::select! {
            () = core.stopping.cancelled() => return,
            place = places.clone().acquire_owned() => place,
        };
        let (stream, address) = tokio::select! {
            () = core.stopping.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // out of file descriptors: others must end first
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let serving = connection(core.clone(), stream, address, acceptor.clone(), patience);
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
}

async fn connection(
    core: Arc<Core>,
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    patience: Patience,
) {
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(patience.handshake, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let session = tls.get_ref().1;
    let peer = session.peer_certificates().and_then(|chain| {
        let proxy = core.authn.front_proxy.as_ref().map(|proxy| proxy.authorities.accepts(chain));
        Peer::judge(chain, core.authn.client_authorities.accepts(chain), proxy)
    });
    let about = Arc::new(Connection { address: Some(address.ip()), peer });
    let http2 = session.alpn_protocol() == Some(b"h2");
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let (core, asked) = (core.clone(), asked.clone());
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let (core, about) = (core.clone(), about.clone());
            async move {
                let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
                Ok::<_, Infallible>(pipeline::serve(core, Some(about), request).await)
            }
        })
    };
    // the protocol is what TLS agreed on: telling it from the first bytes would wait for them without a limit
    let io = TokioIo::new(tls);
    let limits = &core.config.limits;
    let ended = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_max_streams_per_connection)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .keep_alive_interval(Duration::from_secs(30));
        let serving = builder.serve_connection(io, service);
        run(&core, serving, |it| it.graceful_shutdown(), patience.headers, &asked).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(patience.headers)
            .max_buf_size(limits.max_header_bytes.max(8192));
        let serving = builder.serve_connection(io, service).with_upgrades();
        run(&core, serving, |it| it.graceful_shutdown(), patience.headers, &asked).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Drives a connection to its end, which comes early for a client that asks for nothing.
async fn run<C: Future<Output = hyper::Result<()>>>(
    core: &Core,
    serving: C,
    stop: impl FnOnce(Pin<&mut C>),
    first_request: Duration,
    asked: &AtomicBool,
) -> hyper::Result<()> {
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = core.stopping.cancelled() => {
            stop(serving.as_mut());
            return serving.await;
        }
        () = tokio::time::sleep(first_request) => {}
    }
    if !asked.load(Ordering::Relaxed) {
        tracing::debug!("a client connected and asked for nothing");
        return Ok(());
    }
    tokio::select! {
        ended = serving.as_mut() => ended,
        () = core.stopping.cancelled() => {
            stop(serving.as_mut());
            serving.await
        }
    }
}

/// The API server as a `tower::Service`, without sockets.
#[derive(Clone)]
pub struct Handler {
    core: Arc<Core>,
    identity: Option<Arc<Identity>>,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn clients_that_send_nothing_are_dropped() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        crate::testing::prepare(dir.path()).unwrap();
        let patience = Patience { headers: Duration::from_millis(200), ..PATIENCE };
        let server = ApiServer::start_with(Config::in_dir(dir.path(), 0), patience).await.unwrap();
        for protocol in ["", "http/1.1", "h2"] {
            let mut roots = rustls::RootCertStore::empty();
            tls::certificates(&dir.path().join("ca.crt")).unwrap().into_iter().for_each(|it| roots.add(it).unwrap());
            let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            tls.alpn_protocols = Some(protocol.as_bytes().to_vec()).filter(|it| !it.is_empty()).into_iter().collect();
            let stream = TcpStream::connect(server.address()).await.unwrap();
            let name = "localhost".try_into().unwrap();
            let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
            let end = async {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            };
            let ended = tokio::time::timeout(Duration::from_secs(5), end).await;
            assert!(ended.is_ok(), "{protocol:?}: still connected");
        }
        server.shutdown().await;
    }
}
