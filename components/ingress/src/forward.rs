//! One request on its way to an endpoint and its answer on the way back.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Current;
use crate::suspects::Suspects;
use crate::table::Backend;

type AnyBody = BoxBody<Bytes, hyper::Error>;

const CONNECT: Duration = Duration::from_secs(2);
/// Silence of both sides until the endpoint's headers come: an upload may take as long as it goes on.
const ANSWER: Duration = Duration::from_secs(60);
/// A connection whose other side acknowledges nothing for so long is dead: that of a node which lost its power.
const SILENCE: Duration = Duration::from_secs(3);
/// How often a connection that waits for an answer is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// Endpoints tried when connections fail.
const ATTEMPTS: usize = 3;

/// Connections to endpoints, kept for reuse and shared by all requests.
#[derive(Clone)]
pub struct Client {
    inner: hyper_util::client::legacy::Client<HttpConnector, SharedBody>,
    /// Endpoints take turns.
    turn: Arc<AtomicUsize>,
    suspects: Suspects,
}

impl Client {
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE));
        connector.set_tcp_user_timeout(Some(SILENCE));
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Self { inner, turn: Arc::default(), suspects: Suspects::default() }
    }
}

/// What the requests of one connection have in common.
pub struct Forwarder {
    client: Client,
    current: Current,
    peer: SocketAddr,
    scheme: &'static str,
}

impl Forwarder {
    pub fn new(client: Client, current: Current, peer: SocketAddr, scheme: &'static str) -> Self {
        Self { client, current, peer, scheme }
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Response<AnyBody> {
        let host = host_of(&request);
        let table = self.current.read().clone();
        match table.route(&host, request.uri().path()) {
            None => text(StatusCode::NOT_FOUND, "no route for this host and path\n"),
            Some(backend) if backend.endpoints.is_empty() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "the service has no ready endpoint\n")
            }
            Some(backend) => self.forward(request, &host, &backend).await,
        }
    }

    async fn forward(&self, mut request: Request<Incoming>, host: &str, backend: &Backend) -> Response<AnyBody> {
        let upgrade = wants_upgrade(request.headers());
        let client_side = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let headers = self.request_headers(parts.headers, host, upgrade);
        let body = SharedBody::new(body);
        let start = self.client.turn.fetch_add(1, Ordering::Relaxed);
        let mut last = String::new();
        for endpoint in self.client.suspects.order(&backend.endpoints, start).into_iter().take(ATTEMPTS) {
            let Ok(uri) = endpoint_uri(endpoint, &parts.uri) else {
                return text(StatusCode::BAD_REQUEST, "the request's target is malformed\n");
            };
            let mut outgoing = Request::new(body.clone());
            *outgoing.method_mut() = parts.method.clone();
            *outgoing.uri_mut() = uri;
            *outgoing.version_mut() = Version::HTTP_11;
            *outgoing.headers_mut() = headers.clone();
            match body.unless_silent(self.client.inner.request(outgoing)).await {
                Some(Ok(response)) => {
                    self.client.suspects.clear(endpoint);
                    return respond(response, client_side);
                }
                Some(Err(error)) => {
                    tracing::debug!(backend = backend.name, %endpoint, "{error:?}");
                    last = error.to_string();
                    self.client.suspects.add(endpoint);
                    // What reached an endpoint could have been done already: it is sent again only where twice is as once.
                    if !(error.is_connect() || parts.method.is_idempotent()) || body.is_spent() {
                        break;
                    }
                }
                None => return text(StatusCode::GATEWAY_TIMEOUT, "the service did not answer in time\n"),
            }
        }
        tracing::warn!(backend = backend.name, "cannot reach an endpoint: {last}");
        text(StatusCode::BAD_GATEWAY, "the service could not be reached\n")
    }

    /// Headers for the endpoint: those of this hop removed, those that tell of the client added.
    fn request_headers(&self, mut headers: HeaderMap, host: &str, upgrade: Option<HeaderValue>) -> HeaderMap {
        remove_hop_by_hop(&mut headers);
        headers.remove(FORWARDED);
        let peer = self.peer.ip().to_canonical().to_string();
        // What the client says of itself is replaced, not extended: nobody in front of us is trusted to tell the truth.
        let told = [
            ("x-forwarded-for", peer.as_str()),
            ("x-forwarded-host", host),
            ("x-forwarded-proto", self.scheme),
            ("x-real-ip", peer.as_str()),
        ];
        for (name, value) in told {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        // HTTP/2 has no Host header; the endpoint speaks HTTP/1.1 and needs one.
        if let Ok(value) = HeaderValue::from_str(host) {
            headers.insert(HOST, value);
        }
        if let Some(protocol) = upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol);
        }
        headers
    }
}

