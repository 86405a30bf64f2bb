//! Service-account tokens (KEP-1205): issued by TokenRequest, believed while the account, and what they are bound to, exist.

use std::sync::Arc;

use machinery::value::{get, str_at};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{Accepted, CREDENTIAL_ID, Proof, Refused, jwks::Parts, jwt};
use crate::{core::Core, identity::Identity, registry};

/// A token dies this long after its bound object was deleted: the pod may still be stopping.
const DELETED_LEEWAY: Duration = Duration::seconds(60);
/// Clocks of signers and verifiers may differ.
const CLOCK_LEEWAY: i64 = 60;

const INVALIDATED: &str = "service account token has been invalidated";

/// The object a token dies with.
pub struct Bound {
    pub kind: &'static str,
    pub name: String,
    pub uid: String,
    /// For a pod that is on a node: its name and, if the node exists, its uid.
    pub node: Option<(String, String)>,
}

pub struct Grant<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub audiences: &'a [String],
    /// How long the token holds.
    pub seconds: i64,
    /// After how long its use is remarkable, though it still holds.
    pub warn_after: Option<i64>,
    pub bound: Option<&'a Bound>,
}

/// Makes a token; also its identifier.
pub fn issue(core: &Core, grant: &Grant<'_>) -> anyhow::Result<(String, String)> {
    let now = super::now();
    let mut kubernetes = json!({
        "namespace": grant.namespace,
        "serviceaccount": {"name": grant.name, "uid": grant.uid},
    });
    if let Some(bound) = grant.bound {
        kubernetes[bound.kind.to_ascii_lowercase()] = json!({"name": bound.name, "uid": bound.uid});
        if let Some((name, uid)) = &bound.node {
            kubernetes["node"] = match uid.is_empty() {
                true => json!({"name": name}),
                false => json!({"name": name, "uid": uid}),
            };
        }
    }
    if let Some(after) = grant.warn_after {
        kubernetes["warnafter"] = (now + after).into();
    }
    let id = machinery::names::uid();
    let claims = json!({
        "iss": core.config.service_account_issuer,
        "sub": username(grant.namespace, grant.name),
        "aud": grant.audiences,
        "exp": now + grant.seconds,
        "iat": now,
        "nbf": now,
        "jti": id,
        "kubernetes.io": kubernetes,
    });
    Ok((jwt::sign(&core.signing_key, &claims)?, id))
}

fn username(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

pub fn identity(namespace: &str, name: &str, uid: &str) -> Identity {
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    Identity { uid: uid.to_owned(), ..Identity::new(username(namespace, name), groups) }
}

pub async fn authenticate(core: &Core, token: &str, wanted: &[String]) -> Result<Accepted, Refused> {
    let Ok(parts) = Parts::of(token) else { return Err(Refused::NotMine) };
    let issuer = &core.config.service_account_issuer;
    if str_at(&parts.claims, "iss") != issuer {
        return Err(Refused::NotMine);
    }
    let claims = jwt::verify(&core.verifying_keys, token)?;
    let audiences = check_claims(&claims, wanted)?;
    let about = &claims["kubernetes.io"];
    let (namespace, name) = (str_at(about, "namespace"), str_at(about, "serviceaccount.name"));
    if str_at(&claims, "sub") != username(namespace, name) {
        return Err("the token's subject is not its service account".to_owned().into());
    }
    let uid = str_at(about, "serviceaccount.uid");
    let mut alive_all = vec![alive(core, "serviceaccounts", namespace, name, uid).await?];
    let mut identity = identity(namespace, name, uid);
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            identity.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    for (kind, resource) in [("pod", "pods"), ("secret", "secrets"), ("node", "nodes")] {
        let Some(bound) = get(about, kind) else { continue };
        let (name, uid) = (str_at(bound, "name"), str_at(bound, "uid"));
        // the node of a pod is told, not asked about: the token lives with the pod
        if kind != "node" || get(about, "pod").is_none() {
            let namespace = if kind == "node" { "" } else { namespace };
            alive_all.push(alive(core, resource, namespace, name, uid).await?);
        }
        if kind != "secret" {
            add(&format!("{kind}-name"), name);
            add(&format!("{kind}-uid"), uid);
        }
    }
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        identity.extra.insert(CREDENTIAL_ID.into(), vec![format!("JTI={id}")]);
    }
    let expires = claims["exp"].as_i64().unwrap_or_default() + CLOCK_LEEWAY;
    Ok(Accepted {
        identity: Arc::new(identity),
        audiences,
        until: alive_all.iter().map(|a| a.until).fold(expires, i64::min),
        proofs: alive_all.into_iter().map(|a| a.proof).collect(),
    })
}

