//! Keys and passphrases, from files or from who sits at the terminal; never from the command line.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use archive::{Key, Seal, Unseal};
use serde_json::json;

use crate::cli::backup::{BackupCreate, Opening};
use crate::cluster::BackupPlan;
use crate::commands::{Ended, ask};
use crate::printer::Printer;

/// `planned`: the inventory's keys, for who names none.
pub fn seal(arguments: &BackupCreate, planned: Option<&BackupPlan>) -> anyhow::Result<Seal> {
    if !arguments.recipients.is_empty() {
        return Seal::to(arguments.recipients.iter().map(String::as_str)).context("--to");
    }
    if let Some(path) = &arguments.passphrase_file {
        return Ok(Seal::passphrase(passphrase(path)?));
    }
    if let Some(plan) = planned {
        return Seal::to(plan.recipients.iter().map(String::as_str)).context("backup.recipients");
    }
    let first = ask::secret("Passphrase for the backup").context(
        "a backup is encrypted: name a public key with --to (`kinstall backup keygen` makes one), or --passphrase-file",
    )?;
    ensure!(!first.is_empty(), "the passphrase is empty");
    ensure!(first == ask::secret("The same again")?, "the two passphrases differ");
    Ok(Seal::passphrase(first))
}

pub fn unseal(opening: &Opening) -> anyhow::Result<Unseal> {
    if let Some(path) = &opening.identity {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read the key file {}", path.display()))?;
        return Unseal::identities(&text).with_context(|| format!("the key file {}", path.display()));
    }
    if let Some(path) = &opening.passphrase_file {
        return Ok(Unseal::passphrase(passphrase(path)?));
    }
    let text = ask::secret("Passphrase of the backup")
        .context("a backup is encrypted: name the secret key's file with --identity, or --passphrase-file")?;
    Ok(Unseal::passphrase(text))
}

fn passphrase(path: &Path) -> anyhow::Result<String> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the passphrase file {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "the passphrase file {} begins with an empty line", path.display());
    Ok(line.to_owned())
}

pub fn generate(printer: &Printer, path: &Path) -> anyhow::Result<Ended> {
    let key = Key::generate();
    let mut file = match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; what was sealed to that key could never be opened again", path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    };
    file.write_all(key.file().as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    printer.result(&key.public(), &json!({"event": "key", "public": key.public(), "file": path}));
    Ok(Ended::Done)
}
