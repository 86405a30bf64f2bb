//! Commands on a host.
//!
//! [`Transport`] is all the rest of the installer knows about reaching a host: it starts a command and hands back its
//! streams. The real one is [`client`] (SSH by russh).

pub mod address;
pub mod client;
mod config;
mod dial;
mod error;
mod host_key;
mod identity;
mod keys;
pub mod known_hosts;
mod link;
mod process;
mod route;
pub mod secrets;

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

pub use client::SshClient;
pub use error::SshError;
pub use process::{Exit, Process};

/// A connection to one host that can start commands.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Starts `command` in the login shell of the connection's user.
    async fn start(&self, command: &str) -> Result<Process, SshError>;

    /// As [`Transport::start`], with a terminal as stdin, stdout and stderr: for programs that ask there.
    async fn start_on_terminal(&self, command: &str) -> Result<Process, SshError>;

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
