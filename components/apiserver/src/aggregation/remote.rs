//! An extension server, as its APIService names it.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use machinery::value::{bool_at, int_at, str_at};
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    identity,
    offered::Offered,
    transport::{HttpsClient, Transport, Trust},
};
use crate::{callback::tls, http::RequestBody, identity::Identity};

const DEFAULT_PORT: i64 = 443;
/// For what this server itself asks.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;

pub struct Remote {
    /// Of the APIService.
    pub name: String,
    pub group: String,
    pub version: String,
    /// The Service.
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// What of the APIService decides about connections.
    source: Value,
    /// Or why there are none.
    client: Result<HttpsClient, String>,
    offered: RwLock<Arc<Offered>>,
    /// Status and reason that were found last.
    verdict: Mutex<Option<(String, String)>>,
    /// Asks for another look at it.
    pub check: Notify,
    /// The APIService is gone, or names another server now.
    pub ended: CancellationToken,
}

/// An answer to this server itself.
pub struct Fetched {
    pub status: StatusCode,
    pub media: String,
    pub etag: Option<String>,
    pub body: Bytes,
}

impl Fetched {
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// A body that says nothing.
pub fn no_body() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn source(object: &Value) -> Value {
    let spec = &object["spec"];
    json!([spec["service"], spec["caBundle"], spec["insecureSkipTLSVerify"], spec["group"], spec["version"]])
}

impl Remote {
    /// `None` if the APIService is served here.
    pub fn new(name: &str, object: &Value, transport: &Transport) -> Option<Self> {
        let service = object["spec"].get("service").filter(|it| it.is_object())?;
        let bundle = STANDARD.decode(str_at(object, "spec.caBundle")).map_err(|e| e.to_string());
        let client = match bool_at(object, "spec.insecureSkipTLSVerify") {
            true => transport.client(Trust::Anybody),
            false => bundle
                .map_err(|e| format!("unable to load root certificates: {e}"))
                .and_then(|bundle| transport.client(Trust::Bundle(&bundle))),
        };
        Some(Remote {
            name: name.to_owned(),
            group: str_at(object, "spec.group").to_owned(),
            version: str_at(object, "spec.version").to_owned(),
            namespace: str_at(service, "namespace").to_owned(),
            service: str_at(service, "name").to_owned(),
            port: u16::try_from(int_at(service, "port").unwrap_or(DEFAULT_PORT)).unwrap_or_default(),
            source: source(object),
            client,
            offered: RwLock::default(),
            verdict: Mutex::default(),
            check: Notify::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Whether another state of the APIService means the same server.
    pub fn is_of(&self, object: &Value) -> bool {
        self.source == source(object)
    }

    /// `/apis/GROUP/VERSION`.
    pub fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    pub fn offered(&self) -> Arc<Offered> {
        self.offered.read().clone()
    }

    pub fn offer(&self, offered: Offered) {
        *self.offered.write() = Arc::new(offered);
    }

    /// What the keeper found, before it is written down.
    pub fn found(&self, status: &str, reason: &str) {
        *self.verdict.lock() = Some((status.to_owned(), reason.to_owned()));
    }

    /// What is written down; the keeper looks again if that is not what it found.
    pub fn told(&self, written: Option<&(String, String)>) {
        let found = self.verdict.lock();
        if found.is_some() && found.as_ref() != written {
            self.check.notify_one();
        }
    }

    pub fn client(&self) -> Result<&HttpsClient, &str> {
        self.client.as_ref().map_err(String::as_str)
    }

    /// The URL of a path (with query) there; its host is the name its certificate must have.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("https://{}.{}.svc:{}{path_and_query}", self.service, self.namespace, self.port)
    }

    /// Asks for a document in this server's own name.
    pub async fn fetch(&self, path: &str, accept: &str, etag: Option<&str>, who: &Identity) -> Result<Fetched, String> {
        let mut headers = HeaderMap::new();
        identity::introduce(&mut headers, who).map_err(|e| e.to_string())?;
        let mut request =
            http::Request::builder().method(Method::GET).uri(self.url(path)).header(header::ACCEPT, accept);
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(all) = request.headers_mut() {
            all.extend(headers);
        }
        let request = request.body(no_body()).map_err(|e| e.to_string())?;
        let exchange = async {
            let answer = self.client.as_ref()?.request(request).await.map_err(|e| tls::describe(&e))?;
            read(answer).await
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("request timed out".into()))
    }
}

async fn read(answer: http::Response<Incoming>) -> Result<Fetched, String> {
    let (head, body) = answer.into_parts();
    let text = |name: header::HeaderName| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|e| e.to_string())?.to_bytes();
    Ok(Fetched {
        status: head.status,
        media: text(header::CONTENT_TYPE).unwrap_or_default(),
        etag: text(header::ETAG),
        body,
    })
}
