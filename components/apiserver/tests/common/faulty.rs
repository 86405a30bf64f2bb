//! A store that can be cut off, as etcd is for a server that does not reach a majority.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use store::{EmbeddedStore, Error, KeyValue, Range, RangeRequest, Result, Revision, Store, Txn, WatchStream};
use tokio::sync::watch;

/// While it is cut off, reads and writes wait, and watches that are open stay silent only because nobody can write.
pub struct FaultyStore {
    inner: Arc<EmbeddedStore>,
    cut: watch::Sender<bool>,
    in_doubt: AtomicU32,
}

impl FaultyStore {
    pub fn new(inner: Arc<EmbeddedStore>) -> Arc<Self> {
        Arc::new(FaultyStore { inner, cut: watch::channel(false).0, in_doubt: AtomicU32::new(0) })
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// So many of the next writes are done, but the server is told that nobody knows: etcd's leader went meanwhile.
    pub fn doubt(&self, writes: u32) {
        self.in_doubt.store(writes, Ordering::SeqCst);
    }

    /// How many of them there were not yet.
    pub fn in_doubt(&self) -> u32 {
        self.in_doubt.load(Ordering::SeqCst)
    }

    async fn reachable(&self) {
        self.cut.subscribe().wait_for(|cut| !cut).await.unwrap();
    }
}

#[async_trait::async_trait]
impl Store for FaultyStore {
    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        self.reachable().await;
        self.inner.get(key).await
    }

    async fn range(&self, request: RangeRequest) -> Result<Range> {
        self.reachable().await;
        self.inner.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<Revision> {
        self.reachable().await;
        let revision = self.inner.txn(txn).await?;
        let one_less = |left: u32| left.checked_sub(1);
        match self.in_doubt.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => Err(Error::Unavailable("the leader is lost".into())),
            Err(_) => Ok(revision),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        self.reachable().await;
        self.inner.watch(prefix, after).await
    }

    async fn size(&self) -> Result<u64> {
        self.inner.size().await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.reachable().await;
        self.inner.compact(revision).await
    }

    async fn defragment(&self, at_least: u64) -> Result<u64> {
        self.reachable().await;
        self.inner.defragment(at_least).await
    }
}
