//! Certificates of pods (KEP-4317): a key of a chosen kind with an empty request, and leaves that live exactly as long as
//! their signer says and name a workload by URI.

use std::str::FromStr;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use time::OffsetDateTime;

use crate::ca::set_leaf;
use crate::{Ca, Error, Result, Usage};

/// The kinds of keys that a pod can ask for, by the API's names: `RSA3072`, `ECDSAP256`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Rsa3072,
    Rsa4096,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Ed25519,
}

impl FromStr for KeyKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "RSA3072" => Self::Rsa3072,
            "RSA4096" => Self::Rsa4096,
            "ECDSAP256" => Self::EcdsaP256,
            "ECDSAP384" => Self::EcdsaP384,
            "ECDSAP521" => Self::EcdsaP521,
            "ED25519" => Self::Ed25519,
            other => return Err(Error::Parse { what: "the kind of key", why: format!("{other:?} is unknown") }),
        })
    }
}

/// A private key and a request that says nothing but that its sender has it. `Debug` leaves the key out.
#[derive(Clone)]
pub struct WorkloadKey {
    /// PKCS #8 PEM. Secret.
    pub key_pem: String,
    /// PKCS #10, DER, without a subject and without names.
    pub request: Vec<u8>,
}

impl std::fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadKey").finish_non_exhaustive()
    }
}

impl WorkloadKey {
    /// Takes a second or more for the RSA kinds.
    pub fn generate(kind: KeyKind) -> Result<Self> {
        let key = match kind {
            KeyKind::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
            KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
            KeyKind::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyKind::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            KeyKind::EcdsaP521 => KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512),
            KeyKind::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
        }?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(Self { key_pem: key.serialize_pem(), request: params.serialize_request(&key)?.der().to_vec() })
    }
}

impl Ca {
    /// A leaf for the key of a DER request, for both sides of a connection, valid from `not_before` to `not_after` (whole
    /// seconds), named by `uris`. Nothing else of the request is taken over.
    pub fn sign_workload(
        &self,
        request: &[u8],
        (not_before, not_after): (OffsetDateTime, OffsetDateTime),
        uris: &[String],
    ) -> Result<String> {
        let mut request = CertificateSigningRequestParams::from_der(&request.into())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri.as_str())?));
        }
        set_leaf(&mut params, Usage::Both, 1);
        (params.not_before, params.not_after) = (not_before, not_after);
        request.params = params;
        Ok(request.signed_by(self.issuer())?.pem())
    }
}
