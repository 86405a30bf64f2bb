//! Keys of service-account tokens: EC P-256 (ES256) and RSA (RS256), from PEM.

use anyhow::{Context, anyhow, bail};
use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::pem::{PemObject, SectionKind};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Es256,
    Rs256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Es256 => "ES256",
            Algorithm::Rs256 => "RS256",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Algorithm::Es256, Algorithm::Rs256].into_iter().find(|a| a.name() == name)
    }
}

/// A key that verifies.
pub struct VerifyingKey {
    pub id: String,
    pub algorithm: Algorithm,
    /// The uncompressed point, or the PKCS #1 key.
    raw: Vec<u8>,
}

pub struct SigningKey {
    pub id: String,
    key: Private,
}

enum Private {
    Ec(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

/// As upstream names keys: the digest of the SubjectPublicKeyInfo.
fn key_id(spki: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, spki))
}

impl VerifyingKey {
    /// Takes a public key, or the public half of a private one.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let (kind, der) = first_section(pem)?;
        Self::from_section(kind, &der)
    }

    /// Every key of a file, as while one signing key follows another.
    ///
    /// # Errors
    /// When there is none, or one that cannot be used.
    pub fn all_from_pem(pem: &[u8]) -> anyhow::Result<Vec<Self>> {
        first_section(pem)?;
        sections(pem).map(|(kind, der)| Self::from_section(kind, &der)).collect()
    }

    fn from_section(kind: SectionKind, der: &[u8]) -> anyhow::Result<Self> {
        match kind {
            SectionKind::PublicKey => Self::from_spki(der),
            _ => Ok(Private::from_der(kind, der)?.public()?),
        }
    }

    fn from_spki(spki: &[u8]) -> anyhow::Result<Self> {
        let (_, parsed) = SubjectPublicKeyInfo::from_der(spki).map_err(|e| anyhow!("this is no public key: {e}"))?;
        let raw = parsed.subject_public_key.data.to_vec();
        let algorithm = match parsed.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.10045.2.1" if raw.len() == 65 => Algorithm::Es256,
            "1.2.840.113549.1.1.1" => Algorithm::Rs256,
            other => bail!("keys of type {other} are not supported; use EC P-256 or RSA"),
        };
        Ok(VerifyingKey { id: key_id(spki), algorithm, raw })
    }

    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if Algorithm::from_name(algorithm) != Some(self.algorithm) {
            return false;
        }
        let result = match self.algorithm {
            Algorithm::Es256 => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &self.raw).verify(message, signature)
            }
            Algorithm::Rs256 => {
                UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &self.raw).verify(message, signature)
            }
        };
        result.is_ok()
    }

    /// RFC 7517, for `/openid/v1/jwks`.
    pub fn to_jwk(&self) -> serde_json::Value {
        match self.algorithm {
            Algorithm::Es256 => serde_json::json!({
                "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(&self.raw[1..33]), "y": URL_SAFE_NO_PAD.encode(&self.raw[33..65]),
            }),
            Algorithm::Rs256 => {
                let (modulus, exponent) = rsa_numbers(&self.raw).unwrap_or_default();
                serde_json::json!({
                    "use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256",
                    "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent),
                })
            }
        }
    }
}

fn rsa_numbers(pkcs1: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let components = rsa::PublicKeyComponents::<Vec<u8>>::from(&rsa::PublicKey::from_der(pkcs1).ok()?);
    Some((components.n, components.e))
}

impl SigningKey {
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let (kind, der) = first_section(pem)?;
        let key = Private::from_der(kind, &der)?;
        Ok(SigningKey { id: key.public()?.id, key })
    }

    pub fn algorithm(&self) -> Algorithm {
        match self.key {
            Private::Ec(_) => Algorithm::Es256,
            Private::Rsa(_) => Algorithm::Rs256,
        }
    }

    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.key {
            Private::Ec(key) => Ok(key.sign(&random, message).context("cannot sign")?.as_ref().to_vec()),
            Private::Rsa(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out).context("cannot sign")?;
                Ok(out)
            }
        }
    }
}

impl Private {
    fn from_der(kind: SectionKind, der: &[u8]) -> anyhow::Result<Self> {
        let ec = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        match kind {
            SectionKind::PrivateKey => {
                if let Ok(key) = EcdsaKeyPair::from_pkcs8(ec, der) {
                    return Ok(Private::Ec(key));
                }
                Ok(Private::Rsa(rsa::KeyPair::from_pkcs8(der).context("this is no EC P-256 or RSA private key")?))
            }
            SectionKind::EcPrivateKey => {
                Ok(Private::Ec(EcdsaKeyPair::from_private_key_der(ec, der).context("this is no EC P-256 private key")?))
            }
            SectionKind::RsaPrivateKey => {
                Ok(Private::Rsa(rsa::KeyPair::from_der(der).context("this is no RSA private key")?))
            }
            _ => bail!("the file holds no key"),
        }
    }

    fn public(&self) -> anyhow::Result<VerifyingKey> {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        let spki: PublicKeyX509Der<'_> = match self {
            Private::Ec(key) => key.public_key().as_der(),
            Private::Rsa(key) => key.public_key().as_der(),
        }
        .context("cannot derive the public key")?;
        VerifyingKey::from_spki(spki.as_ref())
    }
}

/// The first key in a PEM file; EC parameters that may stand before it are skipped.
fn first_section(pem: &[u8]) -> anyhow::Result<(SectionKind, Vec<u8>)> {
    sections(pem).next().context("the file holds no PEM key")
}

fn sections(pem: &[u8]) -> impl Iterator<Item = (SectionKind, Vec<u8>)> {
    use SectionKind::{EcPrivateKey, PrivateKey, PublicKey, RsaPrivateKey};
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .filter(|(kind, _)| matches!(kind, PublicKey | PrivateKey | EcPrivateKey | RsaPrivateKey))
}
