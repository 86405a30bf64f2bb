//! Start, the graceful end, and the in-process way in.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::BodyExt;
use store::Store;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::{
    aggregation, bootstrap, cluster_ips,
    config::Config,
    core::Core,
    crd,
    http::{ResponseBody, body::BoxError},
    identity::Identity,
    pipeline, serving, storage, tls,
};

/// How long connections may take to end after the listener closed, when nothing is worked on for them.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the last answer may take to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// A running API server.
pub struct ApiServer {
    core: Arc<Core>,
    /// What this server opened itself, and closes.
    opened: Option<Arc<dyn Store>>,
    address: SocketAddr,
    connections: TaskTracker,
    /// Ends when this server is no longer among those that others are sent to.
    present: JoinHandle<()>,
}

impl ApiServer {
    /// Opens the store that the configuration names and starts on it; `shutdown` closes it.
    pub async fn start(config: Config) -> anyhow::Result<ApiServer> {
        let store = storage::open(&config).await?;
        let server = Self::start_on(store.clone(), config).await?;
        Ok(ApiServer { opened: Some(store), ..server })
    }

    /// Makes what must always exist, and listens. The store may be that of other servers, too; it stays open at the end.
    /// A default rustls provider must be installed.
    pub async fn start_on(store: Arc<dyn Store>, config: Config) -> anyhow::Result<ApiServer> {
        let (tls, serving) = tls::server_config(&config)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = listen(SocketAddr::new(config.bind_address, config.secure_port)).await?;
        let address = listener.local_addr()?;
        let interval = Duration::from_secs(config.compaction_interval_seconds);
        let event_ttl = Duration::from_secs(config.event_ttl_seconds);
        let core = Core::open(config, store.clone()).await?;
        crd::start(&core);
        aggregation::start(&core);
        let presence =
            bootstrap::run(&core, address.port()).await.context("cannot make the objects every cluster has")?;
        cluster_ips::start(&core);
        // not before: what bootstrap makes says by itself that it is available
        tokio::spawn(aggregation::registration::run(core.clone()));
        store::spawn_compactor(&store, interval);
        reload_when_changed(&core, serving);
        let present = tokio::spawn(presence.keep(core.clone()));
        let connections = TaskTracker::new();
        connections.spawn(crate::expiry::run(core.store.clone(), event_ttl, core.stopping.clone()));
        connections.spawn(serving::accept(core.clone(), listener, acceptor, connections.clone()));
        tracing::info!(%address, "the API server listens");
        Ok(ApiServer { core, opened: None, address, connections, present })
    }

    /// What tells this server from the others of its cluster.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// For backups, which read all of it as it is stored.
    pub fn store(&self) -> Arc<dyn Store> {
        self.core.store.clone()
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

    /// Says that it is not ready any more, leaves the endpoints to the others, goes on for the configured delay, ends watches, lets the requests under way finish as
    /// long as the configuration allows, closes the store if it opened it.
    pub async fn shutdown(self) {
        let limits = &self.core.config.limits;
        self.core.leaving.cancel();
        // bounded by itself; a panic of it has been printed
        let _ = self.present.await;
        tokio::time::sleep(Duration::from_secs(limits.shutdown_delay_seconds)).await;
        self.core.stopping.cancel();
        self.connections.close();
        self.core.requests.close();
        let ended = async {
            if tokio::time::timeout(DRAIN, self.connections.wait()).await.is_err() {
                self.core.requests.wait().await;
                let _ = tokio::time::timeout(FLUSH, self.connections.wait()).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(limits.shutdown_wait_seconds), ended).await;
        if !self.connections.is_empty() {
            tracing::warn!("some connections did not end in time and were dropped");
        }
        if let Some(audit) = self.core.audit.clone() {
            // its last events are written in a thread; waiting for that must not hold up others
            let _ = tokio::task::spawn_blocking(move || audit.close()).await;
        }
        if let Some(store) = self.opened {
            store.close();
        }
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Certificates and authorities are read again when their files change.
fn reload_when_changed(core: &Arc<Core>, serving: Arc<tls::KeyPair>) {
    let mut pairs = vec![serving];
    pairs.extend(core.aggregation.certificate());
    let mut judges = vec![core.authn.client_authorities.clone()];
    judges.extend(core.authn.front_proxy.as_ref().map(|proxy| proxy.authorities.clone()));
    let mut paths: Vec<_> = pairs.iter().flat_map(|pair| pair.files()).collect();
    paths.extend(judges.iter().map(|judge| judge.file().to_owned()));
    let watching = files::watch(paths, core.stopping.clone(), move || {
        pairs.iter().for_each(|pair| pair.reload());
        judges.iter().for_each(|judge| judge.reload());
    });
    if let Err(error) = watching {
        tracing::warn!(error = format!("{error:#}"), "changed certificates need a restart");
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
