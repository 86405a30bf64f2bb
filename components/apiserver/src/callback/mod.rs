//! HTTPS calls to servers that API objects name by URL or by Service: admission and conversion webhooks. Extension servers are
//! dialed in the same way.
//!
//! Connections are kept and used again, for each authority and each bundle of certificate authorities.

pub(crate) mod dial;
pub(crate) mod tls;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use machinery::value::{int_at, str_at};
use parking_lot::Mutex;
use serde_json::Value;
use store::Store;

use dial::Dialer;

/// What an answer may weigh; objects in it are bounded by what a request may bring.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;
const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS: usize = 16;
/// Different bundles of authorities in use at once; more begin anew.
const CLIENTS: usize = 64;
const DEFAULT_PORT: i64 = 443;

type HttpsClient = Client<HttpsConnector<Dialer>, Full<Bytes>>;

/// A `clientConfig` of webhooks: where to send, and who may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `https://host[:port]/path`, without query; of a Service the host is `<name>.<namespace>.svc`.
    pub url: String,
    /// The host is a Service of this cluster, reached through its endpoints.
    pub service: bool,
    /// PEM; empty: the host's own authorities.
    pub ca_bundle: Vec<u8>,
}

impl Destination {
    /// From `{url | service{namespace, name, path, port}, caBundle}`.
    pub fn from_client_config(config: &Value) -> Result<Self, String> {
        let ca_bundle = STANDARD
            .decode(str_at(config, "caBundle"))
            .map_err(|e| format!("unable to load root certificates: {e}"))?;
        if let Some(url) = config.get("url").and_then(Value::as_str) {
            return Ok(Destination { url: url.to_owned(), service: false, ca_bundle });
        }
        let service = config.get("service").ok_or("webhook configuration must have either service or URL")?;
        let (namespace, name) = (str_at(service, "namespace"), str_at(service, "name"));
        let port = int_at(service, "port").unwrap_or(DEFAULT_PORT);
        let path = str_at(service, "path").trim_start_matches('/');
        Ok(Destination { url: format!("https://{name}.{namespace}.svc:{port}/{path}"), service: true, ca_bundle })
    }
}

/// All clients, by who may answer.
pub struct Callbacks {
    store: Arc<dyn Store>,
    clients: Mutex<Vec<(Vec<u8>, bool, HttpsClient)>>,
}

impl Callbacks {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Callbacks { store, clients: Mutex::default() }
    }

    /// Posts JSON and gives the body of a successful answer. An error reads as upstream's client writes it.
    pub async fn post(&self, to: &Destination, body: Vec<u8>, limit: Duration) -> Result<Bytes, String> {
        let url = format!("{}?timeout={}", to.url, seconds(limit));
        let answered = tokio::time::timeout(limit, self.exchange(to, &url, body)).await;
        let failed = |why: &str| format!("Post \"{url}\": {why}");
        match answered {
            Ok(Ok((status, body))) if status.is_success() => Ok(body),
            Ok(Ok((status, body))) => Err(refusal(status, &body)),
            Ok(Err(why)) => Err(failed(&why)),
            Err(_) => Err(failed("context deadline exceeded")),
        }
    }

    async fn exchange(&self, to: &Destination, url: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), String> {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| e.to_string())?;
        let answer = self.client(to)?.request(request).await.map_err(|e| tls::describe(&e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await.map_err(|e| e.to_string())?;
        Ok((status, body.to_bytes()))
    }

    fn client(&self, to: &Destination) -> Result<HttpsClient, String> {
        let mut clients = self.clients.lock();
        if let Some((_, _, client)) =
            clients.iter().find(|(ca, service, _)| *ca == to.ca_bundle && *service == to.service)
        {
            return Ok(client.clone());
        }
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(&to.ca_bundle)?)
            .https_only()
            .enable_http1()
            .wrap_connector(Dialer { store: self.store.clone(), service: to.service });
        let client: HttpsClient = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.push((to.ca_bundle.clone(), to.service, client.clone()));
        Ok(client)
    }
}

/// As Go writes durations of whole seconds.
fn seconds(limit: Duration) -> String {
    format!("{}s", limit.as_secs())
}

/// What upstream's client makes of an answer that is no success.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    const SHOWN: usize = 2048;
    let status_object = serde_json::from_slice::<Value>(body).ok().filter(|v| v["kind"] == "Status");
    let message = status_object.map(|v| str_at(&v, "message").to_owned()).unwrap_or_default();
    if !message.is_empty() {
        return message;
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).trim().to_owned();
    match (status, text.is_empty()) {
        (StatusCode::NOT_FOUND, _) => "the server could not find the requested resource".into(),
        (StatusCode::INTERNAL_SERVER_ERROR, false) => {
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        }
        (status, _) => {
            format!("the server responded with the status code {} but did not return more information", status.as_u16())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn destinations() {
        let service = json!({"service": {"namespace": "n", "name": "s", "path": "/p"}, "caBundle": "eA=="});
        let found = Destination::from_client_config(&service).unwrap();
        assert_eq!(found, Destination { url: "https://s.n.svc:443/p".into(), service: true, ca_bundle: b"x".into() });
        let url = Destination::from_client_config(&json!({"url": "https://h/x"})).unwrap();
        assert_eq!((url.url.as_str(), url.service), ("https://h/x", false));
        assert!(Destination::from_client_config(&json!({})).is_err());
    }

    #[test]
    fn refusals_tell_what_the_server_said() {
        let status = json!({"kind": "Status", "message": "no"}).to_string();
        assert_eq!(refusal(StatusCode::FORBIDDEN, status.as_bytes()), "no");
        assert!(refusal(StatusCode::NOT_FOUND, b"").contains("could not find"));
        assert!(refusal(StatusCode::BAD_GATEWAY, b"x").contains("status code 502"));
    }
}
