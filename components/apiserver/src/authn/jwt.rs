//! JSON Web Tokens in the compact form (RFC 7515, 7519), as far as service accounts need them.

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::keys::{SigningKey, VerifyingKey};

/// Signs `claims`.
pub fn sign(key: &SigningKey, claims: &Value) -> anyhow::Result<String> {
    let header = json!({"alg": key.algorithm().name(), "kid": key.id});
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
    Ok(format!("{message}.{signature}"))
}

/// The claims, if one of the keys signed them. Says nothing about their meaning.
pub fn verify(keys: &[VerifyingKey], token: &str) -> anyhow::Result<Value> {
    let (message, signature) = token.rsplit_once('.').context("not a token")?;
    let (header, claims) = message.split_once('.').context("not a token")?;
    let header = decode(header)?;
    let algorithm = header["alg"].as_str().unwrap_or_default();
    let signature = URL_SAFE_NO_PAD.decode(signature).context("the signature is not base64")?;
    // a key identifier only narrows the search: old keys may have been given other names
    let named = header["kid"].as_str().unwrap_or_default();
    let (first, rest): (Vec<_>, Vec<_>) = keys.iter().partition(|k| k.id == named);
    if !first.iter().chain(&rest).any(|key| key.verify(algorithm, message.as_bytes(), &signature)) {
        bail!("no key verifies the signature");
    }
    decode(claims)
}

fn decode(part: &str) -> anyhow::Result<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(part).context("not base64")?;
    serde_json::from_slice(&bytes).context("not JSON")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        let key = certs::generate_service_account_key().unwrap();
        let signing = SigningKey::from_pem(key.private_pem.as_bytes()).unwrap();
        let verifying = VerifyingKey::from_pem(key.public_pem.as_bytes()).unwrap();
        assert_eq!(signing.id, verifying.id);
        let token = sign(&signing, &json!({"sub": "x"})).unwrap();
        assert_eq!(verify(std::slice::from_ref(&verifying), &token).unwrap()["sub"], "x");

        let other = certs::generate_service_account_key().unwrap();
        let stranger = VerifyingKey::from_pem(other.private_pem.as_bytes()).unwrap();
        assert!(verify(&[stranger], &token).is_err());
        let forged = token.replacen('.', ".e30", 1);
        assert!(verify(&[verifying], &forged).is_err());
        assert!(verify(&[], "a.b").is_err());
    }

    #[test]
    fn one_key_follows_another_in_the_same_file() {
        let (old, new) =
            (certs::generate_service_account_key().unwrap(), certs::generate_service_account_key().unwrap());
        let file = format!("{}{}", new.public_pem, old.public_pem);
        let both = VerifyingKey::all_from_pem(file.as_bytes()).unwrap();
        for key in [&old, &new] {
            let signing = SigningKey::from_pem(key.private_pem.as_bytes()).unwrap();
            assert!(verify(&both, &sign(&signing, &json!({"sub": "x"})).unwrap()).is_ok());
        }
        assert_eq!(both.len(), 2);
        assert!(VerifyingKey::all_from_pem(b"nothing").is_err());
    }

    #[test]
    fn the_none_algorithm_is_refused() {
        let key = certs::generate_service_account_key().unwrap();
        let verifying = VerifyingKey::from_pem(key.public_pem.as_bytes()).unwrap();
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let token = format!("{header}.{}.", URL_SAFE_NO_PAD.encode("{}"));
        assert!(verify(&[verifying], &token).is_err());
    }
}
