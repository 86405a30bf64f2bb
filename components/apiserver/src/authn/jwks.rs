//! JSON Web Key Sets (RFC 7517) of other issuers: the keys, and how they verify.

use anyhow::{Context, bail};
use aws_lc_rs::{
    rsa,
    signature::{self, EcdsaVerificationAlgorithm, RsaParameters, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use machinery::value::{list_at, str_at};
use serde_json::Value;

/// How signatures of one algorithm of RFC 7518 are checked.
enum Way {
    Rsa(&'static RsaParameters),
    Ec(&'static EcdsaVerificationAlgorithm, &'static str),
}

const WAYS: &[(&str, Way)] = &[
    ("RS256", Way::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256)),
    ("RS384", Way::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384)),
    ("RS512", Way::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512)),
    ("PS256", Way::Rsa(&signature::RSA_PSS_2048_8192_SHA256)),
    ("PS384", Way::Rsa(&signature::RSA_PSS_2048_8192_SHA384)),
    ("PS512", Way::Rsa(&signature::RSA_PSS_2048_8192_SHA512)),
    ("ES256", Way::Ec(&signature::ECDSA_P256_SHA256_FIXED, "P-256")),
    ("ES384", Way::Ec(&signature::ECDSA_P384_SHA384_FIXED, "P-384")),
    ("ES512", Way::Ec(&signature::ECDSA_P521_SHA512_FIXED, "P-521")),
];

pub fn is_known(algorithm: &str) -> bool {
    WAYS.iter().any(|(name, _)| *name == algorithm)
}

enum Numbers {
    /// Modulus and exponent.
    Rsa(rsa::PublicKeyComponents<Vec<u8>>),
    /// Curve and uncompressed point.
    Ec(String, Vec<u8>),
}

struct Key {
    id: String,
    numbers: Numbers,
}

#[derive(Default)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Keys of kinds that are not known here are passed over: they are for others.
    pub fn from_value(document: &Value) -> Self {
        KeySet(list_at(document, "keys").iter().filter_map(Key::from_value).collect())
    }

    /// Whether a key of this identifier (or, when the token names none, any) verifies.
    pub fn verify(&self, algorithm: &str, id: &str, message: &[u8], signature: &[u8]) -> bool {
        self.0.iter().filter(|key| id.is_empty() || key.id == id).any(|key| key.verify(algorithm, message, signature))
    }
}

impl Key {
    fn from_value(value: &Value) -> Option<Self> {
        if !matches!(str_at(value, "use"), "" | "sig") {
            return None;
        }
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(value.get(name)?.as_str()?.trim_end_matches('=')).ok();
        let numbers = match str_at(value, "kty") {
            "RSA" => Numbers::Rsa(rsa::PublicKeyComponents { n: bytes("n")?, e: bytes("e")? }),
            "EC" => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                Numbers::Ec(str_at(value, "crv").to_owned(), [&[4][..], &x, &y].concat())
            }
            _ => return None,
        };
        Some(Key { id: str_at(value, "kid").to_owned(), numbers })
    }

    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let Some((_, way)) = WAYS.iter().find(|(name, _)| *name == algorithm) else { return false };
        match (way, &self.numbers) {
            (Way::Rsa(parameters), Numbers::Rsa(key)) => key.verify(parameters, message, signature).is_ok(),
            (Way::Ec(parameters, curve), Numbers::Ec(own, point)) if curve == own => {
                UnparsedPublicKey::new(*parameters, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// A token in its parts, nothing verified.
pub struct Parts<'a> {
    pub header: Value,
    pub claims: Value,
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    pub fn of(token: &'a str) -> anyhow::Result<Self> {
        let (message, signature) = token.rsplit_once('.').context("not a token")?;
        let (header, claims) = message.split_once('.').context("not a token")?;
        if claims.contains('.') {
            bail!("not a token");
        }
        let read =
            |part: &str| -> anyhow::Result<Value> { Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?) };
        Ok(Parts {
            header: read(header)?,
            claims: read(claims)?,
            message,
            signature: URL_SAFE_NO_PAD.decode(signature)?,
        })
    }

    pub fn algorithm(&self) -> &str {
        str_at(&self.header, "alg")
    }

    pub fn verified_by(&self, keys: &KeySet) -> bool {
        keys.verify(self.algorithm(), str_at(&self.header, "kid"), self.message.as_bytes(), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::authn::{
        jwt,
        keys::{SigningKey, VerifyingKey},
    };
    use serde_json::json;

    #[test]
    fn own_keys_read_back_verify() {
        let pair = certs::generate_service_account_key().unwrap();
        let signing = SigningKey::from_pem(pair.private_pem.as_bytes()).unwrap();
        let jwk = VerifyingKey::from_pem(pair.public_pem.as_bytes()).unwrap().to_jwk();
        let token = jwt::sign(&signing, &json!({"iss": "x"})).unwrap();
        let parts = Parts::of(&token).unwrap();
        let keys = KeySet::from_value(&json!({"keys": [{"kty": "oct", "k": "AAAA"}, jwk]}));
        assert!(parts.verified_by(&keys) && is_known(parts.algorithm()));
        let mut renamed = jwk.clone();
        renamed["kid"] = "other".into();
        assert!(!parts.verified_by(&KeySet::from_value(&json!({"keys": [renamed]}))));
        assert!(!parts.verified_by(&KeySet::default()));
        assert!(Parts::of("a.b").is_err() && Parts::of("a.b.c.d").is_err());
    }
}
