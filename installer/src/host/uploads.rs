//! What goes to hosts: so many hosts at once, and told to who looks on.

use std::time::Instant;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// Who looks on while hosts are worked on.
pub trait Onlooker: Send + Sync {
    /// A host is at this now.
    fn doing(&self, host: &str, what: &str);

    /// So many of `total` bytes of `what` have gone to a host.
    fn sent(&self, host: &str, what: &str, sent: u64, total: u64);

    /// This was done on a host, from `started` until now.
    fn took(&self, host: &str, what: &str, started: Instant);
}

/// Nobody looks on.
impl Onlooker for () {
    fn doing(&self, _: &str, _: &str) {}
    fn sent(&self, _: &str, _: &str, _: u64, _: u64) {}
    fn took(&self, _: &str, _: &str, _: Instant) {}
}

/// The operator's uplink.
pub struct Uploads<'a> {
    permits: Semaphore,
    onlooker: &'a dyn Onlooker,
}

impl<'a> Uploads<'a> {
    /// To so many hosts at once.
    pub fn new(hosts: usize, onlooker: &'a dyn Onlooker) -> Self {
        Self { permits: Semaphore::new(hosts), onlooker }
    }

    pub async fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.permits.acquire().await
    }

    pub fn onlooker(&self) -> &'a dyn Onlooker {
        self.onlooker
    }
}
