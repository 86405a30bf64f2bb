//! SSH to one host: connect, check its key, log in, start commands.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use hoststate::wire::SILENCE;
use parking_lot::Mutex;

use russh::client::{self, Handle, Handler, Msg};
use russh::keys::{Algorithm, HashAlg, PublicKeyOrCertificate};
use russh::{Channel, Disconnect, Preferred};

use super::identity::{self, Failure};
use super::known_hosts::{KnownHosts, Verdict};
use super::{Process, RoundTrips, SshError, Transport};
use crate::cluster::{Host, Ssh};
use crate::inventory::HostKeyChecking;

pub struct SshClient {
    handle: Handle<HostKeyCheck>,
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
    async fn channel(&self) -> Result<Channel<Msg>, russh::Error> {
        if let Some(channel) = self.spare.lock().pop() {
            return Ok(channel);
        }
        if self.started.swap(true, Ordering::Relaxed) {
            return self.handle.channel_open_session().await;
        }
        let mut opened = join_all((0..COMMANDS).map(|_| self.handle.channel_open_session())).await;
        let first = opened.remove(0);
        self.spare.lock().extend(opened.into_iter().flatten());
        first
    }

    /// Connects and logs in, all of it within `timeout`.
    pub async fn connect(host: &Host, timeout: Duration) -> Result<Self, SshError> {
        let target = format!("{}:{}", host.address, host.ssh.port);
        match tokio::time::timeout(timeout, connect(host, &target)).await {
            Ok(result) => result,
            Err(_) => Err(SshError::Timeout { target, what: "connecting and logging in", seconds: timeout.as_secs() }),
        }
    }
}

#[async_trait]
impl Transport for SshClient {
    async fn start(&self, command: &str) -> Result<Process, SshError> {
        self.round_trips.add();
        let broken = |source| SshError::Broken { target: self.target.clone(), source };
        let channel = self.channel().await.map_err(broken)?;
        channel.exec(false, command).await.map_err(broken)?;
        Ok(Process::from_channel(channel))
    }

    fn user(&self) -> &str {
        &self.user
    }

    fn round_trips(&self) -> &RoundTrips {
        &self.round_trips
    }

    async fn close(&self) {
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
    }
}

async fn connect(host: &Host, target: &str) -> Result<SshClient, SshError> {
    let unreachable = |reason: String| SshError::Unreachable { target: target.to_owned(), reason };
    let ssh = &host.ssh;
    let known = KnownHosts::read(&ssh.known_hosts_file, &host.address, ssh.port)
        .map_err(|error| SshError::Identity(format!("cannot read {}: {error}", ssh.known_hosts_file.display())))?;
    let verdict = Arc::new(Mutex::new(None));
    let check = HostKeyCheck { host: host.clone(), known: known.clone(), problem: verdict.clone() };
    let stream = tokio::net::TcpStream::connect((host.address.as_str(), ssh.port))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    notice_silence(&stream).map_err(|error| unreachable(error.to_string()))?;
    let mut handle = match client::connect_stream(Arc::new(config(&known)), stream, check).await {
        Ok(handle) => handle,
        Err(error) => return Err(verdict.lock().take().unwrap_or(error)),
    };
    match identity::authenticate(&mut handle, ssh).await {
        Ok(()) => {}
        Err(Failure::Refused(tried)) => {
            return Err(SshError::Refused { target: target.to_owned(), user: ssh.user.clone(), tried });
        }
        Err(Failure::Error(error)) => return Err(error),
    }
    Ok(SshClient {
        handle,
        target: target.to_owned(),
        user: ssh.user.clone(),
        round_trips: RoundTrips::default(),
        spare: Mutex::default(),
        started: AtomicBool::new(false),
    })
}

/// A host that leaves so many without an answer is gone, after [`SILENCE`].
const KEEPALIVES: u32 = 5;

/// A host that loses power takes nothing any more: an upload would wait in `write` for a quarter of an hour, and keepalives
/// behind it. The kernel is told to give up when nothing of what was sent is acknowledged (`TCP_USER_TIMEOUT`, tcp(7)).
#[cfg(target_os = "linux")]
fn notice_silence(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
    setsockopt(stream, TcpUserTimeout, &u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX)).map_err(Into::into)
}

/// Other systems have no such limit for each connection.
#[cfg(not(target_os = "linux"))]
fn notice_silence(_: &tokio::net::TcpStream) -> std::io::Result<()> {
    Ok(())
}

fn config(known: &KnownHosts) -> client::Config {
    client::Config {
        keepalive_interval: Some(SILENCE / KEEPALIVES),
        keepalive_max: KEEPALIVES as usize,
        nodelay: true,
        window_size: 8 * 1024 * 1024,
        preferred: Preferred { key: key_order(known), ..Preferred::default() },
        ..client::Config::default()
    }
}

/// Known algorithms first, so that a host with several keys proves one that we know.
fn key_order(known: &KnownHosts) -> Cow<'static, [Algorithm]> {
    let mut order = Vec::new();
    for algorithm in known.algorithms() {
        match algorithm {
            Algorithm::Rsa { .. } => {
                order.extend([HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }));
            }
            other => order.push(other),
        }
    }
    for algorithm in Preferred::default().key.iter() {
        if !order.contains(algorithm) {
            order.push(algorithm.clone());
        }
    }
    Cow::Owned(order)
}

/// Compares the server's key with the known-hosts file; what is wrong is left in `problem`.
pub struct HostKeyCheck {
    host: Host,
    known: KnownHosts,
    problem: Arc<Mutex<Option<SshError>>>,
}

impl Handler for HostKeyCheck {
    type Error = SshError;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let Host { address, ssh: Ssh { port, known_hosts_file: file, host_key_checking, .. }, .. } = &self.host;
        let target = format!("{address}:{port}");
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let problem = match self.known.check(key) {
            Verdict::Known => return Ok(true),
            Verdict::Unknown if *host_key_checking == HostKeyChecking::AcceptNew => match self.known.remember(key) {
                Ok(()) => return Ok(true),
                Err(error) => {
                    SshError::Identity(format!("cannot remember the key of {target} in {}: {error}", file.display()))
                }
            },
            Verdict::Unknown => SshError::HostKeyUnknown {
                target,
                address: address.clone(),
                port: *port,
                fingerprint,
                file: file.clone(),
            },
            Verdict::Changed { line } => SshError::HostKeyChanged { target, fingerprint, file: file.clone(), line },
            Verdict::Revoked { line } => SshError::HostKeyRevoked { target, fingerprint, file: file.clone(), line },
        };
        *self.problem.lock() = Some(problem);
        Ok(false)
    }
}
