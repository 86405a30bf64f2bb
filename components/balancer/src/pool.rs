//! The servers there are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::server::{Server, State};
use crate::{choice, health};

pub struct Pool {
    servers: RwLock<Vec<Arc<Server>>>,
    listen: SocketAddr,
    ca_file: RwLock<PathBuf>,
    turn: AtomicUsize,
    stop: CancellationToken,
}

impl Pool {
    /// Asks its servers whether they are ready until `stop`.
    pub fn new(config: Config, stop: CancellationToken) -> Arc<Self> {
        let pool = Arc::new(Pool {
            servers: RwLock::default(),
            listen: config.listen,
            ca_file: RwLock::default(),
            // or every host of a cluster would begin with the same server
            turn: AtomicUsize::new(rand::rng().random_range(0..1024)),
            stop,
        });
        pool.configure(config);
        pool
    }

    /// Takes over other servers. Those that stay are not touched; what goes through those that are gone ends by itself.
    pub fn configure(self: &Arc<Self>, config: Config) {
        if config.listen != self.listen {
            tracing::warn!("to listen on {} takes a restart; listens on {}", config.listen, self.listen);
        }
        *self.ca_file.write() = config.ca_file;
        let mut servers = self.servers.write();
        let before = std::mem::take(&mut *servers);
        for address in config.servers {
            if servers.iter().any(|server| server.address == address) {
                continue;
            }
            let known = before.iter().find(|server| server.address == address).cloned();
            servers.push(known.unwrap_or_else(|| {
                tracing::info!(server = %address, "new");
                let server = Arc::new(Server::new(address, self.stop.child_token()));
                tokio::spawn(health::keep(self.clone(), server.clone()));
                server
            }));
        }
        for server in before.iter().filter(|old| !servers.iter().any(|new| Arc::ptr_eq(old, new))) {
            tracing::info!(server = %server.address, "removed");
            server.abandon(false);
            server.removed.cancel();
        }
        drop(servers);
        self.weigh();
    }

    pub fn ca_file(&self) -> PathBuf {
        self.ca_file.read().clone()
    }

    /// The servers that a new connection tries.
    pub fn order(&self) -> Vec<Arc<Server>> {
        choice::order(&self.servers.read(), self.turn.fetch_add(1, Ordering::Relaxed))
    }

    pub fn set(&self, server: &Server, state: State, why: &str) {
        if server.set(state, why) {
            self.weigh();
        }
    }

    /// What goes through servers in trouble ends, as soon as there is one to go to instead.
    fn weigh(&self) {
        let servers = self.servers.read();
        let ready = servers.iter().any(|server| server.state() == State::Ready);
        servers.iter().for_each(|server| server.abandon(ready && server.state().is_bad()));
    }
}
