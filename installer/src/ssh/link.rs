//! One SSH connection, over whatever brings its bytes: TCP, a proxy command, or a bastion.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use hoststate::wire::SILENCE;
use parking_lot::Mutex;
use russh::client::{self, Handle};
use russh::{ChannelOpenFailure, Error};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::host_key::{self, HostKeyCheck};
use super::identity::{self, Failure};
use super::known_hosts::KnownHosts;
use super::route::Hop;
use super::{SshError, dial};

/// A host that leaves so many without an answer is gone, after [`SILENCE`].
const KEEPALIVES: u32 = 5;

pub struct Link {
    pub handle: Handle<HostKeyCheck>,
    /// The bastion's connection lasts as long as those through it.
    _through: Option<Arc<Link>>,
}

/// Connects and logs in at the last of the hops, by way of those before it. `timeout`: for each of them.
pub fn establish(hops: &[Hop], timeout: Duration) -> BoxFuture<'_, Result<Link, SshError>> {
    Box::pin(async move {
        let Some((hop, before)) = hops.split_last() else {
            return Err(SshError::Route("there is no host to connect to".into()));
        };
        let Some(bastion) = before.last() else {
            let handle = within(timeout, hop, directly(hop)).await?;
            return Ok(Link { handle, _through: None });
        };
        let through = shared(before, timeout).await;
        let through = through.map_err(|source| SshError::Bastion { target: hop.target(), source })?;
        let work = async {
            let opened =
                through.handle.channel_open_direct_tcpip(hop.address.as_str(), u32::from(hop.port), "127.0.0.1", 0);
            let channel = opened.await.map_err(|error| not_forwarded(bastion, hop, error))?;
            enter(channel.into_stream(), hop).await
        };
        let handle = within(timeout, hop, work).await?;
        Ok(Link { handle, _through: Some(through) })
    })
}

async fn within(
    timeout: Duration,
    hop: &Hop,
    work: impl Future<Output = Result<Handle<HostKeyCheck>, SshError>>,
) -> Result<Handle<HostKeyCheck>, SshError> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        let what = "connecting and logging in";
        Err(SshError::Timeout { target: hop.target(), what, seconds: timeout.as_secs() })
    })
}

async fn directly(hop: &Hop) -> Result<Handle<HostKeyCheck>, SshError> {
    let Some(command) = &hop.proxy_command else { return enter(dial::tcp(hop).await?, hop).await };
    let failed = |reason| SshError::ProxyCommand { target: hop.target(), command: command.clone(), reason };
    let proxy = dial::Proxy::start(command).map_err(|error| failed(error.to_string()))?;
    let said = proxy.said();
    match enter(proxy, hop).await {
        Err(SshError::Handshake { source, .. }) => {
            Err(failed(said.last_line().await.unwrap_or_else(|| source.to_string())))
        }
        result => result,
    }
}

fn not_forwarded(bastion: &Hop, hop: &Hop, error: Error) -> SshError {
    let (bastion, target) = (bastion.target(), hop.target());
    match error {
        Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
            SshError::ForwardRefused { bastion, target }
        }
        Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => {
            SshError::ForwardFailed { bastion, target, reason: "no connection came about".into() }
        }
        Error::ChannelOpenFailure(other) => SshError::ForwardFailed { bastion, target, reason: format!("{other:?}") },
        source => SshError::Broken { target: bastion, source },
    }
}

/// The SSH handshake, the host's key, the login.
async fn enter<S>(stream: S, hop: &Hop) -> Result<Handle<HostKeyCheck>, SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let known = KnownHosts::read(&hop.known_hosts, &hop.known_as)
        .map_err(|(file, error)| SshError::Identity(format!("cannot read {}: {error}", file.display())))?;
    let config = client::Config {
        keepalive_interval: Some(SILENCE / KEEPALIVES),
        keepalive_max: KEEPALIVES as usize,
        nodelay: true,
        window_size: 8 * 1024 * 1024,
        preferred: host_key::preferred(&known),
        ..client::Config::default()
    };
    let problem = Arc::new(Mutex::new(None));
    let (goodbye, said) = oneshot::channel();
    let check = HostKeyCheck { hop: hop.clone(), known, problem: problem.clone(), goodbye: Some(goodbye) };
    let connected = client::connect_stream(Arc::new(config), stream, check).await;
    let mut handle = connected.map_err(|error| match (problem.lock().take(), error) {
        (Some(problem), _) => problem,
        (None, SshError::Protocol(source)) => SshError::Handshake { target: hop.target(), source },
        (None, other) => other,
    })?;
    match identity::authenticate(&mut handle, hop).await {
        Ok(()) => Ok(handle),
        Err(Failure::Ended { tried }) => Err(ended(hop, tried, said.await.ok())),
        Err(Failure::Error(SshError::Protocol(_))) if handle.is_closed() => {
            Err(ended(hop, "see above".into(), said.await.ok()))
        }
        Err(Failure::Error(SshError::Protocol(source))) => Err(SshError::Broken { target: hop.target(), source }),
        Err(Failure::Error(error)) => Err(error),
    }
}

/// The server ended the connection while we were logging in.
fn ended(hop: &Hop, tried: String, said: Option<String>) -> SshError {
    let (target, user) = (hop.target(), hop.user.clone());
    match said {
        Some(said) if said.to_ascii_lowercase().contains("too many") => SshError::TooMany { target, user, tried },
        Some(said) => SshError::Refused { target, user, tried, offered: format!(" (which said: {})", said.trim()) },
        None => SshError::Broken { target, source: Error::Disconnect },
    }
}

/// What stands about one way through bastions.
#[derive(Default)]
struct Shared {
    link: Weak<Link>,
    failed: Option<(Instant, Arc<SshError>)>,
}

type Slot = Arc<tokio::sync::Mutex<Shared>>;

/// Ways by what is known of them. A bastion would turn away a connection for each of many hosts (MaxStartups), so all share one.
static SHARED: LazyLock<Mutex<HashMap<String, Slot>>> = LazyLock::new(Mutex::default);

async fn shared(hops: &[Hop], timeout: Duration) -> Result<Arc<Link>, Arc<SshError>> {
    let asked = Instant::now();
    // a hop holds where its secrets are, not the secrets
    let slot = SHARED.lock().entry(format!("{hops:?}")).or_default().clone();
    let mut shared = slot.lock().await;
    if let Some(link) = shared.link.upgrade().filter(|link| !link.handle.is_closed()) {
        return Ok(link);
    }
    // others waited with us for the same attempt
    if let Some((when, error)) = &shared.failed
        && *when > asked
    {
        return Err(error.clone());
    }
    match establish(hops, timeout).await {
        Ok(link) => {
            let link = Arc::new(link);
            *shared = Shared { link: Arc::downgrade(&link), failed: None };
            Ok(link)
        }
        Err(error) => {
            let error = Arc::new(error);
            shared.failed = Some((Instant::now(), error.clone()));
            Err(error)
        }
    }
}
