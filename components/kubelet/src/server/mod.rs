//! The kubelet's HTTPS server (10250) and its plain health check (10248 on loopback).

pub mod auth;
pub mod logs;
pub mod stats;
pub mod stream;

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::config::Config;
use crate::cri::Cri;
use crate::cri::observe::Observer;
use crate::pki::serving::Serving;
use crate::pods::manager::Manager;
use crate::pods::sandbox;
use auth::{Auth, User};
use stream::Streams;

pub type Body = BoxBody<Bytes, std::io::Error>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

pub struct Server {
    pub config: Arc<Config>,
    pub cri: Cri,
    pub manager: Arc<Manager>,
    pub auth: Auth,
    pub runtime_lists: Arc<AtomicBool>,
    pub node_memory: u64,
}

/// Runs the HTTPS server until dropped.
pub async fn serve(server: Arc<Server>, serving: Arc<Serving>, listener: TcpListener) -> Result<()> {
    let acceptor = acceptor(&server.config, serving)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // most often out of file descriptors: let some close
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (server, acceptor) = (server.clone(), acceptor.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(server, acceptor, stream).await {
                tracing::debug!("connection ended: {error:#}");
            }
        });
    }
}

fn acceptor(config: &Config, serving: Arc<Serving>) -> Result<TlsAcceptor> {
    let path = &config.client_ca_file;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {}", path.display()))? {
        roots.add(certificate.with_context(|| format!("{} is not PEM", path.display()))?)?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build()?;
    let mut tls = rustls::ServerConfig::builder().with_client_cert_verifier(verifier).with_cert_resolver(serving);
    // upgrades (exec, attach, port-forward) need HTTP/1.1
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

async fn connection(server: Arc<Server>, acceptor: TlsAcceptor, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true).ok();
    let tls = tokio::time::timeout(std::time::Duration::from_secs(10), acceptor.accept(stream)).await??;
    let certificate = tls.get_ref().1.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec());
    let user = certificate.as_deref().and_then(Auth::certificate);
    let service = service_fn(move |request| {
        let (server, user) = (server.clone(), user.clone());
        async move { Ok::<_, Infallible>(server.answer(request, user).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .serve_connection(TokioIo::new(tls), service)
        .with_upgrades()
        .await?;
    Ok(())
}

fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(message.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, certificate: Option<User>) -> Response<Body> {
        let user = match self.user(&request, certificate).await {
            Ok(Some(user)) => user,
            Ok(None) => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
        };
        if let Err(error) = self.auth.authorize(&user, request.method(), request.uri().path()).await {
            return text(StatusCode::FORBIDDEN, format!("{error:#}"));
        }
        match self.route(request).await {
            Ok(response) => response,
            Err(error) => {
                let status = error.downcast_ref::<NotFound>().map_or(StatusCode::INTERNAL_SERVER_ERROR, |e| e.0);
                text(status, format!("{error:#}"))
            }
        }
    }

    async fn user(&self, request: &Request<Incoming>, certificate: Option<User>) -> Result<Option<User>> {
        if certificate.is_some() {
            return Ok(certificate);
        }
        let header = request.headers().get(header::AUTHORIZATION).and_then(|h| h.to_str().ok());
        match header.and_then(|h| h.strip_prefix("Bearer ")) {
            Some(token) => self.auth.token(token.trim()).await,
            None => Ok(None),
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let path = request.uri().path().to_string();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let get = request.method() == Method::GET;
        let query = pairs(request.uri().query().unwrap_or_default());
        Ok(match parts.as_slice() {
            ["healthz", ..] if get => text(StatusCode::OK, "ok"),
            ["pods"] if get => self.pods(),
            ["stats", "summary"] if get => {
                let root = &self.config.root_dir;
                json_answer(&stats::summary(&self.cri, &self.config.node_name, self.node_memory, root).await?)
            }
            ["metrics"] if get => {
                let pods = self.manager.pods().len();
                text(StatusCode::OK, stats::own_metrics(&self.cri, &self.config.node_name, pods).await?)
            }
            ["metrics", "resource" | "cadvisor"] if get => {
                text(StatusCode::OK, stats::resource_metrics(&self.cri, self.node_memory).await?)
            }
            ["containerLogs", namespace, pod, container] if get => {
                self.logs(namespace, pod, container, query.into_iter().collect()).await?
            }
            ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
                let streams = Streams::parse(&query);
                streams.check()?;
                let (id, _) = self.container(namespace, pod, container, false).await?;
                let url = stream::exec_url(&self.cri, &id, &streams).await?;
                stream::join(request, &url).await?
            }
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
                let found = self.pod(namespace, pod)?;
                let streams = Streams { tty: wants_tty(&found, container), ..Streams::parse(&query) };
                streams.check()?;
                let (id, _) = self.container(namespace, pod, container, false).await?;
                let url = stream::attach_url(&self.cri, &id, &streams).await?;
                stream::join(request, &url).await?
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                let uid = sandbox::uid(&*self.pod(namespace, pod)?);
                let observed = Observer::default().observe(&self.cri, &uid).await?;
                let ready = observed
                    .sandbox()
                    .filter(|s| s.ready)
                    .ok_or_else(|| anyhow!("pod {namespace}/{pod} has no running sandbox"))?;
                let url = stream::port_forward_url(&self.cri, &ready.id, &Streams::parse(&query)).await?;
                stream::join(request, &url).await?
            }
            _ => text(StatusCode::NOT_FOUND, "404 page not found"),
        })
    }

    fn pods(&self) -> Response<Body> {
        let pods: Vec<Arc<Pod>> = self.manager.pods();
        json_answer(
            &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods.iter().map(|p| &**p).collect::<Vec<_>>()}),
        )
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>> {
        let found = self.manager.find(namespace, name);
        found.ok_or_else(|| {
            NotFound(StatusCode::NOT_FOUND, format!("pod {name:?} not found in namespace {namespace:?}")).into()
        })
    }

    /// The id and log path of a container's newest or, with `previous`, last ended instance.
    async fn container(&self, namespace: &str, pod: &str, name: &str, previous: bool) -> Result<(String, PathBuf)> {
        let found = self.pod(namespace, pod)?;
        let observed = Observer::default().observe(&self.cri, &sandbox::uid(&found)).await?;
        let list = observed.containers.get(name).map(Vec::as_slice).unwrap_or_default();
        let chosen = if previous { list.get(1) } else { list.first() };
        let Some(chosen) = chosen else {
            let what = if previous { "previous terminated container" } else { "container" };
            let message = format!("{what} {name:?} in pod {pod:?} not found");
            return Err(NotFound(StatusCode::BAD_REQUEST, message).into());
        };
        Ok((chosen.id().to_string(), PathBuf::from(&chosen.status.log_path)))
    }

    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        query: HashMap<String, String>,
    ) -> Result<Response<Body>> {
        let options = match logs::Options::parse(&query) {
            Ok(options) => options,
            Err(error) => return Ok(text(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"))),
        };
        let (id, path) = self.container(namespace, pod, container, options.previous).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        tokio::spawn(logs::stream(self.cri.clone(), id, path, options, sender));
        let frames = ReceiverStream::new(receiver).map(|chunk| chunk.map(Frame::data));
        let mut response = Response::new(StreamBody::new(frames).boxed());
        response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
        Ok(response)
    }
}

/// Something the caller named does not exist; carries the HTTP status for that.
#[derive(Debug)]
struct NotFound(StatusCode, String);

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for NotFound {}

fn wants_tty(pod: &Pod, container: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ordinary = spec.init_containers.iter().flatten().chain(&spec.containers).find(|c| c.name == container);
    let ephemeral = spec.ephemeral_containers.iter().flatten().find(|c| c.name == container);
    ordinary.and_then(|c| c.tty).or_else(|| ephemeral.and_then(|c| c.tty)).unwrap_or(false)
}

/// A query's pairs in order, decoded.
fn pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// `/healthz` without TLS, on loopback: well while the pods are watched and the runtime answers.
pub async fn health(server: Arc<Server>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let well = server.runtime_lists.load(Ordering::Relaxed) && server.manager.synced();
                let response = match (request.uri().path(), well) {
                    ("/healthz", true) => text(StatusCode::OK, "ok"),
                    ("/healthz", false) => {
                        text(StatusCode::INTERNAL_SERVER_ERROR, "not synced with the API server and the runtime")
                    }
                    _ => text(StatusCode::NOT_FOUND, "404 page not found"),
                };
                async move { Ok::<_, Infallible>(response) }
            });
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_keep_their_order() {
        let parsed = pairs("command=%2Fbin%2Fsh&command=-c&command=a+b&tty");
        let expected = [("command", "/bin/sh"), ("command", "-c"), ("command", "a b"), ("tty", "")];
        assert_eq!(parsed, expected.map(|(k, v)| (k.to_string(), v.to_string())));
    }
}
