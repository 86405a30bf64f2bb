//! Values to bytes that tell nothing and back, in upstream's formats: `k8s:enc:<provider>:v1:<key>:` and then
//! aesgcm: nonce (12), ciphertext, tag (16), bound to the key under which the value lies;
//! aescbc: IV (16), ciphertext with PKCS #7 padding;
//! secretbox: nonce (24), tag (16), ciphertext (XSalsa20, Poly1305).

use anyhow::bail;
use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{self, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey},
    constant_time::verify_slices_are_equal,
    iv::FixedLength,
    rand,
};
use poly1305::{Poly1305, universal_hash::KeyInit};
use salsa20::{
    XSalsa20,
    cipher::{KeyIvInit, StreamCipher},
};

/// What every encrypted value begins with.
pub const MARK: &[u8] = b"k8s:enc:";

const GCM_NONCE: usize = 12;
const CBC_IV: usize = 16;
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    AesGcm,
    AesCbc,
    SecretBox,
}

impl Cipher {
    pub fn name(self) -> &'static str {
        match self {
            Cipher::AesGcm => "aesgcm",
            Cipher::AesCbc => "aescbc",
            Cipher::SecretBox => "secretbox",
        }
    }

    fn prefix(self) -> String {
        format!("k8s:enc:{}:v1:", self.name())
    }
}

pub struct Key {
    pub name: String,
    inner: Inner,
}

enum Inner {
    Gcm(Box<LessSafeKey>),
    Cbc(Box<(PaddedBlockEncryptingKey, PaddedBlockDecryptingKey)>),
    Box([u8; 32]),
}

/// What went wrong, without saying anything about key or value.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    #[error("no matching prefix found")]
    NoPrefix,
    #[error("identity transformer tried to read encrypted data")]
    Encrypted,
    #[error("no matching key was found for the provided {0} transformer")]
    NoKey(&'static str),
    #[error("the stored value cannot be decrypted: it was changed, or belongs to another key")]
    Broken,
}

impl Key {
    pub fn new(cipher: Cipher, name: String, secret: &[u8]) -> anyhow::Result<Self> {
        let wrong = |_| anyhow::anyhow!("it is {} bytes long; a key has 16, 24 or 32", secret.len());
        let inner = match cipher {
            Cipher::AesGcm => {
                let algorithm = match secret.len() {
                    16 => &aead::AES_128_GCM,
                    24 => &aead::AES_192_GCM,
                    _ => &aead::AES_256_GCM,
                };
                Inner::Gcm(Box::new(LessSafeKey::new(UnboundKey::new(algorithm, secret).map_err(wrong)?)))
            }
            Cipher::AesCbc => {
                let algorithm = match secret.len() {
                    16 => &cipher::AES_128,
                    24 => &cipher::AES_192,
                    _ => &cipher::AES_256,
                };
                let unbound = || UnboundCipherKey::new(algorithm, secret).map_err(wrong);
                Inner::Cbc(Box::new((
                    PaddedBlockEncryptingKey::cbc_pkcs7(unbound()?).map_err(wrong)?,
                    PaddedBlockDecryptingKey::cbc_pkcs7(unbound()?).map_err(wrong)?,
                )))
            }
            Cipher::SecretBox => match secret.try_into() {
                Ok(secret) => Inner::Box(secret),
                Err(_) => bail!("it is {} bytes long; a key for secretbox has 32", secret.len()),
            },
        };
        Ok(Key { name, inner })
    }

