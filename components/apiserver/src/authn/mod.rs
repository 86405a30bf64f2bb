//! Authentication: from a client certificate, a bearer token or a front proxy's word to an [`Identity`].
//!
//! The order is upstream's: front proxy, client certificate, tokens, anonymous. Credentials that are not accepted are refused even
//! where anonymous would be let in.

pub mod bootstrap_token;
pub mod cache;
pub mod front_proxy;
pub mod jwks;
pub mod jwt;
pub mod keys;
pub mod legacy_token;
pub mod oidc;
pub mod service_account;
pub mod x509;

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use machinery::ApiError;
use store::Revision;
use time::OffsetDateTime;

use crate::{config::Config, core::Core, identity::Identity, tls::Judge};

pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// How a browser hands over a token: as one of the subprotocols it offers.
const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// What authentication holds between requests.
pub struct Authn {
    pub client_authorities: Arc<Judge>,
    pub front_proxy: Option<front_proxy::FrontProxy>,
    oidc: Option<oidc::Provider>,
    cache: cache::TokenCache,
}

impl Authn {
    pub fn from_config(config: &Config) -> anyhow::Result<Self> {
        Ok(Authn {
            client_authorities: Arc::new(Judge::from_file(&config.client_ca_file)?),
            front_proxy: config.request_header.as_ref().map(front_proxy::FrontProxy::from_config).transpose()?,
            oidc: config.oidc.clone().map(oidc::Provider::from_config).transpose()?,
            cache: cache::TokenCache::default(),
        })
    }
}

/// A token that was believed.
#[derive(Clone)]
pub struct Accepted {
    pub identity: Arc<Identity>,
    /// Those of the wanted audiences that the token is for.
    pub audiences: Vec<String>,
    /// Seconds since 1970 until which it may be believed without looking again.
    pub until: i64,
    /// What it rests on besides its signature.
    pub proofs: Vec<Proof>,
}

/// An object as it was when a token was checked; changed, the token must be checked again.
#[derive(Clone)]
pub struct Proof {
    pub key: String,
    pub revision: Option<Revision>,
}

/// Why a token was not believed.
pub enum Refused {
    /// It is not of the kind that was looked for.
    NotMine,
    Because(String),
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Refused::Because(why)
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Refused::Because(format!("{error:#}"))
    }
}

pub fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn unauthorized(why: &str) -> ApiError {
    tracing::debug!(%why, "a request was not authenticated");
    ApiError::unauthorized()
}

/// Who asks. What proved it is taken out of the headers, so that nothing further in can leak it.
pub async fn authenticate(
    core: &Core,
    headers: &mut HeaderMap,
    path: &str,
    peer: Option<&x509::Peer>,
) -> Result<Arc<Identity>, ApiError> {
    let peer = peer.filter(|p| p.expires > now()).ok_or(peer.map(|_| "the client certificate has expired".to_owned()));
    if let (Some(proxy), Ok(peer)) = (&core.authn.front_proxy, &peer)
        && let Some(identity) = proxy.authenticate(peer, headers)
    {
        return Ok(Arc::new(identity));
    }
    let mut problem = match peer {
        Ok(peer) => match &peer.user {
            Ok(identity) => return Ok(identity.clone()),
            Err(why) => Some(why.clone()),
        },
        Err(expired) => expired,
    };
    if let Some(token) = take_token(headers) {
        match core.authn.cached(core, &token).await {
            Ok(identity) => return Ok(identity),
            Err(why) => problem = Some(why),
        }
    }
    match problem {
        Some(why) => Err(unauthorized(&why)),
        None if anonymous_may(core, path) => Ok(Arc::new(Identity::anonymous())),
        None => Err(ApiError::unauthorized()),
    }
}

/// How the failed attempt was made, for the audit log.
pub fn attempted(headers: &HeaderMap) -> &'static str {
    if headers.contains_key(header::AUTHORIZATION) { "bearer" } else { "x509" }
}

fn anonymous_may(core: &Core, path: &str) -> bool {
    let config = &core.config.anonymous;
    config.enabled && (config.paths.is_empty() || config.paths.iter().any(|p| is_at_or_below(path, p)))
}

fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The token of `Authorization: Bearer …` (whose scheme is case-insensitive), or of a WebSocket's subprotocols.
fn take_token(headers: &mut HeaderMap) -> Option<String> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned()).filter(|t| !t.is_empty())
    });
    if bearer.is_some() {
        headers.remove(header::AUTHORIZATION);
        return bearer;
    }
    take_websocket_token(headers)
}

