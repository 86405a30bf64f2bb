//! A store that can be cut off, as etcd is for a server that does not reach a majority.

use std::sync::Arc;

use store::{EmbeddedStore, KeyValue, Range, RangeRequest, Result, Revision, Store, Txn, WatchStream};
use tokio::sync::watch;

/// While it is cut off, reads and writes wait, and watches that are open stay silent only because nobody can write.
pub struct FaultyStore {
    inner: Arc<EmbeddedStore>,
    cut: watch::Sender<bool>,
}

impl FaultyStore {
    pub fn new(inner: Arc<EmbeddedStore>) -> Arc<Self> {
        Arc::new(FaultyStore { inner, cut: watch::channel(false).0 })
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
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
        self.inner.txn(txn).await
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
