//! Whose bundle it is: a minisign signature over all of its bytes, in a file beside it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};

/// Who has to have signed a bundle.
#[derive(Clone, Debug)]
pub struct Signer {
    key: PublicKey,
    text: String,
}

impl Signer {
    /// The line `RW…` that minisign prints for a public key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        PublicKey::from_base64(text)
            .map(|key| Self { key, text: text.to_owned() })
            .map_err(|_| "it is no public key of minisign's: those begin with RW and have 56 characters".to_owned())
    }

    /// The key itself, or the file that minisign wrote it to.
    pub fn named(text: &str) -> anyhow::Result<Self> {
        let path = Path::new(text);
        if !path.is_file() {
            return Self::parse(text).map_err(|why| anyhow::anyhow!("{text}: there is no such file, and {why}"));
        }
        let written = std::fs::read_to_string(path).with_context(|| format!("cannot read {text}"))?;
        let key = written.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Self::parse(key).map_err(|why| anyhow::anyhow!("{text}: {why}"))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Gives all of the file's bytes to `read`, and what that made of them only if they are signed.
    ///
    /// # Errors
    /// Without a signature beside the file, or with one of another key or of other bytes. `read` may have failed before that,
    /// for the same reason: the signature's word is told then.
    pub fn read<T>(&self, path: &Path, read: impl FnOnce(&mut dyn Read) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let beside = signature_of(path);
        let text = std::fs::read_to_string(&beside)
            .with_context(|| format!("it has to be signed, but its signature {} cannot be read", beside.display()))?;
        let signature = Signature::decode(&text)
            .map_err(|_| anyhow::anyhow!("{} is no signature of minisign's", beside.display()))?;
        let verifier = self.key.verify_stream(&signature).map_err(|error| self.explain(error))?;
        let mut source = Listening { file: File::open(path)?, verifier };
        let made = read(&mut source);
        // what follows the archive is signed too
        io::copy(&mut source, &mut io::sink()).context("it cannot be read to its end")?;
        source.verifier.finalize().map_err(|error| self.explain(error))?;
        made
    }

    fn explain(&self, error: Error) -> anyhow::Error {
        match error {
            Error::UnexpectedKeyId => {
                anyhow::anyhow!("it is signed with another key than {}, which is the one that is trusted", self.text)
            }
            Error::UnsupportedLegacyMode | Error::UnsupportedAlgorithm | Error::UnexpectedAlgorithm => anyhow::anyhow!(
                "its signature is of a kind that is not accepted (sign it with minisign 0.10 or newer, without -l)"
            ),
            _ => anyhow::anyhow!("its signature does not belong to it: it was changed after it was signed"),
        }
    }
}

/// Where the signature of a bundle lies: `minisign -Sm BUNDLE` writes it there.
pub fn signature_of(bundle: &Path) -> PathBuf {
    let mut name = OsString::from(bundle);
    name.push(".minisig");
    name.into()
}

/// Reads, and lets the verifier hear it.
struct Listening<'a> {
    file: File,
    verifier: StreamVerifier<'a>,
}

impl Read for Listening<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.verifier.update(&buffer[..count]);
        Ok(count)
    }
}

/// As [`Signer::read`], or plainly where nobody has to have signed it.
pub fn read<T>(
    path: &Path,
    signer: Option<&Signer>,
    read: impl FnOnce(&mut dyn Read) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    match signer {
        Some(signer) => signer.read(path, read),
        None if !path.is_file() => bail!("there is no such file"),
        None => read(&mut File::open(path)?),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use minisign::KeyPair;

    use super::*;

    fn signed(directory: &Path, keys: &KeyPair, bytes: &[u8]) -> PathBuf {
        let path = directory.join("b.tar.zst");
        std::fs::write(&path, bytes).unwrap();
        let made = minisign::sign(Some(&keys.pk), &keys.sk, bytes, None, None).unwrap();
        std::fs::write(signature_of(&path), made.into_string()).unwrap();
        path
    }

    fn all(source: &mut dyn Read) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn only_what_was_signed_by_this_key_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeyPair::generate_unencrypted_keypair().unwrap();
        let path = signed(directory.path(), &keys, b"contents");
        let signer = Signer::parse(&keys.pk.to_base64()).unwrap();
        assert_eq!(signer.read(&path, all).unwrap(), b"contents");
        assert_eq!(signer.read(&path, |_| Ok(())).ok(), Some(()), "bytes that nobody asked for are heard too");

        let other = Signer::parse(&KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64()).unwrap();
        assert!(other.read(&path, all).unwrap_err().to_string().contains("another key"));
        std::fs::write(&path, b"contentz").unwrap();
        assert!(signer.read(&path, all).unwrap_err().to_string().contains("was changed"));
        let failing = signer.read(&path, |_| -> anyhow::Result<()> { bail!("it is damaged") });
        assert!(failing.unwrap_err().to_string().contains("was changed"));
        std::fs::write(signature_of(&path), "nonsense").unwrap();
        assert!(signer.read(&path, all).unwrap_err().to_string().contains("no signature"));
        std::fs::remove_file(signature_of(&path)).unwrap();
        assert!(signer.read(&path, all).unwrap_err().to_string().contains("has to be signed"));
        assert_eq!(read(&path, None, all).unwrap(), b"contentz");
    }

    #[test]
    fn a_key_is_its_line_or_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeyPair::generate_unencrypted_keypair().unwrap();
        let line = keys.pk.to_base64();
        let file = directory.path().join("minisign.pub");
        std::fs::write(&file, format!("untrusted comment: minisign public key\n{line}\n")).unwrap();
        assert_eq!(Signer::named(&file.display().to_string()).unwrap().text(), line);
        assert_eq!(Signer::named(&line).unwrap().text(), line);
        assert!(Signer::named("RWnothing").unwrap_err().to_string().contains("56 characters"));
    }
}