fn take_websocket_token(headers: &mut HeaderMap) -> Option<String> {
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let offered: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|p| p.trim().to_owned())
        .collect();
    let encoded = offered.iter().find_map(|p| p.strip_prefix(WEBSOCKET_TOKEN))?;
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    let others: Vec<&str> = offered.iter().map(String::as_str).filter(|p| !p.starts_with(WEBSOCKET_TOKEN)).collect();
    // a server must choose one of the subprotocols, and a credential cannot be it
    if others.is_empty() {
        return None;
    }
    if let Ok(value) = HeaderValue::from_str(&others.join(", ")) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    Some(token)
}

impl Authn {
    async fn cached(&self, core: &Core, token: &str) -> Result<Arc<Identity>, String> {
        if let Some(accepted) = self.cache.get(token)
            && accepted.until > now()
            && still_stands(core, &accepted.proofs).await
        {
            return Ok(accepted.identity.clone());
        }
        let accepted = check(core, token, &core.config.audiences()).await?;
        let identity = accepted.identity.clone();
        self.cache.put(token, accepted);
        Ok(identity)
    }

    /// The provider of identities from outside, if one is configured.
    pub fn oidc(&self) -> Option<&oidc::Provider> {
        self.oidc.as_ref()
    }
}

async fn still_stands(core: &Core, proofs: &[Proof]) -> bool {
    for proof in proofs {
        match core.store.get(&proof.key).await {
            Ok(kv) if kv.as_ref().map(|kv| kv.mod_revision) == proof.revision => {}
            _ => return false,
        }
    }
    true
}

/// The kinds of tokens, in the order they are tried.
const KINDS: [Kind; 4] = [Kind::ServiceAccount, Kind::Legacy, Kind::Bootstrap, Kind::Oidc];

#[derive(Clone, Copy)]
enum Kind {
    ServiceAccount,
    Legacy,
    Bootstrap,
    Oidc,
}

/// Whether a token is good for one of these audiences; each kind of token is tried until one knows it.
pub async fn check(core: &Core, token: &str, wanted: &[String]) -> Result<Accepted, String> {
    let mut problems = Vec::new();
    for kind in KINDS {
        let attempt = match kind {
            Kind::ServiceAccount => service_account::authenticate(core, token, wanted).await,
            Kind::Legacy => legacy_token::authenticate(core, token, wanted).await,
            Kind::Bootstrap => bootstrap_token::authenticate(core, token).await,
            Kind::Oidc => match core.authn.oidc() {
                Some(provider) => provider.authenticate(token).await,
                None => Err(Refused::NotMine),
            },
        };
        match attempt {
            Ok(mut accepted) if accepted.audiences.is_empty() => {
                // these kinds know no audience: they are for this server
                let own = core.config.audiences();
                accepted.audiences = wanted.iter().filter(|w| own.contains(w)).cloned().collect();
                if !accepted.audiences.is_empty() {
                    return Ok(accepted);
                }
            }
            Ok(accepted) => return Ok(accepted),
            Err(Refused::NotMine) => {}
            Err(Refused::Because(why)) => problems.push(why),
        }
    }
    // upstream asks its own loopback token first, which says the first of these words
    Err(match problems.is_empty() {
        true => "invalid bearer token".into(),
        false => format!("[invalid bearer token, {}]", problems.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bearer_scheme_ignores_case() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "bEaReR  abc ".parse().unwrap());
        assert_eq!(take_token(&mut headers).as_deref(), Some("abc"));
        assert!(headers.is_empty(), "nothing further in sees the token");
        headers.insert(header::AUTHORIZATION, "Basic abc".parse().unwrap());
        assert_eq!(take_token(&mut headers), None);
    }

    #[test]
    fn public_paths_are_exact() {
        assert!(is_at_or_below("/healthz", "/healthz") && is_at_or_below("/readyz/ping", "/readyz"));
        assert!(!is_at_or_below("/healthzz", "/healthz") && !is_at_or_below("/api", "/healthz"));
    }

    #[test]
    fn a_websocket_carries_its_token_among_the_subprotocols() {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, "WebSocket".parse().unwrap());
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj".parse().unwrap(),
        );
        assert_eq!(take_token(&mut headers).as_deref(), Some("abc"));
        assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
    }
}
