//! Service-account tokens (KEP-1205): issued by TokenRequest, believed while the account, and the pod they are bound to, exist.

use anyhow::{Context, bail};
use machinery::value::{get, str_at};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::jwt;
use crate::{core::Core, identity::Identity};

/// A token dies this long after its bound object was deleted: the pod may still be stopping.
const DELETED_LEEWAY: Duration = Duration::seconds(60);
/// Clocks of signers and verifiers may differ.
const CLOCK_LEEWAY: i64 = 10;

pub struct Accepted {
    pub identity: Identity,
    /// Those of the wanted audiences that the token names.
    pub audiences: Vec<String>,
}

/// The object a token dies with.
pub struct Bound {
    pub kind: &'static str,
    pub name: String,
    pub uid: String,
    /// For a pod that is on a node.
    pub node: Option<(String, String)>,
}

pub struct Grant<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub audiences: &'a [String],
    pub seconds: i64,
    pub bound: Option<&'a Bound>,
}

/// Makes a token; also when it expires.
pub fn issue(core: &Core, grant: &Grant<'_>) -> anyhow::Result<(String, OffsetDateTime)> {
    let now = OffsetDateTime::now_utc();
    let expires = now + Duration::seconds(grant.seconds);
    let mut kubernetes = json!({
        "namespace": grant.namespace,
        "serviceaccount": {"name": grant.name, "uid": grant.uid},
    });
    if let Some(bound) = grant.bound {
        kubernetes[bound.kind.to_ascii_lowercase()] = json!({"name": bound.name, "uid": bound.uid});
        if let Some((name, uid)) = &bound.node {
            kubernetes["node"] = json!({"name": name, "uid": uid});
        }
    }
    let claims = json!({
        "iss": core.config.service_account_issuer,
        "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.name),
        "aud": grant.audiences,
        "exp": expires.unix_timestamp(),
        "iat": now.unix_timestamp(),
        "nbf": now.unix_timestamp(),
        "jti": machinery::names::uid(),
        "kubernetes.io": kubernetes,
    });
    Ok((jwt::sign(&core.signing_key, &claims)?, expires))
}

pub async fn authenticate(core: &Core, token: &str, wanted: &[String]) -> anyhow::Result<Accepted> {
    let claims = jwt::verify(&core.verifying_keys, token)?;
    let audiences = check_claims(&claims, &core.config.service_account_issuer, wanted)?;
    let about = &claims["kubernetes.io"];
    let (namespace, name) = (str_at(about, "namespace"), str_at(about, "serviceaccount.name"));
    if str_at(&claims, "sub") != format!("system:serviceaccount:{namespace}:{name}") {
        bail!("the token's subject is not its service account");
    }
    let uid = str_at(about, "serviceaccount.uid");
    check_alive(core, "serviceaccounts", namespace, name, uid).await?;
    let mut identity = Identity::new(
        format!("system:serviceaccount:{namespace}:{name}"),
        ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
    );
    identity.uid = uid.to_owned();
    add_extra(&mut identity, "credential-id", claims["jti"].as_str().map(|id| format!("JTI={id}")));
    for (kind, resource) in [("pod", "pods"), ("secret", "secrets")] {
        let Some(bound) = get(about, kind) else { continue };
        check_alive(core, resource, namespace, str_at(bound, "name"), str_at(bound, "uid")).await?;
        if kind == "pod" {
            add_extra(&mut identity, "pod-name", bound["name"].as_str().map(Into::into));
            add_extra(&mut identity, "pod-uid", bound["uid"].as_str().map(Into::into));
        }
    }
    if let Some(node) = get(about, "node") {
        if get(about, "pod").is_none() {
            check_alive(core, "nodes", "", str_at(node, "name"), str_at(node, "uid")).await?;
        }
        add_extra(&mut identity, "node-name", node["name"].as_str().map(Into::into));
        add_extra(&mut identity, "node-uid", node["uid"].as_str().map(Into::into));
    }
    Ok(Accepted { identity, audiences })
}

fn add_extra(identity: &mut Identity, key: &str, value: Option<String>) {
    if let Some(value) = value {
        identity.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    }
}

/// Issuer, times and audiences; returns the audiences both sides name.
fn check_claims(claims: &Value, issuer: &str, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    if claims["iss"].as_str() != Some(issuer) {
        bail!("the token was issued by somebody else");
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    if claims["exp"].as_i64().is_none_or(|exp| exp + CLOCK_LEEWAY < now) {
        bail!("the token has expired");
    }
    if claims["nbf"].as_i64().is_some_and(|nbf| nbf - CLOCK_LEEWAY > now) {
        bail!("the token is not valid yet");
    }
    let named: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let common: Vec<String> = wanted.iter().filter(|w| named.contains(&w.as_str())).cloned().collect();
    if common.is_empty() {
        bail!("the token is for other audiences: {named:?}");
    }
    Ok(common)
}

/// The object must be there with the same uid, and not deleted for long.
async fn check_alive(core: &Core, plural: &str, namespace: &str, name: &str, uid: &str) -> anyhow::Result<()> {
    let resource = crate::registry::find("", "v1", plural).context("unknown kind")?;
    let stored = crate::registry::read(core, resource, namespace, name)
        .await
        .map_err(|_| anyhow::anyhow!("{plural} {namespace}/{name} is gone"))?;
    if str_at(&stored.object, "metadata.uid") != uid {
        bail!("{plural} {namespace}/{name} is another one now");
    }
    let deleted = machinery::time::parse(str_at(&stored.object, "metadata.deletionTimestamp"));
    if deleted.is_some_and(|at| at + DELETED_LEEWAY < OffsetDateTime::now_utc()) {
        bail!("{plural} {namespace}/{name} has been deleted");
    }
    Ok(())
}
