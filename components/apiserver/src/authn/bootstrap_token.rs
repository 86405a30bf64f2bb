//! Bootstrap tokens: Secrets `kube-system/bootstrap-token-<id>` that let a machine ask for its first certificate
//! (upstream: plugin/pkg/auth/authenticator/token/bootstrap).

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::STANDARD};
use machinery::value::str_at;
use serde_json::Value;

use super::{Accepted, Proof, Refused};
use crate::{core::Core, identity::Identity, registry};

pub const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";
const DEFAULT_GROUP: &str = "system:bootstrappers";
/// How long one look is good for when the token has no end of its own.
const LONG: i64 = 3600;

pub async fn authenticate(core: &Core, token: &str) -> Result<Accepted, Refused> {
    let Some((id, secret)) = parse(token).filter(|_| core.config.bootstrap_token_auth) else {
        return Err(Refused::NotMine);
    };
    let secrets = registry::find("", "v1", "secrets").ok_or(Refused::NotMine)?;
    let name = format!("bootstrap-token-{id}");
    let Ok(stored) = registry::read(core, secrets, NAMESPACE, &name).await else { return Err(Refused::NotMine) };
    let (groups, until) = judge(&stored.object, id, secret).ok_or(Refused::NotMine)?;
    Ok(Accepted {
        identity: Arc::new(Identity::new(format!("system:bootstrap:{id}"), groups)),
        audiences: Vec::new(),
        until,
        proofs: vec![Proof { key: registry::key(secrets, NAMESPACE, &name), revision: Some(stored.revision) }],
    })
}

/// Six and sixteen small letters or digits.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The groups that the Secret gives, and until when; `None` if it does not fit the token or is over.
fn judge(object: &Value, id: &str, secret: &str) -> Option<(Vec<String>, i64)> {
    let data = |key: &str| {
        let text = object["data"].get(key)?.as_str()?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    if str_at(object, "type") != TYPE || !str_at(object, "metadata.deletionTimestamp").is_empty() {
        return None;
    }
    verify_slices_are_equal(data("token-secret")?.as_bytes(), secret.as_bytes()).ok()?;
    if data("token-id")? != id || data("usage-bootstrap-authentication").as_deref() != Some("true") {
        return None;
    }
    let until = match data("expiration").filter(|text| !text.is_empty()) {
        // what cannot be read is over
        Some(text) => machinery::time::parse(&text).map_or(0, |t| t.unix_timestamp()),
        None => super::now() + LONG,
    };
    if until <= super::now() {
        return None;
    }
    let mut groups = vec![DEFAULT_GROUP.to_owned()];
    for group in data("auth-extra-groups").unwrap_or_default().split(',').filter(|g| !g.is_empty()) {
        if !is_bootstrap_group(group) {
            return None;
        }
        if !groups.iter().any(|g| g == group) {
            groups.push(group.to_owned());
        }
    }
    groups.sort();
    Some((groups, until))
}

/// `system:bootstrappers:` and up to 256 of `a-z0-9:-`, the last of them a letter or digit.
fn is_bootstrap_group(group: &str) -> bool {
    group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        let bytes = rest.as_bytes();
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        (1..=256).contains(&bytes.len())
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|b| plain(b) || matches!(b, b':' | b'-'))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn form_and_groups() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in ["abcde.0123456789abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0", "abcdef"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert!(is_bootstrap_group("system:bootstrappers:a:b-c"));
        for wrong in ["system:masters", "system:bootstrappers:", "system:bootstrappers:a-", "system:bootstrappers:A"] {
            assert!(!is_bootstrap_group(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_secret_must_fit_be_meant_for_it_and_not_be_over() {
        let b64 = |text: &str| STANDARD.encode(text);
        let secret = |extra: &[(&str, &str)]| {
            let mut object = json!({"type": TYPE, "data": {"token-id": b64("abcdef"), "token-secret": b64("0123456789abcdef"),
                "usage-bootstrap-authentication": b64("true")}});
            for (key, value) in extra {
                object["data"][*key] = b64(value).into();
            }
            object
        };
        let judged = |object: &Value| judge(object, "abcdef", "0123456789abcdef");
        let (groups, _) = judged(&secret(&[("auth-extra-groups", "system:bootstrappers:x")])).unwrap();
        assert_eq!(groups, ["system:bootstrappers", "system:bootstrappers:x"]);
        assert!(judged(&secret(&[("expiration", "2999-01-01T00:00:00Z")])).is_some());
        for (key, value) in [
            ("expiration", "2001-01-01T00:00:00Z"),
            ("expiration", "tomorrow"),
            ("token-secret", "0123456789abcdeX"),
            ("token-id", "other1"),
            ("usage-bootstrap-authentication", "yes"),
            ("auth-extra-groups", "system:masters"),
        ] {
            assert!(judged(&secret(&[(key, value)])).is_none(), "{key}={value}");
        }
    }
}
