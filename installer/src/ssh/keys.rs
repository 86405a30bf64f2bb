//! Key files and certificates on this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{Certificate, PrivateKey, PublicKey, decode_secret_key, load_openssh_certificate};

use super::route::Hop;
use super::secrets;

/// A key file as it was found. Exactly one of `private`, `locked` and `unusable` says how it can sign, or why it cannot; a file of
/// the public half alone has none of them, and is for the agent.
#[derive(Clone, Debug)]
pub struct KeyFile {
    pub path: PathBuf,
    pub public: Option<PublicKey>,
    pub private: Option<Arc<PrivateKey>>,
    /// It has a passphrase that nobody gave.
    pub locked: bool,
    pub unusable: Option<String>,
    pub certificates: Vec<(PathBuf, Certificate)>,
}

/// The key files of a hop, with those certificates that belong to them; certificates that cannot be read are told in `problems`.
pub async fn load(hop: &Hop, problems: &mut Vec<String>) -> Vec<KeyFile> {
    let mut files = Vec::new();
    for path in &hop.keys.files {
        let mut file = read(path, hop).await;
        if let Some(public) = &file.public {
            file.certificates = certificates_of(public, path, hop, problems);
        }
        files.push(file);
    }
    files
}

async fn read(path: &Path, hop: &Hop) -> KeyFile {
    let mut file = KeyFile {
        path: path.to_path_buf(),
        public: public_beside(path),
        private: None,
        locked: false,
        unusable: None,
        certificates: Vec::new(),
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // the private half may be in the agent alone
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.public.is_some() => return file,
        Err(error) => {
            file.unusable = Some(format!("the key {} cannot be read: {error}", path.display()));
            return file;
        }
    };
    if let Ok(public) = PublicKey::from_openssh(&text) {
        file.public = Some(public);
        return file;
    }
    // an encrypted key of OpenSSH's form shows its public half
    if let Ok(sealed) = PrivateKey::from_openssh(&text) {
        file.public = Some(sealed.public_key().clone());
    }
    match open(&text, path, hop).await {
        Ok(Some(key)) => {
            file.public = Some(key.public_key().clone());
            file.private = Some(Arc::new(key));
        }
        Ok(None) => file.locked = true,
        Err(message) => file.unusable = Some(message),
    }
    file
}

/// `None`: it has a passphrase and nobody gave it.
async fn open(text: &str, path: &Path, hop: &Hop) -> Result<Option<PrivateKey>, String> {
    let shown = path.display();
    match decode_secret_key(text, None) {
        Ok(key) => return Ok(Some(key)),
        Err(_) if is_encrypted(text) => {}
        Err(error) => return Err(format!("the key {shown} cannot be read: {error}")),
    }
    let given = secrets::value(&hop.passphrase, PASSPHRASE).await.map_err(|error| format!("{error:#}"))?;
    if let Some(passphrase) = given {
        let opened = decode_secret_key(text, Some(&passphrase));
        return opened.map(Some).map_err(|_| {
            format!(
                "the passphrase that the inventory names does not open the key {shown}: correct it, and try it with \
                 `ssh-keygen -y -f {shown}`"
            )
        });
    }
    let asked = secrets::known_passphrase(path).await;
    Ok(asked.and_then(|passphrase| decode_secret_key(text, Some(&passphrase)).ok()))
}

/// What a person is asked with `passphrasePrompt`.
pub const PASSPHRASE: &str = "passphrase of the SSH keys";

/// Whether a passphrase would help: by the form of the file, since a wrong one and none give many errors.
fn is_encrypted(text: &str) -> bool {
    PrivateKey::from_openssh(text).is_ok_and(|key| key.is_encrypted())
        || text.contains("BEGIN ENCRYPTED PRIVATE KEY")
        || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// Asks the person at the terminal for a key's passphrase.
pub async fn ask_passphrase(path: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)?;
    secrets::ask_passphrase(path, |passphrase| decode_secret_key(&text, Some(passphrase)).is_ok()).await
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn public_beside(path: &Path) -> Option<PublicKey> {
    PublicKey::from_openssh(&std::fs::read_to_string(beside(path, ".pub")).ok()?).ok()
}

/// `<key>-cert.pub` if it is there, and those that were named for this key.
fn certificates_of(
    public: &PublicKey,
    path: &Path,
    hop: &Hop,
    problems: &mut Vec<String>,
) -> Vec<(PathBuf, Certificate)> {
    let base = path.to_str().and_then(|path| path.strip_suffix(".pub")).map_or_else(|| path.into(), PathBuf::from);
    let usual = Some(beside(&base, "-cert.pub")).filter(|path| path.exists());
    let mut found: Vec<(PathBuf, Certificate)> = Vec::new();
    for path in hop.keys.certificates.iter().cloned().chain(usual) {
        match load_openssh_certificate(&path) {
            Ok(certificate) if certificate.public_key() == public.key_data() => {
                if !found.iter().any(|(known, _)| *known == path) {
                    found.push((path, certificate));
                }
            }
            Ok(_) => {}
            Err(error) => {
                let message = format!("the certificate {} cannot be read: {error}", path.display());
                if !problems.contains(&message) {
                    problems.push(message);
                }
            }
        }
    }
    found
}
