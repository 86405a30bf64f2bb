//! ID tokens of an OpenID Connect provider (upstream: plugin/pkg/authenticator/token/oidc).
//!
//! The provider's documents are fetched when the first of its tokens comes, again when a token names a key that is not known, and
//! from time to time so that keys it withdrew are forgotten.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use machinery::value::str_at;
use parking_lot::RwLock;
use serde_json::Value;

use super::{
    Accepted, CREDENTIAL_ID, Refused,
    jwks::{self, KeySet, Parts},
    now,
};
use crate::{config::Oidc, identity::Identity, tls};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const PATIENCE: Duration = Duration::from_secs(10);
/// Tokens with made-up key names do not make us ask the provider more often than this.
const PAUSE: Duration = Duration::from_millis(500);
const REFRESH: Duration = Duration::from_secs(600);
const DOCUMENT_LIMIT: usize = 1024 * 1024;
/// As upstream's cache: a believed token is looked at again after this many seconds.
const BELIEF: i64 = 10;

type Fetcher = Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>;

struct Fetched {
    keys: Arc<KeySet>,
    at: Instant,
}

pub struct Provider {
    config: Oidc,
    fetcher: Fetcher,
    fetched: RwLock<Option<Fetched>>,
    /// One fetch at a time.
    fetching: tokio::sync::Mutex<()>,
}

impl Provider {
    pub fn from_config(config: Oidc) -> anyhow::Result<Self> {
        if !config.issuer_url.starts_with("https://") {
            bail!("oidc.issuerUrl {:?} must begin with https://", config.issuer_url);
        }
        if config.client_id.is_empty() {
            bail!("oidc.clientId must not be empty");
        }
        if let Some(unknown) = config.signing_algs.iter().find(|a| !jwks::is_known(a)) {
            bail!("oidc.signingAlgs: {unknown:?} is not supported");
        }
        let mut roots = rustls::RootCertStore::empty();
        let authorities = match &config.ca_file {
            Some(file) => tls::certificates(file)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(authorities);
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector =
            hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        let fetcher = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Provider { config, fetcher, fetched: RwLock::new(None), fetching: tokio::sync::Mutex::default() })
    }

    pub async fn authenticate(&self, token: &str) -> Result<Accepted, Refused> {
        let Ok(parts) = Parts::of(token) else { return Err(Refused::NotMine) };
        if str_at(&parts.claims, "iss") != self.config.issuer_url {
            return Err(Refused::NotMine);
        }
        self.verify(&parts).await?;
        let until = check_claims(&self.config, &parts.claims).map_err(|e| format!("oidc: verify token: {e}"))?;
        let identity = identity(&self.config, &parts.claims).map_err(|e| format!("oidc: {e}"))?;
        Ok(Accepted {
            identity: Arc::new(identity),
            audiences: Vec::new(),
            until: until.min(now() + BELIEF),
            proofs: Vec::new(),
        })
    }

    async fn verify(&self, parts: &Parts<'_>) -> anyhow::Result<()> {
        let algorithm = parts.algorithm();
        if !self.config.signing_algs.iter().any(|a| a == algorithm) {
            bail!(
                "oidc: id token signed with unsupported algorithm, expected {:?} got {algorithm:?}",
                self.config.signing_algs
            );
        }
        if self.known(REFRESH).is_some_and(|keys| parts.verified_by(&keys)) {
            return Ok(());
        }
        let keys = self.fetch().await.context("oidc: fetching keys")?;
        if !parts.verified_by(&keys) {
            bail!("oidc: verify token: failed to verify signature: failed to verify id token signature");
        }
        Ok(())
    }

    fn known(&self, not_older: Duration) -> Option<Arc<KeySet>> {
        self.fetched.read().as_ref().filter(|f| f.at.elapsed() < not_older).map(|f| f.keys.clone())
    }

    async fn fetch(&self) -> anyhow::Result<Arc<KeySet>> {
        let _one = self.fetching.lock().await;
        // whoever waited here has what the other fetched
        if let Some(keys) = self.known(PAUSE) {
            return Ok(keys);
        }
        let fetching = async {
            let issuer = &self.config.issuer_url;
            let discovery = self.get(&format!("{}{DISCOVERY}", issuer.trim_end_matches('/'))).await?;
            if str_at(&discovery, "issuer") != issuer {
                bail!(
                    "issuer did not match the issuer returned by provider, expected {issuer:?} got {:?}",
                    str_at(&discovery, "issuer")
                );
            }
            self.get(str_at(&discovery, "jwks_uri")).await
        };
        let document = tokio::time::timeout(PATIENCE, fetching).await.context("the provider did not answer in time")?;
        let keys = Arc::new(match document {
            Ok(document) => KeySet::from_value(&document),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the OIDC provider's keys cannot be fetched");
                return Err(error);
            }
        });
        *self.fetched.write() = Some(Fetched { keys: keys.clone(), at: Instant::now() });
        Ok(keys)
    }

    async fn get(&self, url: &str) -> anyhow::Result<Value> {
        let request = http::Request::get(url).body(Empty::new()).with_context(|| format!("{url:?} is no URL"))?;
        let answer = self.fetcher.request(request).await.with_context(|| format!("cannot ask {url}"))?;
        if !answer.status().is_success() {
            bail!("{url} answers {}", answer.status());
        }
        let body = Limited::new(answer.into_body(), DOCUMENT_LIMIT).collect().await;
        let body = body.map_err(|e| anyhow::anyhow!("{url}: {e}"))?.to_bytes();
        serde_json::from_slice(&body).with_context(|| format!("{url} is not JSON"))
    }
}

