//! Plain HTTP to a Kubernetes API: requests and their answers, bodies as JSON values. It knows nothing of any server.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::kubeconfig::Kubeconfig;
use crate::watch::Watch;

pub const JSON: &str = "application/json";
pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    server: String,
    headers: HeaderMap,
}

/// What came back, whatever it says.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// `GET /api/v1/…`, for messages.
    pub request: String,
}

impl Client {
    /// As the kubeconfig's user.
    pub fn new(config: &Kubeconfig) -> Result<Self> {
        let mut builder = base(config)?;
        if let Some(identity) = &config.identity {
            builder = builder
                .identity(reqwest::Identity::from_pem(identity).context("the client certificate is not readable")?);
        }
        let client = Client { http: builder.build()?, server: config.server.clone(), headers: HeaderMap::new() };
        match &config.token {
            Some(token) => client.with("authorization", &format!("Bearer {token}")),
            None => Ok(client),
        }
    }

    /// Without any credentials.
    pub fn anonymous(config: &Kubeconfig) -> Result<Self> {
        Ok(Client { http: base(config)?.build()?, server: config.server.clone(), headers: HeaderMap::new() })
    }

    /// The same client with one more header on each request.
    pub fn with(&self, name: &str, value: &str) -> Result<Self> {
        let mut client = self.clone();
        client.headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        Ok(client)
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let request = format!("{method} {path}");
        let response = self
            .builder(method, path, headers)?
            .body(body.into())
            .timeout(Duration::from_secs(90))
            .send()
            .await
            .with_context(|| request.clone())?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| format!("the body of {request}"))?;
        Ok(Answer { status, headers, body, request })
    }

    fn builder(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<reqwest::RequestBuilder> {
        let method = Method::from_bytes(method.as_bytes())?;
        let mut all = self.headers.clone();
        for (name, value) in headers {
            all.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        Ok(self.http.request(method, format!("{}{path}", self.server)).headers(all))
    }

    /// One request with a JSON body (`Null`: none).
    pub async fn call(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Answer> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &[("content-type", kind), ("accept", JSON)], body).await
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, JSON, &Value::Null).await?.ok()
    }

    /// `None` where there is no such thing.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.call("GET", path, JSON, &Value::Null).await?;
        if answer.status == 404 { Ok(None) } else { answer.ok().map(Some) }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, JSON, body).await?.ok()
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("PUT", path, JSON, body).await?.ok()
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Result<Value> {
        self.call("PATCH", path, kind, body).await?.ok()
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.call("DELETE", path, JSON, options).await?.ok()
    }

    /// Opens a watch: `path` is a collection's, its query without `watch=true`.
    pub async fn watch(&self, path: &str) -> Result<Watch> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}watch=true");
        let response = self.builder("GET", &path, &[("accept", JSON)])?.send().await.with_context(|| path.clone())?;
        if !response.status().is_success() {
            bail!("GET {path}: {} {}", response.status(), response.text().await.unwrap_or_default());
        }
        Ok(Watch::new(response, path))
    }
}

fn base(config: &Kubeconfig) -> Result<reqwest::ClientBuilder> {
    let mut builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(config.insecure);
    if let Some(ca) = &config.ca {
        builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(ca)?);
    }
    Ok(builder.no_proxy().tcp_nodelay(true).connect_timeout(Duration::from_secs(10)))
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: no JSON: {}", self.request, shorten(&self.text())))
    }

    /// The body of a success.
    pub fn ok(&self) -> Result<Value> {
        ensure!((200..300).contains(&self.status), "{}: {} {}", self.request, self.status, shorten(&self.text()));
        self.json()
    }

    /// The Status of a refusal with this code, whose message holds this text.
    pub fn refused(&self, status: u16, text: &str) -> Result<Value> {
        ensure!(
            self.status == status,
            "{}: expected {status} with {text:?}, got {} {}",
            self.request,
            self.status,
            shorten(&self.text())
        );
        let body = self.json()?;
        let message = body["message"].as_str().unwrap_or_default();
        ensure!(message.contains(text), "{}: expected a message with {text:?}, got {message:?}", self.request);
        Ok(body)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// As much of a body as a message bears.
pub fn shorten(text: &str) -> String {
    let mut end = text.len().min(1500);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim_end().to_owned()
}
