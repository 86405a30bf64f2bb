//! How the kubelet talks to the API server.
//!
//! One HTTP/2 connection carries requests, a few more carry watches of single objects. The credentials
//! can be exchanged while running: requests after [`Api::reload`] use a new connection with the new
//! certificate, streams that are open end on the old one.

pub mod bundles;
pub mod events;
pub mod objects;

use std::path::Path;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::Result;
use client::{Credentials, Http, Patience};
use hyper_util::client::legacy::ResponseFuture;
use kube::client::Body;
use parking_lot::{Mutex, RwLock};

/// Watches of single objects stay open for minutes; a server usually allows 100 or more streams on a
/// connection, so no connection gets more of them than this.
const STREAMS_PER_CONNECTION: usize = 64;

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

impl Transport {
    fn new(credentials: &Credentials) -> Result<Self> {
        Ok(Self(Arc::new(RwLock::new(credentials.http(Patience::default())?))))
    }
}

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
        let credentials = Credentials::from_kubeconfig(path).await?;
        let transport = Transport::new(&credentials)?;
        let main = credentials.client(transport.clone())?;
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
            let transport = Transport::new(&credentials)?;
            shards.push(credentials.client(transport.clone())?);
            self.transports.lock().push(transport);
        }
        Ok(shards[shard].clone())
    }

    /// Takes up a renewed certificate: everything sent from now on uses it.
    pub async fn reload(&self, path: &Path) -> Result<()> {
        let fresh = Credentials::from_kubeconfig(path).await?;
        for transport in self.transports.lock().iter() {
            *transport.0.write() = fresh.http(Patience::default())?;
        }
        *self.credentials.write() = fresh;
        Ok(())
    }
}

/// Whether an API call failed with this HTTP status.
pub fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