    fn encrypt(&self, out: &mut Vec<u8>, value: &[u8], place: &str) -> Option<()> {
        match &self.inner {
            Inner::Gcm(key) => {
                let nonce = random::<GCM_NONCE>()?;
                let mut body = value.to_vec();
                let nonce_of = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(nonce_of, Aad::from(place.as_bytes()), &mut body).ok()?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&body);
            }
            Inner::Cbc(keys) => {
                let mut body = value.to_vec();
                let DecryptionContext::Iv128(iv) = keys.0.encrypt(&mut body).ok()? else { return None };
                out.extend_from_slice(iv.as_ref());
                out.extend_from_slice(&body);
            }
            Inner::Box(key) => {
                let nonce = random::<BOX_NONCE>()?;
                let (mut stream, tag_key) = secret_box(key, &nonce);
                let mut body = value.to_vec();
                stream.apply_keystream(&mut body);
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&Poly1305::new(&tag_key.into()).compute_unpadded(&body));
                out.extend_from_slice(&body);
            }
        }
        Some(())
    }

    fn decrypt(&self, data: &[u8], place: &str) -> Option<Vec<u8>> {
        match &self.inner {
            Inner::Gcm(key) => {
                let (nonce, body) = data.split_at_checked(GCM_NONCE)?;
                let mut body = body.to_vec();
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let length = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut body).ok()?.len();
                body.truncate(length);
                Some(body)
            }
            Inner::Cbc(keys) => {
                let (iv, body) = data.split_at_checked(CBC_IV)?;
                let iv: [u8; CBC_IV] = iv.try_into().ok()?;
                let mut body = body.to_vec();
                let length = keys.1.decrypt(&mut body, DecryptionContext::Iv128(FixedLength::from(iv))).ok()?.len();
                body.truncate(length);
                Some(body)
            }
            Inner::Box(key) => {
                let (nonce, rest) = data.split_at_checked(BOX_NONCE)?;
                let (tag, body) = rest.split_at_checked(BOX_TAG)?;
                let (mut stream, tag_key) = secret_box(key, nonce.try_into().ok()?);
                let own = Poly1305::new(&tag_key.into()).compute_unpadded(body);
                verify_slices_are_equal(&own, tag).ok()?;
                let mut body = body.to_vec();
                stream.apply_keystream(&mut body);
                Some(body)
            }
        }
    }
}

