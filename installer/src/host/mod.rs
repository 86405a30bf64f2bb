//! One host from the installer's side: reach it, bring `kinstall-components` there, converse with its `converge`.
//!
//! Round trips: one exec for the probe, one for the upload (only when the executable is not there; then one more, as it may be gone
//! again), one for `converge` together with its facts, then one for the plan and one for the apply; the blobs that the plan has asked
//! for go with it.

mod backup;
mod bring;
mod fetching;
mod peers;
mod privileged;
mod probe;
mod session;
pub mod shell;
mod speaker;
mod stage;
mod staging;
mod uploads;

use std::fmt;

use hoststate::wire::Failure;

pub use backup::Payload;
pub use peers::{Bytes, Peers};
pub use privileged::{Rights, start as start_as_root};
pub use session::{Done, Session};
pub use shell::Shell;
pub use staging::{Executable, connect, open_session};
pub use uploads::{Onlooker, Uploads};

use crate::ssh::{Exit, SshError};

/// Why something failed on a host, in full: the other hosts go on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostError {
    pub host: String,
    pub step: String,
    pub message: String,
    pub command: Option<String>,
    pub status: Option<i32>,
    pub stderr: Vec<String>,
    pub hint: Option<String>,
}

impl HostError {
    pub fn new(host: &str, step: &str, message: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            step: step.into(),
            message: message.into(),
            command: None,
            status: None,
            stderr: Vec::new(),
            hint: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn ssh(host: &str, step: &str, error: &SshError) -> Self {
        Self::new(host, step, error.to_string())
    }

    fn exit(host: &str, step: &str, message: &str, exit: &Exit) -> Self {
        let mut error = Self::new(host, step, message);
        error.status = exit.status.and_then(|status| i32::try_from(status).ok());
        error.stderr = exit.last_lines(10);
        if error.stderr.iter().any(|line| line.contains("No space left on device")) {
            error.hint = Some("the disk is full: free some space on the host, then run the command again".into());
        }
        error
    }

    fn failure(host: &str, failure: Failure) -> Self {
        Self {
            host: host.into(),
            step: failure.step,
            message: failure.message,
            command: failure.command,
            status: failure.status,
            stderr: failure.stderr,
            hint: failure.hint,
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.host, self.step, self.message)?;
        if let Some(command) = &self.command {
            write!(f, "\n    command: {command}")?;
        }
        if let Some(status) = self.status {
            write!(f, "\n    exit status: {status}")?;
        }
        for line in &self.stderr {
            write!(f, "\n    | {line}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n    remedy: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for HostError {}
