//! Running other programs with errors that say which program, why, and what it printed.

use anyhow::{Context as _, Result, bail};
use std::process::{Command, ExitStatus, Stdio};

/// What a program left behind, as text.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The standard output without the last newline, or an error with everything that was printed.
    pub fn ok(self) -> Result<String> {
        if !self.success() {
            bail!("{}: {}{}", self.status, self.stderr.trim_end(), self.stdout.trim_end());
        }
        Ok(self.stdout.trim_end().to_owned())
    }
}

/// Runs to the end, whatever the exit status.
pub fn output(command: &mut Command) -> Result<Output> {
    let line = line(command);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    Ok(Output {
        status: out.status,
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}

/// Runs to the end; anything but success is an error.
pub fn run(command: &mut Command) -> Result<String> {
    let line = line(command);
    output(command)?.ok().with_context(|| format!("`{line}` failed"))
}

/// `run` for a program and its arguments given as one list.
pub fn sh(words: &[&str]) -> Result<String> {
    let (program, args) = words.split_first().context("empty command")?;
    run(Command::new(program).args(args))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn failures_carry_command_status_and_stderr() {
        let error = sh(&["sh", "-c", "echo bad >&2; exit 3"]).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("sh -c") && text.contains("exit status: 3") && text.contains("bad"), "{text}");
    }
}
