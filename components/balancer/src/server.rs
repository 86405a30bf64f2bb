//! One API server, as this host sees it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Ready,
    /// Nobody has asked yet.
    Unknown,
    /// It answers, and says no.
    Unready,
    /// It does not answer.
    Lost,
}

impl State {
    /// Whether what goes through it is better off elsewhere.
    pub fn is_bad(self) -> bool {
        matches!(self, State::Unready | State::Lost)
    }
}

pub struct Server {
    pub address: SocketAddr,
    /// It runs on this host.
    pub own: bool,
    state: watch::Sender<State>,
    /// Connections through it have to end: it is in trouble and another is ready.
    abandoned: watch::Sender<bool>,
    connections: AtomicUsize,
    /// Somebody could not connect: it should be asked now.
    pub doubted: Notify,
    /// It is no longer among the servers.
    pub removed: CancellationToken,
}

impl Server {
    pub fn new(address: SocketAddr, removed: CancellationToken) -> Self {
        Server {
            address,
            own: is_own(address.ip()),
            state: watch::channel(State::Unknown).0,
            abandoned: watch::channel(false).0,
            connections: AtomicUsize::new(0),
            doubted: Notify::new(),
            removed,
        }
    }

    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Whether this is news; `why` is for people.
    pub fn set(&self, state: State, why: &str) -> bool {
        let before = self.state.send_replace(state);
        if before != state {
            match state {
                State::Ready => tracing::info!(server = %self.address, "ready"),
                _ => {
                    tracing::warn!(server = %self.address, "{}: {why}", if state == State::Lost { "lost" } else { "not ready" })
                }
            }
        }
        before != state
    }

    pub fn abandon(&self, abandoned: bool) {
        self.abandoned.send_if_modified(|it| std::mem::replace(it, abandoned) != abandoned);
    }

    /// Returns when connections through it have to end.
    pub async fn until_abandoned(&self) {
        // the sender lives as long as this
        let _ = self.abandoned.subscribe().wait_for(|abandoned| *abandoned).await;
    }

    pub fn load(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection until the answer is dropped.
    pub fn connection(&self) -> Connection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connection(self)
    }
}

pub struct Connection<'a>(&'a Server);

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Only addresses of this host can be bound.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("203.0.113.1".parse().unwrap()), "TEST-NET-3 is nobody's");
    }

    #[test]
    fn connections_are_counted_while_they_last() {
        let server = Server::new("127.0.0.1:1".parse().unwrap(), CancellationToken::new());
        let (one, two) = (server.connection(), server.connection());
        assert_eq!(server.load(), 2);
        drop((one, two));
        assert_eq!(server.load(), 0);
    }
}
