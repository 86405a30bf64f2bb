//! Health over HTTP: the proxy's own (`/healthz`), and for each load-balanced Service with local traffic policy, the number
//! of its endpoints here (`healthCheckNodePort`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::table::HealthCheck;

type Answer = (StatusCode, String);

/// Answers every request with what `answer` says at that moment, until it is dropped.
struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn serve(listener: TcpListener, answer: impl Fn() -> Answer + Clone + Send + 'static) -> Server {
    Server(tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            // A failed accept (no descriptors left) passes when connections end.
            let Ok((stream, _)) = listener.accept().await else {
                connections.join_next().await;
                continue;
            };
            while connections.try_join_next().is_some() {}
            let answer = answer.clone();
            connections.spawn(async move {
                let service = service_fn(move |_: hyper::Request<Incoming>| {
                    let (status, body) = answer();
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = status;
                    std::future::ready(Ok::<_, Infallible>(response))
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(std::time::Duration::from_secs(10));
                drop(http.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    }))
}

/// What `/healthz` tells: the last transaction's error, or that there was none yet.
#[derive(Clone)]
pub struct Health(Arc<Mutex<Option<String>>>);

impl Health {
    pub fn starting() -> Self {
        Self(Arc::new(Mutex::new(Some("the first synchronization is not complete".into()))))
    }

    pub fn set(&self, problem: Option<String>) {
        *self.0.lock() = problem;
    }

    fn answer(&self) -> Answer {
        match &*self.0.lock() {
            None => (StatusCode::OK, "ok".into()),
            Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem.clone()),
        }
    }
}

/// The servers that run now.
#[derive(Default)]
pub struct Servers {
    healthz: Option<Server>,
    checks: BTreeMap<u16, (Server, Arc<Mutex<HealthCheck>>)>,
}

impl Servers {
    pub async fn serve_healthz(&mut self, at: SocketAddr, health: Health) -> std::io::Result<()> {
        let listener = TcpListener::bind(at).await?;
        self.healthz = Some(serve(listener, move || health.answer()));
        Ok(())
    }

    /// Starts, updates and stops health-check servers.
    pub async fn set_checks(&mut self, wanted: &[HealthCheck]) {
        self.checks.retain(|port, _| wanted.iter().any(|check| check.port == *port));
        for check in wanted {
            if let Some((_, shown)) = self.checks.get(&check.port) {
                *shown.lock() = check.clone();
                continue;
            }
            match TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], check.port))).await {
                Ok(listener) => {
                    let shown = Arc::new(Mutex::new(check.clone()));
                    let shared = shown.clone();
                    self.checks.insert(check.port, (serve(listener, move || check_answer(&shared.lock())), shown));
                }
                Err(error) => {
                    tracing::warn!(%error, port = check.port, service = %format!("{}/{}", check.namespace, check.name), "cannot serve a health check port")
                }
            }
        }
    }
}

fn check_answer(check: &HealthCheck) -> Answer {
    let status = if check.local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "service": {"namespace": check.namespace, "name": check.name},
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": true,
    });
    (status, body.to_string())
}
