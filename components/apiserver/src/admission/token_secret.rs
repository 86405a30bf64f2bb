//! Secrets of type kubernetes.io/service-account-token get their account's token when they are made.
//!
//! Upstream's controller fills them in a moment later; here nobody ever sees one without its token.

use base64::{Engine, engine::general_purpose::STANDARD};
use machinery::{ApiError, value::str_at};
use serde_json::Value;

use super::{Attempt, Operation};
use crate::{authn::legacy_token, registry};

const ACCOUNT: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const ROOT_CA: &str = "kube-root-ca.crt";

pub async fn fill(attempt: &Attempt<'_>, secret: &mut Value) -> Result<(), ApiError> {
    if !attempt.is(Operation::Create, "", "secrets") || str_at(secret, "type") != legacy_token::TYPE {
        return Ok(());
    }
    let annotation = |key: &str| secret["metadata"]["annotations"].get(key).and_then(Value::as_str).unwrap_or_default();
    let (account, wanted) = (annotation(ACCOUNT).to_owned(), annotation(UID).to_owned());
    let (core, namespace) = (&attempt.call.core, attempt.target.namespace.as_str());
    let Some(accounts) = registry::find("", "v1", "serviceaccounts") else { return Ok(()) };
    // of an account that is not there it stays empty, and opens nothing
    let Ok(found) = registry::read(core, accounts, namespace, &account).await else { return Ok(()) };
    let uid = str_at(&found.object, "metadata.uid").to_owned();
    if !wanted.is_empty() && wanted != uid {
        return Ok(());
    }
    let name = attempt.target.name.as_str();
    let token = legacy_token::issue(core, namespace, name, &account, &uid).map_err(ApiError::internal)?;
    let authority = match registry::find("", "v1", "configmaps") {
        Some(maps) => registry::read(core, maps, namespace, ROOT_CA).await.ok(),
        None => None,
    };
    secret["metadata"]["annotations"][UID] = uid.into();
    if !secret["data"].is_object() {
        secret["data"] = Value::Object(serde_json::Map::new());
    }
    let mut set = |key: &str, text: &str| {
        if secret["data"].get(key).is_none() {
            secret["data"][key] = STANDARD.encode(text).into();
        }
    };
    set("token", &token);
    set("namespace", namespace);
    if let Some(text) = authority.as_ref().and_then(|map| map.object["data"]["ca.crt"].as_str()) {
        set("ca.crt", text);
    }
    Ok(())
}
