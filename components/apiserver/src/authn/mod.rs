//! Authentication: from a client certificate or a bearer token to an [`Identity`].

pub mod jwt;
pub mod keys;
pub mod service_account;
pub mod x509;

use http::{HeaderMap, header};
use machinery::ApiError;

use crate::{core::Core, identity::Identity};

/// Paths anonymous requests may reach; they are then authorized like any other.
const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

fn is_public(path: &str) -> bool {
    PUBLIC_PATHS.iter().any(|p| path == *p || path.strip_prefix(p).is_some_and(|rest| rest.starts_with('/')))
}

/// The value of `Authorization: Bearer …`, whose scheme is case-insensitive.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|t| !t.is_empty())
}

/// `peer` is what the client's certificate said. A token that is not accepted is refused even where anonymous would be let in.
pub async fn authenticate(
    core: &Core,
    headers: &HeaderMap,
    path: &str,
    peer: Option<&Identity>,
) -> Result<Identity, ApiError> {
    if let Some(identity) = peer {
        return Ok(identity.clone());
    }
    if let Some(token) = bearer(headers) {
        return service_account::authenticate(core, token, &core.config.audiences())
            .await
            .map(|accepted| accepted.identity)
            .map_err(|why| {
                tracing::debug!(%why, "a bearer token was refused");
                ApiError::unauthorized()
            });
    }
    if is_public(path) { Ok(Identity::anonymous()) } else { Err(ApiError::unauthorized()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bearer_scheme_ignores_case() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "bEaReR  abc ".parse().unwrap());
        assert_eq!(bearer(&headers), Some("abc"));
        headers.insert(header::AUTHORIZATION, "Basic abc".parse().unwrap());
        assert_eq!(bearer(&headers), None);
    }

    #[test]
    fn public_paths_are_exact() {
        assert!(is_public("/healthz") && is_public("/readyz/ping") && !is_public("/healthzz") && !is_public("/api"));
    }
}
