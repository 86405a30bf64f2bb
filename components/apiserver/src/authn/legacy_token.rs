//! Tokens that lie in Secrets of type kubernetes.io/service-account-token: they name no audience and never expire, and are believed
//! while their Secret holds them (upstream: pkg/serviceaccount/legacy.go). Admission puts them there.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use machinery::value::str_at;
use serde_json::{Value, json};

use super::{Accepted, Refused, jwks::Parts, jwt, service_account};
use crate::core::Core;

pub const TYPE: &str = "kubernetes.io/service-account-token";
const ISSUER: &str = "kubernetes/serviceaccount";
/// How long one look at the token is good for; its objects are asked about each time.
const LONG: i64 = 3600;

const NAMESPACE: &str = "kubernetes.io/serviceaccount/namespace";
const SECRET: &str = "kubernetes.io/serviceaccount/secret.name";
const NAME: &str = "kubernetes.io/serviceaccount/service-account.name";
const UID: &str = "kubernetes.io/serviceaccount/service-account.uid";

/// The token of one Secret.
pub fn issue(core: &Core, namespace: &str, secret: &str, account: &str, uid: &str) -> anyhow::Result<String> {
    let claims = json!({
        "iss": ISSUER, "sub": format!("system:serviceaccount:{namespace}:{account}"),
        NAMESPACE: namespace, SECRET: secret, NAME: account, UID: uid,
    });
    jwt::sign(&core.signing_key, &claims)
}

pub async fn authenticate(core: &Core, token: &str, wanted: &[String]) -> Result<Accepted, Refused> {
    let Ok(parts) = Parts::of(token) else { return Err(Refused::NotMine) };
    if str_at(&parts.claims, "iss") != ISSUER {
        return Err(Refused::NotMine);
    }
    let claims = jwt::verify(&core.verifying_keys, token)?;
    let text = |key: &str| claims.get(key).and_then(Value::as_str).unwrap_or_default();
    let (namespace, account, secret) = (text(NAMESPACE), text(NAME), text(SECRET));
    if text("sub") != format!("system:serviceaccount:{namespace}:{account}") {
        return Err("sub claim does not match the service account".to_owned().into());
    }
    let own = core.config.audiences();
    let audiences: Vec<String> = wanted.iter().filter(|w| own.contains(w)).cloned().collect();
    if audiences.is_empty() {
        return Err(format!("token audiences {own:?} is invalid for the target audiences {wanted:?}").into());
    }
    let (holder, proof) = service_account::existing(core, "secrets", namespace, secret).await?;
    let held = str_at(&holder, "data.token");
    let deleted = !str_at(&holder, "metadata.deletionTimestamp").is_empty();
    if deleted || STANDARD.decode(held).ok().as_deref() != Some(token.as_bytes()) {
        return Err("service account token has been invalidated".to_owned().into());
    }
    let alive = service_account::alive(core, "serviceaccounts", namespace, account, text(UID)).await?;
    Ok(Accepted {
        identity: Arc::new(service_account::identity(namespace, account, text(UID))),
        audiences,
        until: alive.until.min(super::now() + LONG),
        proofs: vec![proof, alive.proof],
    })
}
