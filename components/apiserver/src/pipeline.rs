//! The way of a request, in one visible order: panic guard, deadline → authentication → audit → impersonation → priority and
//! fairness → authorization → extension server or handler → counters.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use machinery::{ApiError, request_info::RequestInfo};
use parking_lot::Mutex;
use time::OffsetDateTime;

use crate::{
    aggregation, audit, authn,
    authz::{self, Attributes},
    connection::Connection,
    core::Core,
    flowcontrol::{Flow, Place},
    handlers::{self, Named},
    http::{Accept, Query, Request, Response, ResponseBody, accept, compress, duration, respond},
    identity::Identity,
    impersonation,
    metrics::{self, Running},
};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// A client may name its request, but not at any length.
const AUDIT_ID_LENGTH: usize = 64;
const PANICKED: &str = "This request caused apiserver to panic. Look in the logs for details.";

/// A request on its way, after authentication.
pub struct Call {
    pub core: Arc<Core>,
    pub info: RequestInfo,
    pub query: Query,
    pub accept: Accept,
    /// The media ranges the client accepts, as it wrote them.
    pub wants: Vec<String>,
    pub if_none_match: Option<String>,
    /// The client takes gzip.
    pub gzip: bool,
    pub identity: Arc<Identity>,
    /// The client's program, as it says itself.
    pub user_agent: String,
    pub notes: Arc<Notes>,
}

/// What a request gathers on its way: warnings for the client, annotations for the audit log.
#[derive(Default)]
pub struct Notes {
    record: OnceLock<Arc<audit::Record>>,
    flow: OnceLock<Arc<Flow>>,
    warnings: Mutex<Vec<String>>,
    annotations: Mutex<BTreeMap<String, String>>,
}

impl Notes {
    /// A `Warning` header of the answer, whatever that is; said once.
    pub fn warn(&self, text: impl Into<String>) {
        let (text, mut all) = (text.into(), self.warnings.lock());
        if !all.contains(&text) {
            all.push(text);
        }
    }

    /// The first word on a key counts, as upstream.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        if let Some(record) = self.record.get() {
            record.annotate(&key, value.clone());
        }
        self.annotations.lock().entry(key).or_insert(value);
    }

    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.lock().clone()
    }
}

impl Call {
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        self.notes.annotate(key, value);
    }

    /// Tells the audit log the name of an object that the URL does not name.
    pub fn named(&self, name: &str) {
        if let Some(record) = self.notes.record.get() {
            record.named(name);
        }
    }

    pub fn warn(&self, text: impl Into<String>) {
        self.notes.warn(text);
    }
}

/// Answers one request; never fails and never panics.
pub async fn serve(core: Arc<Core>, connection: Option<Arc<Connection>>, request: Request) -> Response {
    let begun = Instant::now();
    let query = request.uri().query().unwrap_or_default();
    let info = RequestInfo::parse(request.method(), request.uri().path(), query);
    let verb = info.verb;
    // only names that exist become labels, or anybody could fill the memory
    let named = handlers::known_names(&core, &info);
    let head = request.method() == Method::HEAD;
    let accept = Accept::from_headers(request.headers(), handlers::able(&info));
    let gzip = compress::wanted(request.headers());
    let long_running = is_long_running(&info);
    let audit_id = audit_id(request.headers());
    let dry_run = query.contains("dryRun=All");
    let running = core.metrics.requests.begin(metrics::Kind::of(&info, named, dry_run), long_running);
    let notes = Arc::new(Notes::default());
    let deadline = match long_running {
        true => Ok(None),
        false => deadline(&core, query).map(Some),
    };
    let _counted = (!long_running).then(|| core.requests.token());
    let way = Way { core: core.clone(), named, audit_id: audit_id.clone(), notes: notes.clone() };
    let answered = match deadline {
        Err(error) => Ok(Err(error)),
        Ok(deadline) => {
            let answering = way.answer(connection, info, accept, request);
            AssertUnwindSafe(in_time(deadline, answering)).catch_unwind().await
        }
    };
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => respond::error_as(accept.unwrap_or_default().syntax, &error),
        Err(_) => {
            let Named { group, resource, subresource, .. } = named;
            tracing::error!(verb, group, resource, subresource, "a handler panicked");
            if let Some(record) = notes.record.get() {
                record.panicked();
            }
            respond::error(&ApiError::new(500, "InternalError", PANICKED))
        }
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.headers_mut().insert(AUDIT_ID, audit_id);
    if let Some(flow) = notes.flow.get() {
        flow.mark(response.headers_mut());
    }
    respond::add_warnings(&mut response, &std::mem::take(&mut *notes.warnings.lock()));
    if let Some(record) = notes.record.get() {
        response = record.clone().answered(response, long_running);
    }
    if head {
        *response.body_mut() = ResponseBody::empty();
    }
    if gzip {
        response = compress::large(response).await;
    }
    let length = http_body::Body::size_hint(response.body()).exact();
    running.answered(response.status().as_u16(), begun.elapsed(), length);
    match long_running {
        true => lasting(response, running),
        false => response,
    }
}