/// Audience and times; returns when the token expires.
fn check_claims(config: &Oidc, claims: &Value) -> anyhow::Result<i64> {
    let audiences: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.contains(&config.client_id.as_str()) {
        bail!("expected audience {:?} got {audiences:?}", config.client_id);
    }
    // other issuers write fractions
    let seconds = |claim: &str| claims[claim].as_f64().map(|s| s as i64);
    let expires = seconds("exp").context("the token has no expiry")?;
    if expires <= now() {
        bail!("token is expired");
    }
    if seconds("nbf").is_some_and(|from| from > now() + 300) {
        bail!("current time is before the nbf (not before) time");
    }
    Ok(expires)
}

fn identity(config: &Oidc, claims: &Value) -> anyhow::Result<Identity> {
    let claim = &config.username_claim;
    let name = claims.get(claim).with_context(|| format!("parse username claims {claim:?}: claim not present"))?;
    let name = name.as_str().with_context(|| format!("parse username claims {claim:?}: not a string"))?;
    if claim == "email" && claims.get("email_verified").is_some_and(|verified| verified != true) {
        bail!("email not verified");
    }
    let prefix = match config.username_prefix.as_deref() {
        Some("-") => "",
        Some(prefix) => prefix,
        None if claim == "email" => "",
        None => &format!("{}#", config.issuer_url),
    };
    let groups = match config.groups_claim.as_ref().and_then(|g| claims.get(g)) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        Some(_) => bail!("parse groups claim: not a string or a list of strings"),
    };
    for (key, wanted) in &config.required_claims {
        let given = claims.get(key).with_context(|| format!("required claim {key} not present in ID token"))?;
        if given.as_str() != Some(wanted) {
            bail!("required claim {key} value does not match. Got = {given}, want = {wanted}");
        }
    }
    let groups = groups.into_iter().map(|group| format!("{}{group}", config.groups_prefix));
    let mut identity = Identity::new(format!("{prefix}{name}"), groups);
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        identity.extra.insert(CREDENTIAL_ID.into(), vec![format!("JTI={id}")]);
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn config(more: Value) -> Oidc {
        let mut config = json!({"issuerUrl": "https://i", "clientId": "c"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn claims_become_a_user() {
        let claims = json!({"sub": "joe", "email": "j@x", "groups": ["a", "b"], "hd": "x", "jti": "1"});
        let who = identity(&config(json!({"groupsClaim": "groups", "groupsPrefix": "o:"})), &claims).unwrap();
        assert_eq!(who.user, "https://i#joe");
        assert_eq!(who.groups, ["o:a", "o:b", "system:authenticated"]);
        assert_eq!(who.extra[CREDENTIAL_ID], ["JTI=1"]);
        assert_eq!(identity(&config(json!({"usernameClaim": "email"})), &claims).unwrap().user, "j@x");
        assert_eq!(identity(&config(json!({"usernamePrefix": "-"})), &claims).unwrap().user, "joe");
        assert!(identity(&config(json!({"requiredClaims": {"hd": "x"}})), &claims).is_ok());
        assert!(identity(&config(json!({"requiredClaims": {"hd": "y"}})), &claims).is_err());
        assert!(identity(&config(json!({"usernameClaim": "none"})), &claims).is_err());
        let unverified = json!({"email": "j@x", "email_verified": false});
        assert!(identity(&config(json!({"usernameClaim": "email"})), &unverified).is_err());
    }

    #[test]
    fn tokens_are_for_us_and_in_time() {
        let config = config(json!({}));
        assert!(check_claims(&config, &json!({"aud": ["x", "c"], "exp": now() + 60})).is_ok());
        for wrong in [
            json!({"aud": "x", "exp": now() + 60}),
            json!({"aud": "c", "exp": now() - 60}),
            json!({"aud": "c"}),
            json!({"aud": "c", "exp": now() + 6000, "nbf": now() + 3000}),
        ] {
            assert!(check_claims(&config, &wrong).is_err(), "{wrong}");
        }
        let plain: Oidc = serde_json::from_value(json!({"issuerUrl": "http://i", "clientId": "c"})).unwrap();
        assert!(Provider::from_config(plain).is_err(), "keys are not fetched unprotected");
    }
}
