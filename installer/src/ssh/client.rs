//! SSH to one host: by the way that inventory and ssh_config say, log in, start commands.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use russh::{Channel, Disconnect, client::Msg};

use super::link::{self, Link};
use super::route::{self, Hop};
use super::{Process, RoundTrips, SshError, Transport, identity, keys, secrets};
use crate::cluster::{Host, Secret};

/// How many passphrases a person is asked for one host, at most.
const QUESTIONS: usize = 8;

pub struct SshClient {
    link: Link,
    target: String,
    user: String,
    round_trips: RoundTrips,
    /// Opened together with the first one.
    spare: Mutex<Vec<Channel<Msg>>>,
    started: AtomicBool,
}

/// How many commands a host is usually told to start: the probe, the upload, `converge`. A channel for each takes a round trip to
/// open; opened together they take one. A server that allows fewer refuses those, and they are opened when they are needed.
const COMMANDS: usize = 3;

impl SshClient {
    /// Connects and logs in: each hop of the way within `timeout`, but for the time that a person takes to answer.
    pub async fn connect(host: &Host, timeout: Duration) -> Result<Self, SshError> {
        let hops = route::of(host)?;
        for hop in &hops {
            get_ready(hop).await.map_err(|error| SshError::Identity(format!("{error:#}")))?;
        }
        let link = establish(&hops, timeout).await?;
        let (target, user) = hops.last().map(|hop| (hop.target(), hop.user.clone())).unwrap_or_default();
        let (spare, started) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { link, target, user, round_trips: RoundTrips::default(), spare, started })
    }

    async fn channel(&self) -> Result<Channel<Msg>, SshError> {
        self.round_trips.add();
        if let Some(channel) = self.spare.lock().pop() {
            return Ok(channel);
        }
        let open = || self.link.handle.channel_open_session();
        if self.started.swap(true, Ordering::Relaxed) {
            return open().await.map_err(|source| self.broken(source));
        }
        let mut opened = join_all((0..COMMANDS).map(|_| open())).await;
        let first = opened.remove(0);
        self.spare.lock().extend(opened.into_iter().flatten());
        first.map_err(|source| self.broken(source))
    }

    fn broken(&self, source: russh::Error) -> SshError {
        SshError::Broken { target: self.target.clone(), source }
    }
}

/// What takes a person's time comes before any connection waits for it.
async fn get_ready(hop: &Hop) -> anyhow::Result<()> {
    let takes_time = |secret: &Secret| matches!(secret, Secret::Command(_) | Secret::Prompt);
    if takes_time(&hop.password) {
        secrets::value(&hop.password, &identity::password_question(hop)).await?;
    }
    if takes_time(&hop.passphrase) {
        secrets::value(&hop.passphrase, keys::PASSPHRASE).await?;
    }
    Ok(())
}

/// Where nothing but a key with a passphrase is left, a person is asked, and all is tried again.
async fn establish(hops: &[Hop], timeout: Duration) -> Result<Link, SshError> {
    let mut result = link::establish(hops, timeout).await;
    for _ in 0..QUESTIONS {
        let Some(file) = result.as_ref().err().and_then(locked).filter(|_| secrets::can_ask()) else { break };
        keys::ask_passphrase(&file).await.map_err(|error| SshError::Identity(format!("{error:#}")))?;
        result = link::establish(hops, timeout).await;
    }
    result
}

/// The key file whose passphrase would help.
fn locked(error: &SshError) -> Option<PathBuf> {
    match error {
        SshError::Locked { files, .. } => files.first().cloned(),
        SshError::Bastion { source, .. } => locked(source),
        _ => None,
    }
}

#[async_trait]
impl Transport for SshClient {
    async fn start(&self, command: &str) -> Result<Process, SshError> {
        let channel = self.channel().await?;
        channel.exec(false, command).await.map_err(|source| self.broken(source))?;
        Ok(Process::from_channel(channel))
    }

    async fn start_on_terminal(&self, command: &str) -> Result<Process, SshError> {
        let channel = self.channel().await?;
        channel.request_pty(false, "dumb", 200, 24, 0, 0, &[]).await.map_err(|source| self.broken(source))?;
        channel.exec(false, command).await.map_err(|source| self.broken(source))?;
        Ok(Process::from_channel(channel))
    }

    fn user(&self) -> &str {
        &self.user
    }

    fn round_trips(&self) -> &RoundTrips {
        &self.round_trips
    }

    async fn close(&self) {
        let _ = self.link.handle.disconnect(Disconnect::ByApplication, "", "en").await;
    }
}