/// Times and audiences of verified claims; returns the audiences both sides name.
fn check_claims(claims: &Value, wanted: &[String]) -> Result<Vec<String>, String> {
    let now = super::now();
    if claims["exp"].as_i64().is_none_or(|exp| exp + CLOCK_LEEWAY < now) {
        return Err("service account token has expired".into());
    }
    if claims["nbf"].as_i64().is_some_and(|nbf| nbf - CLOCK_LEEWAY > now) {
        return Err("service account token is not valid yet".into());
    }
    let named: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let common: Vec<String> = wanted.iter().filter(|w| named.contains(&w.as_str())).cloned().collect();
    if common.is_empty() {
        let quoted = |list: Vec<&str>| list.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(" ");
        return Err(format!(
            "token audiences [{}] is invalid for the target audiences [{}]",
            quoted(named),
            quoted(wanted.iter().map(String::as_str).collect())
        ));
    }
    Ok(common)
}

/// An object that is there, and until when that is enough.
pub struct Alive {
    pub proof: Proof,
    pub until: i64,
}

pub async fn existing(core: &Core, plural: &str, namespace: &str, name: &str) -> Result<(Value, Proof), String> {
    let resource = registry::find("", "v1", plural).ok_or_else(|| INVALIDATED.to_owned())?;
    let stored = registry::read(core, resource, namespace, name).await.map_err(|_| INVALIDATED.to_owned())?;
    let proof = Proof { key: registry::key(resource, namespace, name), revision: Some(stored.revision) };
    Ok((stored.object, proof))
}

/// The object must be there with the same uid, and not deleted for long.
pub async fn alive(core: &Core, plural: &str, namespace: &str, name: &str, uid: &str) -> Result<Alive, String> {
    let (object, proof) = existing(core, plural, namespace, name).await?;
    if str_at(&object, "metadata.uid") != uid {
        return Err(INVALIDATED.into());
    }
    let until = match machinery::time::parse(str_at(&object, "metadata.deletionTimestamp")) {
        Some(deleted) if deleted + DELETED_LEEWAY < OffsetDateTime::now_utc() => return Err(INVALIDATED.into()),
        Some(deleted) => (deleted + DELETED_LEEWAY).unix_timestamp(),
        None => i64::MAX,
    };
    Ok(Alive { proof, until })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_and_audiences() {
        let now = crate::authn::now();
        let wanted = ["a".to_owned(), "b".to_owned()];
        let check = |claims: Value| check_claims(&claims, &wanted);
        assert_eq!(check(json!({"exp": now + 9, "aud": ["b", "c"]})).unwrap(), ["b"]);
        assert_eq!(check(json!({"exp": now - 99, "aud": "a"})).unwrap_err(), "service account token has expired");
        assert_eq!(
            check(json!({"exp": now + 999, "nbf": now + 99, "aud": "a"})).unwrap_err(),
            "service account token is not valid yet"
        );
        assert_eq!(
            check(json!({"exp": now + 9, "aud": ["c"]})).unwrap_err(),
            "token audiences [\"c\"] is invalid for the target audiences [\"a\" \"b\"]"
        );
        assert!(check(json!({"aud": "a"})).is_err(), "a token without an end is none");
    }
}
