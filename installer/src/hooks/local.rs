//! A hook on this machine, in a process group of its own, so that all that it starts can be ended with it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// The text comes by the environment, which only its own user can read, and is taken out of it at once.
const EVAL: &str = "exec 2>&1; s=$KINSTALL_SCRIPT; unset KINSTALL_SCRIPT; eval \"$s\"";
/// How long what was told to end may take.
const GRACE: Duration = Duration::from_secs(5);

/// Runs it to its end; each line of what it prints goes to `seen`.
///
/// # Errors
/// When it cannot be started, ends with another status than 0, or not in time.
pub async fn run(
    text: &str,
    variables: &[(&'static str, String)],
    directory: &Path,
    timeout: Duration,
    mut seen: impl FnMut(String),
) -> anyhow::Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", EVAL])
        .env("KINSTALL_SCRIPT", text)
        .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot run sh")?;
    let mut group = Group::of(&child);
    let mut output = BufReader::new(child.stdout.take().context("it has no output")?);
    let work = async {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            seen(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            line.clear();
        }
        child.wait().await
    };
    let ended = tokio::time::timeout(timeout, work).await;
    let status: ExitStatus = match ended {
        Ok(status) => status.context("it cannot be waited for")?,
        Err(_) => {
            group.end(Signal::SIGTERM);
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                group.end(Signal::SIGKILL);
            }
            bail!("{}", super::late(timeout));
        }
    };
    group.0 = None;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => bail!("exit status {code}"),
        None => bail!("it was killed ({status})"),
    }
}

/// A process group that ends when nobody waits for it any more.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn end(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // one that is gone already needs no signal
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end(Signal::SIGTERM);
    }
}
