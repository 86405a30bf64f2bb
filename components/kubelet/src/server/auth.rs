//! Who calls port 10250, and may they? Client certificates or tokens; SubjectAccessReview decides.
//!
//! Upstream: `pkg/kubelet/server/auth.go`, KEP-2862 (fine-grained permissions).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

const TOKEN_CACHED: Duration = Duration::from_secs(120);
const ALLOWED_CACHED: Duration = Duration::from_secs(300);
const DENIED_CACHED: Duration = Duration::from_secs(30);
const CACHE: usize = 1024;
/// Members may do everything; upstream's authorizer answers without looking, too.
const MASTERS: &str = "system:masters";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

/// An answer and how long it counts.
type Until<T> = (T, Instant);
/// Who, which verb, which subresource.
type Asked = (User, String, String);

pub struct Auth {
    client: kube::Client,
    node: String,
    tokens: Mutex<HashMap<[u8; 32], Until<Option<User>>>>,
    decisions: Mutex<HashMap<Asked, Until<bool>>>,
}

impl Auth {
    pub fn new(client: kube::Client, node: String) -> Auth {
        Auth { client, node, tokens: Mutex::default(), decisions: Mutex::default() }
    }

    /// From a client certificate in DER.
    pub fn certificate(der: &[u8]) -> Option<User> {
        use base64::Engine;
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            base64::engine::general_purpose::STANDARD.encode(der)
        );
        let info = certs::inspect(&pem).ok()?;
        Some(User { name: info.subject.common_name, groups: info.subject.organizations })
    }

    pub async fn token(&self, token: &str) -> Result<Option<User>> {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some((user, until)) = self.tokens.lock().get(&key)
            && *until > Instant::now()
        {
            return Ok(user.clone());
        }
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let spec = TokenReviewSpec { token: token.to_string(), ..Default::default() };
        let review = TokenReview { spec, ..Default::default() };
        let answer = api.create(&PostParams::default(), &review).await.context("cannot have the token reviewed")?;
        let status = answer.status.unwrap_or_default();
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .map(|user| User { name: user.username.unwrap_or_default(), groups: user.groups.unwrap_or_default() });
        let mut tokens = self.tokens.lock();
        if tokens.len() > CACHE {
            tokens.clear();
        }
        tokens.insert(key, (user.clone(), Instant::now() + TOKEN_CACHED));
        Ok(user)
    }

    pub async fn authorize(&self, user: &User, method: &http::Method, path: &str) -> Result<()> {
        if user.groups.iter().any(|g| g == MASTERS) {
            return Ok(());
        }
        let verb = verb(method);
        for subresource in subresources(path) {
            if self.review(user, verb, subresource).await? {
                return Ok(());
            }
        }
        bail!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)={:?})", user.name, subresources(path))
    }

    async fn review(&self, user: &User, verb: &str, subresource: &str) -> Result<bool> {
        let key = (user.clone(), verb.to_string(), subresource.to_string());
        if let Some((allowed, until)) = self.decisions.lock().get(&key)
            && *until > Instant::now()
        {
            return Ok(*allowed);
        }
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.into()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(subresource.into()),
                    name: Some(self.node.clone()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let answer = api.create(&PostParams::default(), &review).await.context("cannot have the access reviewed")?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let mut decisions = self.decisions.lock();
        if decisions.len() > CACHE {
            decisions.clear();
        }
        let cached = if allowed { ALLOWED_CACHED } else { DENIED_CACHED };
        decisions.insert(key, (allowed, Instant::now() + cached));
        Ok(allowed)
    }
}

fn verb(method: &http::Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    }
}

/// The permissions any of which is enough, the narrowest first.
fn subresources(path: &str) -> Vec<&'static str> {
    let under = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    if under("/stats") {
        vec!["stats"]
    } else if under("/metrics") {
        vec!["metrics"]
    } else if under("/logs") {
        vec!["log"]
    } else if under("/checkpoint") {
        vec!["checkpoint"]
    } else if under("/healthz") {
        vec!["healthz", "proxy"]
    } else if under("/pods") || under("/runningpods") {
        vec!["pods", "proxy"]
    } else if under("/configz") {
        vec!["configz", "proxy"]
    } else {
        vec!["proxy"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ask_for_the_narrowest_permission() {
        assert_eq!(subresources("/stats/summary"), ["stats"]);
        assert_eq!(subresources("/metrics"), ["metrics"]);
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!(subresources("/exec/a/b/c"), ["proxy"]);
        assert_eq!(subresources("/statsx"), ["proxy"]);
    }
}
