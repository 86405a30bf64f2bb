//! The key pair that signs and verifies service-account tokens (ES256).

use rcgen::KeyPair;

use crate::Result;

/// `private_pem` is PKCS #8 and secret, `public_pem` is a SubjectPublicKeyInfo.
#[derive(Clone)]
pub struct ServiceAccountKey {
    pub private_pem: String,
    pub public_pem: String,
}

/// A new ECDSA P-256 key pair.
pub fn generate_service_account_key() -> Result<ServiceAccountKey> {
    let key = KeyPair::generate()?;
    Ok(ServiceAccountKey { private_pem: key.serialize_pem(), public_pem: key.public_key_pem() })
}
