//! Version, health, metrics and the OpenID documents.

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    http::{Response, respond},
    metrics,
    pipeline::Call,
};

pub const GIT_VERSION: &str = "v1.37.0+kinstall";
/// As Go names them.
pub const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

pub fn version() -> Value {
    json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37", "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": GIT_VERSION, "gitCommit": env!("CARGO_PKG_VERSION"), "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": PLATFORM,
    })
}

pub async fn answer(call: &Call) -> Option<Response> {
    let path = call.info.path.as_str();
    let response = match path {
        "/version" | "/version/" => respond::json(StatusCode::OK, &version()),
        "/metrics" => respond::bytes(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics::render(&call.core).await,
        ),
        "/.well-known/openid-configuration" | "/.well-known/openid-configuration/" => {
            issuer_document("application/json", &issuer(call))
        }
        "/openid/v1/jwks" | "/openid/v1/jwks/" => {
            let keys: Vec<Value> =
                call.core.verifying_keys.iter().map(crate::authn::keys::VerifyingKey::to_jwk).collect();
            issuer_document("application/jwk-set+json", &json!({"keys": keys}))
        }
        _ => {
            let (kind, check) = ["/healthz", "/livez", "/readyz"]
                .iter()
                .find_map(|k| path.strip_prefix(k).map(|rest| (&k[1..], rest)))?;
            health(call, kind, check.strip_prefix('/').or_else(|| check.is_empty().then_some(""))?).await?
        }
    };
    Some(response)
}

/// What relying parties of service-account tokens need to know (OpenID Connect Discovery).
fn issuer(call: &Call) -> Value {
    let config = &call.core.config;
    let issuer = &config.service_account_issuer;
    let keys = config
        .service_account_jwks_uri
        .clone()
        .unwrap_or_else(|| format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')));
    let mut algorithms: Vec<&str> = call.core.verifying_keys.iter().map(|key| key.algorithm.name()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    json!({
        "issuer": issuer, "jwks_uri": keys, "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": algorithms,
    })
}

/// Others may keep these for an hour, as upstream says.
fn issuer_document(media: &'static str, document: &Value) -> Response {
    let mut response = respond::bytes(StatusCode::OK, media, document.to_string().into_bytes());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

/// How long the store may take to say that it works; shorter than those wait who ask (upstream: `--etcd-readycheck-timeout`).
const STORE: Duration = Duration::from_millis(1500);

/// Name and outcome of each check. The store's has upstream's name whichever store it is.
async fn checks(call: &Call, kind: &str) -> Vec<(&'static str, bool)> {
    let stores = tokio::time::timeout(STORE, call.core.store.ready()).await;
    let mut checks = vec![("ping", true), ("etcd", matches!(stores, Ok(Ok(()))))];
    if kind == "readyz" {
        // the listener opens only after bootstrap, so answering at all means that it is done
        checks.push(("poststarthook/bootstrap", true));
        checks.push(("shutdown", !call.core.leaving.is_cancelled()));
    }
    checks
}

async fn health(call: &Call, kind: &str, only: &str) -> Option<Response> {
    let mut checks = checks(call, kind).await;
    if !only.is_empty() {
        checks.retain(|(name, _)| *name == only);
        if checks.is_empty() {
            return None;
        }
    }
    let passed = checks.iter().all(|(_, ok)| *ok);
    if passed && !call.query.has("verbose") {
        return Some(respond::text(StatusCode::OK, "ok"));
    }
    let mut text: String = checks
        .iter()
        .map(|(name, ok)| if *ok { format!("[+]{name} ok\n") } else { format!("[-]{name} failed: reason withheld\n") })
        .collect();
    text.push_str(&format!("{kind} check {}\n", if passed { "passed" } else { "failed" }));
    Some(respond::text(if passed { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, text))
}