/// The answer for the client; after `101 Switching Protocols` both sides are joined.
fn respond(mut response: Response<Incoming>, client_side: Option<hyper::upgrade::OnUpgrade>) -> Response<AnyBody> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client_side) = client_side
    {
        let endpoint_side = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let joined = async {
                let (client, endpoint) = tokio::try_join!(client_side, endpoint_side)?;
                let (mut client, mut endpoint) = (TokioIo::new(client), TokioIo::new(endpoint));
                tokio::io::copy_bidirectional(&mut client, &mut endpoint).await?;
                anyhow::Ok(())
            };
            if let Err(error) = joined.await {
                tracing::debug!("upgraded connection ended: {error:#}");
            }
        });
        return response.map(BodyExt::boxed);
    }
    remove_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::default();
    response.map(BodyExt::boxed)
}

/// RFC 9110, section 7.6.1, and what `Connection` names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, UPGRADE, TE, TRAILER, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
}

fn wants_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    if asked { headers.get(UPGRADE).cloned() } else { None }
}

fn host_of(request: &Request<Incoming>) -> String {
    let header = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or(header).unwrap_or_default().to_owned()
}

fn endpoint_uri(endpoint: SocketAddr, uri: &Uri) -> Result<Uri, http::Error> {
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    Uri::builder().scheme("http").authority(endpoint.to_string()).path_and_query(path).build()
}

fn text(status: StatusCode, text: &'static str) -> Response<AnyBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A request's body that can be offered to another endpoint as long as nothing of it was read.
#[derive(Clone)]
struct SharedBody {
    inner: Arc<Mutex<Incoming>>,
    touched: Arc<AtomicBool>,
    /// When a part of it was last asked for.
    active: Arc<Mutex<Instant>>,
    /// Known at the start; what the outgoing request is framed by.
    size: SizeHint,
    empty: bool,
}

impl SharedBody {
    fn new(body: Incoming) -> Self {
        let (size, empty) = (body.size_hint(), body.is_end_stream());
        let active = Arc::new(Mutex::new(Instant::now()));
        Self { inner: Arc::new(Mutex::new(body)), touched: Arc::default(), active, size, empty }
    }

    /// The answer, or nothing when neither it nor a part of this body has come for [`ANSWER`].
    async fn unless_silent<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        *self.active.lock() = Instant::now();
        loop {
            let until = *self.active.lock() + ANSWER;
            match tokio::time::timeout_at(until, answer.as_mut()).await {
                Ok(answer) => return Some(answer),
                Err(_) if *self.active.lock() + ANSWER > Instant::now() => {}
                Err(_) => return None,
            }
        }
    }

    /// It cannot be sent once more.
    fn is_spent(&self) -> bool {
        self.touched() && !self.empty
    }

    fn touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.touched.store(true, Ordering::Relaxed);
        *self.active.lock() = Instant::now();
        Pin::new(&mut *self.inner.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.empty
    }

    fn size_hint(&self) -> SizeHint {
        if self.touched() { self.inner.lock().size_hint() } else { self.size }
    }
}