/// A stream counts as under way until it ends.
fn lasting(mut response: Response, running: Running) -> Response {
    let body = std::mem::replace(response.body_mut(), ResponseBody::empty());
    *response.body_mut() = match body {
        ResponseBody::Stream(stream) => ResponseBody::Stream(
            stream
                .map(move |piece| {
                    let _ = &running;
                    piece
                })
                .boxed(),
        ),
        whole => whole,
    };
    response
}

/// Watches, logs and tunnels last as long as they last.
fn is_long_running(info: &RequestInfo) -> bool {
    matches!(info.verb, "watch" | "proxy" | "connect")
        || matches!(info.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
}

/// How long this request may take: what the client says in `timeout`, but never longer than the server allows.
fn deadline(core: &Core, query: &str) -> Result<Duration, ApiError> {
    let longest = Duration::from_secs(core.config.limits.request_timeout_seconds);
    if !query.contains("timeout=") {
        return Ok(longest);
    }
    let query = Query::parse(query);
    let Some(text) = query.get("timeout") else { return Ok(longest) };
    let wanted = duration::parse(text)
        .map_err(|why| ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}")))?;
    Ok(match u64::try_from(wanted) {
        // none, or one in the past, is no wish
        Err(_) | Ok(0) => longest,
        Ok(nanos) => Duration::from_nanos(nanos).min(longest),
    })
}

async fn in_time(
    deadline: Option<Duration>,
    answering: impl Future<Output = Result<Response, ApiError>>,
) -> Result<Response, ApiError> {
    match deadline {
        None => answering.await,
        Some(deadline) => tokio::time::timeout(deadline, answering)
            .await
            .unwrap_or_else(|_| Err(ApiError::timeout("request did not complete within the allotted timeout", 0))),
    }
}

fn audit_id(headers: &http::HeaderMap) -> HeaderValue {
    let given = headers.get(&AUDIT_ID).filter(|id| !id.is_empty() && id.to_str().is_ok());
    if let Some(given) = given {
        let end = given.len().min(AUDIT_ID_LENGTH);
        return HeaderValue::from_bytes(&given.as_bytes()[..end]).unwrap_or_else(|_| given.clone());
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// One request between its head and its answer.
struct Way {
    core: Arc<Core>,
    named: Named,
    audit_id: HeaderValue,
    notes: Arc<Notes>,
}

impl Way {
    async fn answer(
        self,
        connection: Option<Arc<Connection>>,
        info: RequestInfo,
        accept: Option<Accept>,
        mut request: Request,
    ) -> Result<Response, ApiError> {
        let core = &self.core;
        let who = match given(&mut request) {
            Some(identity) => Ok(identity),
            None => {
                let peer = connection.as_ref().and_then(|c| c.peer.as_ref());
                authn::authenticate(core, request.headers_mut(), &info.path, peer).await
            }
        };
        self.begin_audit(connection.as_deref(), &who, &info, &request);
        let mut identity = who?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        if impersonation::is_wanted(request.headers()) {
            let what = Attributes::of(&info, query.get("fieldSelector"));
            if let Some(other) = impersonation::apply(core, &identity, &what, request.headers_mut()).await? {
                if let Some(record) = self.notes.record.get() {
                    record.impersonated(&other);
                }
                identity = other.identity;
            }
        }
        let place = match self.enter(&identity, &info).await {
            Ok(place) => place,
            Err(response) => return Ok(response),
        };
        self.authorize(&identity, &info, &query).await?;
        if let Some(registration) = self.core.aggregation.delegate(&info.path) {
            // whoever answers lets its clients queue itself
            drop(place);
            let from = connection.as_ref().and_then(|c| c.address);
            return Ok(aggregation::proxy::forward(&self.core, &registration, &identity, from, request).await);
        }
        // proxied requests and discovery negotiate for themselves
        let proxied = matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy");
        let accept = match accept {
            Some(accept) => accept,
            None if proxied || !info.is_resource => Accept::default(),
            None => return Err(ApiError::not_acceptable(handlers::able(&info).media_types())),
        };
        let wants = accept::ranges(request.headers()).map(str::to_owned).collect();
        if let Some(record) = self.notes.record.get() {
            request = record.listen(request);
        }
        let listed = (info.verb == "list").then(|| info.clone());
        let notes = self.notes.clone();
        let user_agent =
            request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let if_none_match =
            request.headers().get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let gzip = compress::wanted(request.headers());
        let core = core.clone();
        let call = Call { core, wants, if_none_match, gzip, info, query, accept, identity, user_agent, notes };
        let handling: BoxFuture<'static, Result<Response, ApiError>> = Box::pin(handlers::dispatch(call, request));
        let response = handling.await;
        drop(place);
        if let (Some(info), Ok(response)) = (listed, &response)
            && let ResponseBody::Full(Some(bytes)) = response.body()
        {
            self.core.flow.listed(&info, self.named, bytes.len());
        }
        response
    }

    fn begin_audit(
        &self,
        connection: Option<&Connection>,
        who: &Result<Arc<Identity>, ApiError>,
        info: &RequestInfo,
        request: &Request,
    ) {
        let Some(audit) = &self.core.audit else { return };
        let asked = audit::Asked {
            id: self.audit_id.to_str().unwrap_or_default(),
            info,
            uri: request.uri(),
            headers: request.headers(),
            peer: connection.and_then(|c| c.address),
            received: OffsetDateTime::now_utc(),
        };
        if let Some(record) = audit.begin(who.as_ref().ok(), asked) {
            // set once, here
            let _ = self.notes.record.set(record);
        }
    }

    /// A place, or the answer to who finds none.
    async fn enter(&self, who: &Identity, info: &RequestInfo) -> Result<Place, Response> {
        if is_long_running(info) && info.verb != "watch" {
            return Ok(Place::None);
        }
        let entered = self.core.flow.enter(who, info, self.named).await;
        let flow = match &entered {
            Ok(place) => place.flow().cloned(),
            Err(refused) => refused.flow.clone(),
        };
        if let Some(flow) = flow {
            let _ = self.notes.flow.set(flow);
        }
        entered.map_err(|_| {
            let mut response =
                respond::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
            response.headers_mut().insert(header::RETRY_AFTER, 1.into());
            response
        })
    }

    async fn authorize(&self, identity: &Identity, info: &RequestInfo, query: &Query) -> Result<(), ApiError> {
        let what = Attributes::of(info, query.get("fieldSelector"));
        let mut decided = authz::authorize(&self.core, identity, &what).await;
        // a WebSocket begins with GET, but running something in a pod is never only reading
        if decided.is_ok()
            && info.is_resource
            && matches!(info.subresource.as_str(), "exec" | "attach" | "portforward")
            && what.verb != "create"
        {
            decided = authz::authorize(&self.core, identity, &what.with_verb("create")).await;
        }
        if let Some(record) = self.notes.record.get() {
            record
                .annotate("authorization.k8s.io/decision", if decided.is_ok() { "allow" } else { "forbid" }.to_owned());
            record.annotate("authorization.k8s.io/reason", authz::reason(&self.core, identity, &what));
        }
        decided
    }
}

/// The identity that a caller in this process came with.
fn given(request: &mut Request) -> Option<Arc<Identity>> {
    let extensions = request.extensions_mut();
    extensions.remove::<Arc<Identity>>().or_else(|| extensions.remove::<Identity>().map(Arc::new))
}
