//! Passing a request on to an extension server (kube-aggregator `pkg/apiserver/handler_proxy.go`): bodies stream both ways, upgrades
//! become tunnels of bytes.

use std::{error::Error, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;

use super::{Registration, Remote, condition, identity, row};
use crate::{
    backend,
    callback::{dial::Unresolved, tls},
    core::Core,
    http::{Request, Response, ResponseBody, respond},
    identity::Identity,
    registry,
};

/// What belongs to one hop, unless it is about to be switched to another protocol.
const HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];
const NO_SNIFFING: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// Answers a request that was authorized; `from` is the client's address.
pub async fn forward(
    core: &Arc<Core>,
    registration: &Registration,
    who: &Identity,
    from: Option<IpAddr>,
    request: Request,
) -> Response {
    let Some(remote) = &registration.remote else { return text(StatusCode::NOT_FOUND, "") };
    if !is_available(core, registration).await {
        return text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
    }
    pass_on(remote, who, from, request).await
}

async fn is_available(core: &Core, registration: &Registration) -> bool {
    if registration.is_available() {
        return true;
    }
    // a client may have read that it is available before this was noticed here
    let Some(row) = row() else { return false };
    let stored = registry::read(core, row, "", &registration.name).await;
    stored.is_ok_and(|stored| condition(&stored.object).is_some_and(|(status, _)| status == "True"))
}

async fn pass_on(remote: &Remote, who: &Identity, from: Option<IpAddr>, mut request: Request) -> Response {
    let client = match remote.client() {
        Ok(client) => client,
        Err(why) => return text(StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    let upgrade = wants_upgrade(request.headers());
    let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
    let outgoing = match rewrite(remote, who, from, upgrade, request) {
        Ok(outgoing) => outgoing,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    match client.request(outgoing).await {
        Ok(answer) => accept(answer, client_side),
        Err(error) => {
            // whether that was a moment or the end of the server, the keeper finds out
            remote.check.notify_one();
            tracing::debug!(name = remote.name, error = tls::describe(&error), "an extension server was not reached");
            match is_unresolved(&error) {
                true => text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"),
                false => {
                    let why = format!("error trying to reach service: {}", tls::describe(&error));
                    text(StatusCode::SERVICE_UNAVAILABLE, &why)
                }
            }
        }
    }
}

fn accept(mut answer: http::Response<hyper::body::Incoming>, client_side: Option<OnUpgrade>) -> Response {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let server_side = hyper::upgrade::on(&mut answer);
        if let Some(client_side) = client_side {
            tokio::spawn(backend::tunnel(client_side, server_side));
        }
        let (parts, _) = answer.into_parts();
        return Response::from_parts(parts, ResponseBody::empty());
    }
    let mut response = backend::streaming(answer);
    let headers = response.headers_mut();
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    response
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let mut connection = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    headers.contains_key(header::UPGRADE) && connection.any(|v| v.to_ascii_lowercase().contains("upgrade"))
}

fn rewrite(
    remote: &Remote,
    who: &Identity,
    from: Option<IpAddr>,
    upgrade: bool,
    request: Request,
) -> Result<Request, http::Error> {
    let (mut parts, body) = request.into_parts();
    let headers = &mut parts.headers;
    let host = headers.get(header::HOST).cloned().or_else(|| {
        let authority = parts.uri.authority()?;
        HeaderValue::from_str(authority.as_str()).ok()
    });
    identity::introduce(headers, who)?;
    headers.remove(header::EXPECT);
    if !upgrade {
        HOP.iter().for_each(|name| drop(headers.remove(name)));
    }
    tell_way(headers, host, parts.uri.path(), from);
    let path = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    let mut outgoing = http::Request::builder().method(parts.method).uri(remote.url(path)).body(body)?;
    *outgoing.headers_mut() = parts.headers;
    Ok(outgoing)
}

/// Where the request came from and was sent to.
fn tell_way(headers: &mut HeaderMap, host: Option<HeaderValue>, path: &str, from: Option<IpAddr>) {
    let before = headers.get("x-forwarded-for").and_then(|v| v.to_str().ok()).map(str::to_owned);
    if let Some(from) = from
        && let Ok(way) = HeaderValue::from_str(&before.map_or(from.to_string(), |before| format!("{before}, {from}")))
    {
        headers.insert("x-forwarded-for", way);
    }
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }
    if let Ok(path) = HeaderValue::from_str(path) {
        headers.insert("x-forwarded-uri", path);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
}

/// The Service leads nowhere: no connection was tried.
fn is_unresolved(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<Unresolved>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// As Go's `http.Error` writes it.
fn text(status: StatusCode, text: &str) -> Response {
    let mut response = respond::text(status, format!("{text}\n"));
    response.headers_mut().insert(NO_SNIFFING.0, NO_SNIFFING.1);
    response
}
