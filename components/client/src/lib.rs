//! How our components on nodes and in pods reach the API server, and how they mirror what they watch.
//!
//! In: a kubeconfig, or what a pod is given. Out: a `kube::Client` that notices when the server's machine is gone without a
//! word (power cut, network split): one HTTP/2 connection carries everything, and an unanswered ping ends it and every watch
//! on it, which are then taken up again. kube's own client speaks HTTP/1 and asks nobody: its watches would hang for minutes.
//! Tokens and authorities that are files are read again as they change (kube's doing). Depends on no other crate of ours.

mod connector;
pub mod kinds;
pub mod mirror;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::retry::RetryLayer;
use tower::{BoxError, Service, ServiceBuilder};

use connector::Connector;

/// Connections to one server.
pub type Http = HyperClient<Connector, Body>;

/// When a connection counts as dead.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// TCP and TLS together.
    pub connect: Duration,
    /// Between two pings.
    pub ping: Duration,
    /// For the answer to a ping.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), ping: Duration::from_secs(15), answer: Duration::from_secs(10) }
    }
}

/// A client with these settings.
pub fn connect(config: kube::Config) -> Result<kube::Client> {
    connect_with(config, Patience::default())
}

/// The same with other limits.
pub fn connect_with(config: kube::Config, patience: Patience) -> Result<kube::Client> {
    let retry = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    let credentials = Credentials::new(config)?;
    let http = credentials.http(patience)?;
    credentials.client(ServiceBuilder::new().option_layer(retry).map_err(BoxError::from).service(http))
}

/// A client as a kubeconfig says.
pub async fn from_kubeconfig(path: &Path) -> Result<kube::Client> {
    connect(read_kubeconfig(path).await?).with_context(|| format!("cannot use the kubeconfig {}", path.display()))
}

/// A client for a program in a pod: its service account, unless `KUBECONFIG` says otherwise.
pub async fn in_cluster() -> Result<kube::Client> {
    let config = kube::Config::infer()
        .await
        .context("cannot find the API server: neither a kubeconfig nor a service account")?;
    connect(config)
}

async fn read_kubeconfig(path: &Path) -> Result<kube::Config> {
    let file = Kubeconfig::read_from(path).with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("kubeconfig {} is incomplete", path.display()))
}

/// Who we are and whom we trust, read once; for those who exchange them while running.
pub struct Credentials {
    config: kube::Config,
    tls: rustls::ClientConfig,
}

impl Credentials {
    pub fn new(config: kube::Config) -> Result<Self> {
        let tls = config.rustls_client_config().context("the certificates for the API server are unusable")?;
        Ok(Self { config, tls })
    }

    pub async fn from_kubeconfig(path: &Path) -> Result<Self> {
        let config = read_kubeconfig(path).await?;
        Self::new(config).with_context(|| format!("cannot use the kubeconfig {}", path.display()))
    }

    /// New connections, none open yet.
    pub fn http(&self, patience: Patience) -> Result<Http> {
        let connector = Connector::new(&self.tls, self.config.tls_server_name.as_deref(), patience.connect)?;
        Ok(HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(patience.ping)
            .http2_keep_alive_timeout(patience.answer)
            .http2_keep_alive_while_idle(true)
            .build(connector))
    }

    /// A client that signs what it sends and gives it to a service.
    pub fn client<S>(&self, service: S) -> Result<kube::Client>
    where
        S: Service<Request<Body>, Response = Response<Incoming>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
    {
        let unusable = "the credentials for the API server are unusable";
        let service = ServiceBuilder::new()
            .layer(self.config.base_uri_layer())
            .option_layer(self.config.auth_layer().context(unusable)?)
            .layer(self.config.extra_headers_layer().context(unusable)?)
            .map_err(Into::<BoxError>::into)
            .service(service);
        Ok(kube::Client::new(service, self.config.default_namespace.clone()))
    }
}
