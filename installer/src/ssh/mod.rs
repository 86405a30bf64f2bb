//! Commands on a host.
//!
//! [`Transport`] is all the rest of the installer knows about reaching a host: it starts a command and hands back its
//! streams. The real one is [`client`] (SSH by russh).

pub mod client;
pub mod identity;
pub mod known_hosts;
mod process;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

pub use client::SshClient;
pub use process::{Exit, Process};

/// A connection to one host that can start commands.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Starts `command` in the login shell of the connection's user.
    async fn start(&self, command: &str) -> Result<Process, SshError>;

    /// The user commands run as.
    fn user(&self) -> &str;

    fn round_trips(&self) -> &RoundTrips;

    async fn close(&self);
}

/// Counts how often the installer had to wait for a host: started commands and answered requests.
#[derive(Debug, Default)]
pub struct RoundTrips(AtomicU32);

impl RoundTrips {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a host cannot be reached or entered. Each says what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    #[error(
        "cannot connect to {target}: {reason}; check that the host is up, its address and port, and firewalls between"
    )]
    Unreachable { target: String, reason: String },
    #[error("{target} did not answer within {seconds} s while {what}; check that the host is up and not overloaded")]
    Timeout { target: String, what: &'static str, seconds: u64 },
    #[error(
        "the host key of {target} is not known ({fingerprint}); compare it with the host's, then add it with \
         `ssh-keyscan -p {port} {address} >> {}`, or set ssh.hostKeyChecking: accept-new", file.display()
    )]
    HostKeyUnknown { target: String, address: String, port: u16, fingerprint: String, file: PathBuf },
    #[error(
        "the host key of {target} changed (now {fingerprint}, line {line} of {} says otherwise): someone may be in between, or \
         the host was made anew; if so remove that line and run again", file.display()
    )]
    HostKeyChanged { target: String, fingerprint: String, file: PathBuf, line: usize },
    #[error("the host key of {target} ({fingerprint}) is revoked by line {line} of {}", file.display())]
    HostKeyRevoked { target: String, fingerprint: String, file: PathBuf, line: usize },
    #[error(
        "{target} refused user {user:?}; tried: {tried}; check ssh.user and ssh.identityFile, and the user's authorized_keys on the host"
    )]
    Refused { target: String, user: String, tried: String },
    #[error("{0}")]
    Identity(String),
    #[error("the connection to {target} broke: {source}")]
    Broken { target: String, source: russh::Error },
    #[error(transparent)]
    Protocol(#[from] russh::Error),
}