/// The key stream after the 32 bytes that are the tag's key.
fn secret_box(key: &[u8; 32], nonce: &[u8; BOX_NONCE]) -> (XSalsa20, [u8; 32]) {
    let mut stream = XSalsa20::new(&(*key).into(), &(*nonce).into());
    let mut tag_key = [0; 32];
    stream.apply_keystream(&mut tag_key);
    (stream, tag_key)
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// A way to store values: some keys of one cipher, of which the first writes; or none.
pub enum Provider {
    Identity,
    Keys(Cipher, Vec<Key>),
}

/// As the first provider writes; `place` is the key in the store.
pub fn encrypt(providers: &[Provider], value: &[u8], place: &str) -> Result<Vec<u8>, TransformError> {
    let Some(Provider::Keys(cipher, keys)) = providers.first() else { return Ok(value.to_vec()) };
    let key = keys.first().ok_or(TransformError::NoKey(cipher.name()))?;
    let mut out = cipher.prefix().into_bytes();
    out.extend_from_slice(key.name.as_bytes());
    out.push(b':');
    key.encrypt(&mut out, value, place).ok_or(TransformError::Broken)?;
    Ok(out)
}

/// By whatever provider and key wrote it; `None`: it was not encrypted, and may be so.
pub fn decrypt(providers: &[Provider], data: &[u8], place: &str) -> Result<Option<Vec<u8>>, TransformError> {
    if !data.starts_with(MARK) {
        let plain = providers.iter().any(|p| matches!(p, Provider::Identity));
        return if plain { Ok(None) } else { Err(TransformError::NoPrefix) };
    }
    let mut problem = match providers {
        [] | [Provider::Identity] => TransformError::Encrypted,
        _ => TransformError::NoPrefix,
    };
    for provider in providers {
        let Provider::Keys(cipher, keys) = provider else { continue };
        let Some(rest) = data.strip_prefix(cipher.prefix().as_bytes()) else { continue };
        problem = TransformError::NoKey(cipher.name());
        for key in keys {
            let body = rest.strip_prefix(key.name.as_bytes()).and_then(|r| r.strip_prefix(b":"));
            match body.map(|body| key.decrypt(body, place)) {
                Some(Some(value)) => return Ok(Some(value)),
                Some(None) => problem = TransformError::Broken,
                None => {}
            }
        }
    }
    Err(problem)
}

/// Whether the first provider's first key would write it so.
pub fn is_current(providers: &[Provider], data: &[u8]) -> bool {
    match providers.first() {
        Some(Provider::Keys(cipher, keys)) => keys.first().is_some_and(|key| {
            let rest = data.strip_prefix(cipher.prefix().as_bytes()).and_then(|r| r.strip_prefix(key.name.as_bytes()));
            rest.is_some_and(|rest| rest.first() == Some(&b':'))
        }),
        _ => !data.starts_with(MARK),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn provider(cipher: Cipher, names: &[&str]) -> Provider {
        let key = |name: &&str| Key::new(cipher, (*name).into(), &[name.len() as u8; 32]).unwrap();
        Provider::Keys(cipher, names.iter().map(key).collect())
    }

    #[test]
    fn every_cipher_gives_back_what_it_took_and_nothing_else() {
        for cipher in [Cipher::AesGcm, Cipher::AesCbc, Cipher::SecretBox] {
            let providers = [provider(cipher, &["new"])];
            for value in [&b""[..], b"x", &[9; 4096]] {
                let stored = encrypt(&providers, value, "/k").unwrap();
                assert!(stored.starts_with(format!("k8s:enc:{}:v1:new:", cipher.name()).as_bytes()));
                assert_eq!(decrypt(&providers, &stored, "/k").unwrap().unwrap(), value, "{cipher:?}");
            }
            let stored = encrypt(&providers, b"a value of some length", "/k").unwrap();
            let mut other = Key::new(cipher, "new".into(), &[1; 32]).unwrap();
            other.name = "new".into();
            let wrong = decrypt(&[Provider::Keys(cipher, vec![other])], &stored, "/k");
            assert!(wrong.is_err() || cipher == Cipher::AesCbc, "aescbc only notices by chance: {cipher:?}");
            if cipher != Cipher::AesCbc {
                let mut changed = stored.clone();
                *changed.last_mut().unwrap() ^= 1;
                assert!(matches!(decrypt(&providers, &changed, "/k"), Err(TransformError::Broken)));
            }
            for cut in 0..stored.len() {
                let _ = decrypt(&providers, &stored[..cut], "/k");
            }
        }
        let gcm = [provider(Cipher::AesGcm, &["new"])];
        let stored = encrypt(&gcm, b"value", "/a").unwrap();
        assert!(decrypt(&gcm, &stored, "/b").is_err(), "a value cannot be moved to another key");
    }

    /// From NaCl's own tests (`secretbox`), which every implementation of it gives.
    #[test]
    fn secretbox_is_nacls() {
        let hex = |text: &str| hex::decode(text).unwrap();
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce: [u8; 24] = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").try_into().unwrap();
        let (mut stream, tag_key) = secret_box(&key.try_into().unwrap(), &nonce);
        assert_eq!(hex::encode(tag_key), "eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880");
        let mut message = hex("be075fc53c81f2d5cf141316");
        stream.apply_keystream(&mut message);
        assert_eq!(hex::encode(&message), "8e993b9f48681273c29650ba");
    }

    #[test]
    fn the_first_key_writes_and_all_read() {
        let old = [provider(Cipher::AesGcm, &["old"])];
        let both =
            [provider(Cipher::SecretBox, &["newest"]), provider(Cipher::AesGcm, &["newer", "old"]), Provider::Identity];
        let stored = encrypt(&old, b"value", "/k").unwrap();
        assert_eq!(decrypt(&both, &stored, "/k").unwrap().unwrap(), b"value");
        assert!(is_current(&old, &stored) && !is_current(&both, &stored) && !is_current(&old, b"{}"));
        assert_eq!(decrypt(&both, b"{}", "/k").unwrap(), None);
        let text = |providers: &[Provider], data: &[u8]| decrypt(providers, data, "/k").unwrap_err().to_string();
        assert_eq!(text(&old, b"{}"), "no matching prefix found");
        assert_eq!(text(&[Provider::Identity], &stored), "identity transformer tried to read encrypted data");
        assert_eq!(
            text(&[provider(Cipher::AesGcm, &["other"])], &stored),
            "no matching key was found for the provided aesgcm transformer"
        );
    }
}
