//! The way of a request, in one visible order: panic guard → request info → authentication → impersonation →
//! authorization → handler → counters.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Method, header};
use machinery::{ApiError, request_info::RequestInfo};
use parking_lot::Mutex;

use crate::{
    authn,
    authz::{self, Attributes},
    core::Core,
    handlers,
    http::{Accept, Query, Request, Response, accept, compress, respond},
    identity::Identity,
    impersonation,
};

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
    pub identity: Identity,
    /// The client's program, as it says itself.
    pub user_agent: String,
    pub notes: Arc<Notes>,
}

/// What a request gathers on its way: warnings for the client, annotations for the audit log.
#[derive(Default)]
pub struct Notes {
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
        self.annotations.lock().entry(key.into()).or_insert_with(|| value.into());
    }

    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.lock().clone()
    }
}

/// Answers one request; never fails and never panics.
pub async fn serve(core: Arc<Core>, peer: Option<Arc<Identity>>, request: Request) -> Response {
    let begun = Instant::now();
    let info = RequestInfo::parse(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
    let verb = info.verb;
    // only names that exist become labels, or anybody could fill the memory
    let [group, resource, subresource] = handlers::known_names(&core, &info);
    let head = request.method() == Method::HEAD;
    let accept = Accept::from_headers(request.headers(), handlers::able(&info));
    let gzip = compress::wanted(request.headers());
    let notes = Arc::new(Notes::default());
    let answering = answer(core.clone(), peer, info, accept, notes.clone(), request);
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => respond::error_as(accept.unwrap_or_default().syntax, &error),
        Err(_) => {
            tracing::error!(verb, group, resource, subresource, "a handler panicked");
            respond::error(&ApiError::internal("the request's handler failed; see the API server's log"))
        }
    };
    respond::add_warnings(&mut response, &notes.warnings.lock());
    if response.status() == http::StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if head {
        *response.body_mut() = crate::http::ResponseBody::empty();
    }
    if gzip {
        response = compress::large(response).await;
    }
    core.metrics.observe(verb, group, resource, subresource, response.status().as_u16(), begun.elapsed());
    response
}

async fn answer(
    core: Arc<Core>,
    peer: Option<Arc<Identity>>,
    info: RequestInfo,
    accept: Option<Accept>,
    notes: Arc<Notes>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let given = request.extensions_mut().remove::<Identity>();
    let identity = match given {
        Some(identity) => identity,
        None => authn::authenticate(&core, request.headers(), &info.path, peer.as_deref()).await?,
    };
    let identity = impersonation::apply(&core, identity, request.headers()).await?;
    let query = Query::parse(request.uri().query().unwrap_or_default());
    authorize(&core, &identity, &info, &query).await?;
    // proxied requests and discovery negotiate for themselves
    let proxied = matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy");
    let accept = match accept {
        Some(accept) => accept,
        None if proxied || !info.is_resource => Accept::default(),
        None => return Err(ApiError::not_acceptable(handlers::able(&info).media_types())),
    };
    let user_agent =
        request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let if_none_match = request.headers().get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let gzip = compress::wanted(request.headers());
    let wants = accept::ranges(request.headers()).map(str::to_owned).collect();
    let handling: BoxFuture<'static, Result<Response, ApiError>> = Box::pin(handlers::dispatch(
        Call { core, wants, if_none_match, gzip, info, query, accept, identity, user_agent, notes },
        request,
    ));
    handling.await
}

async fn authorize(core: &Core, identity: &Identity, info: &RequestInfo, query: &Query) -> Result<(), ApiError> {
    let what = Attributes::of(info, query.get("fieldSelector"));
    authz::authorize(core, identity, &what).await?;
    // a WebSocket begins with GET, but running something in a pod is never only reading
    if info.is_resource
        && matches!(info.subresource.as_str(), "exec" | "attach" | "portforward")
        && what.verb != "create"
    {
        authz::authorize(core, identity, &what.with_verb("create")).await?;
    }
    Ok(())
}
