//! Passwords and passphrases: from where the inventory says, or from the person at the terminal.
//!
//! What a command gave or a person typed is kept in memory until the end of this process, so that many hosts ask once.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{LazyLock, OnceLock};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::Mutex;

use crate::cluster::Secret;

type Asker = dyn Fn(&str) -> anyhow::Result<String> + Send + Sync;

/// How often a person may mistype a passphrase.
const TRIES: usize = 3;

static ASKER: OnceLock<Box<Asker>> = OnceLock::new();
/// One question at a time: who waits for the lock finds the answer.
static ANSWERS: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

/// From now on there is somebody to ask. The function gets a question and waits for the answer.
pub fn ask_with(asker: impl Fn(&str) -> anyhow::Result<String> + Send + Sync + 'static) {
    let _ = ASKER.set(Box::new(asker));
}

pub fn can_ask() -> bool {
    ASKER.get().is_some()
}

/// The secret without its final line break. `question`: what a person is asked, and what answers are kept by.
pub async fn value(secret: &Secret, question: &str) -> anyhow::Result<Option<String>> {
    let value = match secret {
        Secret::None | Secret::File(_) | Secret::Environment(_) => return at_hand(secret),
        Secret::Command(line) => once(&format!("command {line}"), run(line)).await?,
        Secret::Prompt => {
            ensure!(
                can_ask(),
                "the {question} was to be asked for, but there is no terminal to ask at; name a file, an environment \
                 variable or a command in the inventory instead"
            );
            once(question, ask(question)).await?
        }
    };
    Ok(Some(value))
}

/// A secret that takes nobody's time: of a file or a variable of the environment; none of any other kind.
pub fn at_hand(secret: &Secret) -> anyhow::Result<Option<String>> {
    match secret {
        Secret::File(path) => {
            let text = std::fs::read_to_string(path).with_context(|| {
                format!("cannot read {}, which is to hold a password or a passphrase", path.display())
            })?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        Secret::Environment(name) => std::env::var(name)
            .map(Some)
            .with_context(|| format!("the environment variable {name} named in the inventory is not set")),
        Secret::None | Secret::Command(_) | Secret::Prompt => Ok(None),
    }
}

async fn once(key: &str, make: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<String> {
    let mut answers = ANSWERS.lock().await;
    if let Some(answer) = answers.get(key) {
        return Ok(answer.clone());
    }
    let answer = make.await?;
    answers.insert(key.to_owned(), answer.clone());
    Ok(answer)
}

/// The first line that a command prints.
async fn run(line: &str) -> anyhow::Result<String> {
    let output =
        tokio::process::Command::new("sh").arg("-c").arg(line).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = output.await.with_context(|| format!("cannot run `{line}` for a password"))?;
    if !output.status.success() {
        let said =
            String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or("it said nothing").to_owned();
        bail!("the command `{line}`, which was to give a password, ended with {}: {said}", output.status);
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("what `{line}` printed is no text"))?;
    let first = text.lines().next().unwrap_or_default();
    ensure!(!first.is_empty(), "the command `{line}`, which was to give a password, printed nothing");
    Ok(first.to_owned())
}

async fn ask(question: &str) -> anyhow::Result<String> {
    let question = question.to_owned();
    tokio::task::spawn_blocking(move || {
        let asker = ASKER.get().context("there is no terminal to ask at")?;
        asker(&question)
    })
    .await?
}

fn passphrase_of(file: &Path) -> String {
    format!("passphrase of the key {}", file.display())
}

/// What a person said about this key file before.
pub async fn known_passphrase(file: &Path) -> Option<String> {
    ANSWERS.lock().await.get(&passphrase_of(file)).cloned()
}

/// Asks for the passphrase of a key file until it fits. Afterwards [`known_passphrase`] knows it.
pub async fn ask_passphrase(file: &Path, fits: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let question = passphrase_of(file);
    let mut answers = ANSWERS.lock().await;
    if answers.contains_key(&question) {
        return Ok(());
    }
    for attempt in 0..TRIES {
        let again = if attempt == 0 { "" } else { "it does not open the key; " };
        let answer = ask(&format!("{again}{question}")).await?;
        if fits(&answer) {
            answers.insert(question, answer);
            return Ok(());
        }
    }
    bail!("the {question} was wrong {TRIES} times; try it with `ssh-keygen -y -f {}`", file.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn commands_give_their_first_line_and_run_once() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs");
        let command = |text: &str| Secret::Command(text.to_owned());
        let secret = command(&format!("echo x >> {}; printf 'pass word\\nuser: me\\n'", runs.display()));
        for _ in 0..3 {
            assert_eq!(value(&secret, "p").await.unwrap().as_deref(), Some("pass word"));
        }
        assert_eq!(std::fs::read_to_string(runs).unwrap(), "x\n");
        let failed = value(&command("echo no such entry >&2; exit 3"), "p").await.unwrap_err().to_string();
        assert!(failed.contains("no such entry") && failed.contains("exit status: 3"), "{failed}");
        assert!(value(&command("true"), "p").await.unwrap_err().to_string().contains("printed nothing"));
    }

    #[tokio::test]
    async fn files_variables_and_nobody_to_ask() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let missing = value(&Secret::File(file.clone()), "p").await.unwrap_err();
        assert!(format!("{missing:#}").contains("password"), "{missing:#}");
        std::fs::write(&file, " a b \r\n").unwrap();
        assert_eq!(value(&Secret::File(file), "p").await.unwrap().as_deref(), Some(" a b "));
        let unset = value(&Secret::Environment("KINSTALL_NOT_SET".into()), "p").await.unwrap_err().to_string();
        assert!(unset.contains("KINSTALL_NOT_SET"), "{unset}");
        assert_eq!(value(&Secret::None, "p").await.unwrap(), None);
        let nobody = value(&Secret::Prompt, "SSH password of admin").await.unwrap_err().to_string();
        assert!(nobody.contains("SSH password of admin") && nobody.contains("no terminal"), "{nobody}");
    }
}
