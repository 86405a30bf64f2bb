//! What goes to hosts: so many hosts at once, and told to who looks on.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use super::Peers;

/// Who looks on while hosts are worked on.
pub trait Onlooker: Send + Sync {
    /// A host is at this now.
    fn doing(&self, host: &str, what: &str);

    /// So many of `total` bytes of `what` have gone to a host.
    fn sent(&self, host: &str, what: &str, sent: u64, total: u64);

    /// Something that nobody has to mind; for who looks into it later.
    fn note(&self, host: &str, text: &str);

    /// This was done on a host, from `started` until now.
    fn took(&self, host: &str, what: &str, started: Instant);
}

/// Nobody looks on.
impl Onlooker for () {
    fn doing(&self, _: &str, _: &str) {}
    fn sent(&self, _: &str, _: &str, _: u64, _: u64) {}
    fn note(&self, _: &str, _: &str) {}
    fn took(&self, _: &str, _: &str, _: Instant) {}
}

/// The operator's uplink, and who else has what goes by it.
pub struct Uploads<'a> {
    permits: Semaphore,
    peers: Arc<Peers>,
    onlooker: &'a dyn Onlooker,
}

impl<'a> Uploads<'a> {
    /// To so many hosts at once.
    pub fn new(hosts: usize, onlooker: &'a dyn Onlooker) -> Self {
        Self { permits: Semaphore::new(hosts), peers: Peers::new(false), onlooker }
    }

    /// Hosts pass on what they get.
    pub fn with_peers(self, on: bool) -> Self {
        Self { peers: Peers::new(on), ..self }
    }

    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    pub async fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.permits.acquire().await
    }

    pub fn onlooker(&self) -> &'a dyn Onlooker {
        self.onlooker
    }
}
