//! How the kubelet talks to the API server.
//!
//! One HTTP/2 connection carries requests, a few more carry watches of single objects. The credentials
//! can be exchanged while running: requests after [`Api::reload`] use a new connection with the new
//! certificate, streams that are open end on the old one.

pub mod events;
pub mod objects;

use std::path::Path;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as HyperClient, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use parking_lot::{Mutex, RwLock};
use tower::ServiceBuilder;

/// Watches of single objects stay open for minutes; a server usually allows 100 or more streams on a
/// connection, so no connection gets more of them than this.
const STREAMS_PER_CONNECTION: usize = 64;

type Http = HyperClient<HttpsConnector<HttpConnector>, Body>;

struct Credentials {
    tls: rustls::ClientConfig,
    config: kube::Config,
}

/// Makes clients that all follow the same, exchangeable credentials.
pub struct Api {
    credentials: RwLock<Credentials>,
    transports: Mutex<Vec<Transport>>,
    shards: Mutex<Vec<kube::Client>>,
    main: kube::Client,
}

/// A connection pool whose contents can be exchanged.
#[derive(Clone)]
struct Transport(Arc<RwLock<Http>>);

impl tower::Service<http::Request<Body>> for Transport {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.read().request(request)
    }
}

impl Api {
    /// Reads a kubeconfig and makes the first client.
    pub async fn from_kubeconfig(path: &Path) -> Result<Arc<Api>> {
        let credentials = read_credentials(path).await?;
        let transport = Transport(Arc::new(RwLock::new(connect(&credentials))));
        let main = client(&credentials, &transport)?;
        Ok(Arc::new(Api {
            credentials: RwLock::new(credentials),
            transports: Mutex::new(vec![transport]),
            shards: Mutex::new(Vec::new()),
            main,
        }))
    }

    pub fn client(&self) -> kube::Client {
        self.main.clone()
    }

    /// A client for the `n`th long-lived watch; every few watches share a connection.
    pub fn watch_client(&self, n: usize) -> Result<kube::Client> {
        let shard = n / STREAMS_PER_CONNECTION;
        let mut shards = self.shards.lock();
        while shards.len() <= shard {
            let credentials = self.credentials.read();
            let transport = Transport(Arc::new(RwLock::new(connect(&credentials))));
            shards.push(client(&credentials, &transport)?);
            self.transports.lock().push(transport);
        }
        Ok(shards[shard].clone())
    }

    /// Takes up a renewed certificate: everything sent from now on uses it.
    pub async fn reload(&self, path: &Path) -> Result<()> {
        let fresh = read_credentials(path).await?;
        for transport in self.transports.lock().iter() {
            *transport.0.write() = connect(&fresh);
        }
        *self.credentials.write() = fresh;
        Ok(())
    }
}

async fn read_credentials(path: &Path) -> Result<Credentials> {
    let kubeconfig =
        Kubeconfig::read_from(path).with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("kubeconfig {} is incomplete", path.display()))?;
    let tls = config
        .rustls_client_config()
        .with_context(|| format!("certificates named in kubeconfig {} are unusable", path.display()))?;
    Ok(Credentials { tls, config })
}

fn connect(credentials: &Credentials) -> Http {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(5)));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    let mut tls = credentials.tls.clone();
    tls.alpn_protocols.clear();
    let https =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp);
    HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true)
        .build(https)
}

fn client(credentials: &Credentials, transport: &Transport) -> Result<kube::Client> {
    let auth = credentials.config.auth_layer().context("credentials of the kubeconfig are unusable")?;
    let service = ServiceBuilder::new()
        .layer(credentials.config.base_uri_layer())
        .option_layer(auth)
        .map_err(tower::BoxError::from)
        .service(transport.clone());
    Ok(kube::Client::new(service, "default"))
}

/// Whether an API call failed with this HTTP status.
pub fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
