//! What seals an archive, and what opens it.

use age::secrecy::{ExposeSecret as _, SecretString};
use age::x25519::{Identity, Recipient};
use anyhow::{Context as _, bail};

/// To whom an archive is encrypted.
#[derive(Clone)]
pub enum Seal {
    Recipients(Vec<Recipient>),
    Passphrase(SecretString),
}

/// What an archive is opened with.
pub enum Unseal {
    Identities(Vec<Identity>),
    Passphrase(SecretString),
}

impl Seal {
    /// Public keys as age writes them, `age1…`.
    ///
    /// # Errors
    /// When there is none, or one is not a public key.
    pub fn to<'a>(recipients: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let parse = |text: &str| {
            // a secret key must not be repeated in a message
            text.trim().parse().map_err(|_| anyhow::anyhow!("this is no public key of age (they begin with age1…)"))
        };
        let list: Vec<Recipient> = recipients.into_iter().map(parse).collect::<anyhow::Result<_>>()?;
        if list.is_empty() {
            bail!("name at least one public key");
        }
        Ok(Self::Recipients(list))
    }

    pub fn passphrase(text: String) -> Self {
        Self::Passphrase(text.into())
    }
}

impl Unseal {
    /// A key file: secret keys (`AGE-SECRET-KEY-1…`), one a line; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// When there is no key in it.
    pub fn identities(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parse = |(index, line): (usize, &str)| {
            line.parse::<Identity>().map_err(|_| anyhow::anyhow!("its key {} is no secret key of age", index + 1))
        };
        let list: Vec<_> = lines.enumerate().map(parse).collect::<anyhow::Result<_>>()?;
        if list.is_empty() {
            bail!("it holds no secret key of age (AGE-SECRET-KEY-1…)");
        }
        Ok(Self::Identities(list))
    }

    pub fn passphrase(text: String) -> Self {
        Self::Passphrase(text.into())
    }
}

/// A new pair of keys.
pub struct Key(Identity);

impl Key {
    pub fn generate() -> Self {
        Self(Identity::generate())
    }

    /// `age1…`
    pub fn public(&self) -> String {
        self.0.to_public().to_string()
    }

    /// A key file as `age-keygen` writes it.
    pub fn file(&self) -> String {
        format!("# public key: {}\n{}\n", self.public(), self.0.to_string().expose_secret())
    }
}

pub(crate) fn encryptor(seal: &Seal) -> anyhow::Result<age::Encryptor> {
    match seal {
        Seal::Passphrase(passphrase) => Ok(age::Encryptor::with_user_passphrase(passphrase.clone())),
        Seal::Recipients(list) => {
            let recipients = list.iter().map(|one| one as &dyn age::Recipient);
            age::Encryptor::with_recipients(recipients).context("cannot encrypt to these keys")
        }
    }
}

/// The decrypted contents of `input`.
pub(crate) fn decrypt<'i, R: std::io::BufRead + 'i>(
    input: R,
    unseal: &Unseal,
) -> anyhow::Result<Box<dyn std::io::Read + 'i>> {
    let decryptor = age::Decryptor::new_buffered(input).map_err(|error| match error {
        age::DecryptError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            anyhow::Error::new(error).context("it cannot be read")
        }
        _ => anyhow::anyhow!("it is no archive of kinstall, or its beginning is damaged"),
    })?;
    let opened = match (unseal, decryptor.is_scrypt()) {
        (Unseal::Identities(_), true) => {
            bail!("it was sealed by a passphrase: give --passphrase-file, or type it when asked")
        }
        (Unseal::Passphrase(_), false) => bail!("it was sealed to a key: give the secret key's file with --identity"),
        (Unseal::Identities(list), false) => decryptor.decrypt(list.iter().map(|one| one as &dyn age::Identity)),
        (Unseal::Passphrase(passphrase), true) => {
            let identity = age::scrypt::Identity::new(passphrase.clone());
            decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
        }
    };
    match opened {
        Ok(reader) => Ok(Box::new(reader)),
        Err(age::DecryptError::NoMatchingKeys) => bail!("it was not sealed to this key"),
        Err(age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed) => {
            bail!("the passphrase is wrong, or the archive is damaged")
        }
        Err(error) => Err(error).context("it cannot be opened, its beginning is damaged"),
    }
}
