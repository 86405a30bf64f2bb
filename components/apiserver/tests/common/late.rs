//! A store that hears of what others wrote only after a while, as a server does whose etcd member is behind.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use store::{EmbeddedStore, KeyValue, Range, RangeRequest, Result, Revision, Store, Txn, WatchItem, WatchStream};
use tokio::sync::watch;

/// Reads of the newest state wait until it has arrived, so they are never stale; what is known without asking is.
pub struct LateStore {
    inner: Arc<EmbeddedStore>,
    arrived: watch::Receiver<Revision>,
}

impl LateStore {
    pub async fn new(inner: Arc<EmbeddedStore>, delay: Duration) -> Arc<Self> {
        let begin = inner.revision();
        let (arrives, arrived) = watch::channel(begin);
        let mut items = inner.watch("/", begin).await.unwrap();
        tokio::spawn(async move {
            let mut on_the_way = futures::stream::FuturesOrdered::new();
            loop {
                tokio::select! {
                    Some(item) = items.next() => {
                        let Ok(WatchItem::Event(event)) = item else { continue };
                        let sleep = tokio::time::sleep(delay);
                        on_the_way.push_back(async move { sleep.await; event.kv.mod_revision });
                    }
                    Some(revision) = on_the_way.next() => drop(arrives.send_replace(revision)),
                    else => return,
                }
            }
        });
        Arc::new(LateStore { inner, arrived })
    }

    async fn caught_up(&self, revision: Revision) {
        self.arrived.clone().wait_for(|arrived| *arrived >= revision).await.unwrap();
    }
}

#[async_trait::async_trait]
impl Store for LateStore {
    fn revision(&self) -> Revision {
        *self.arrived.borrow()
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        self.caught_up(self.inner.revision()).await;
        self.inner.get(key).await
    }

    async fn range(&self, request: RangeRequest) -> Result<Range> {
        if request.revision.is_none() {
            self.caught_up(self.inner.revision()).await;
        }
        self.inner.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<Revision> {
        let revision = self.inner.txn(txn).await?;
        self.caught_up(revision).await;
        Ok(revision)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        let arrived = self.arrived.clone();
        let items = self.inner.watch(prefix, after).await?.then(move |item| {
            let mut arrived = arrived.clone();
            async move {
                let revision = match &item {
                    Ok(WatchItem::Event(event)) => event.kv.mod_revision,
                    Ok(WatchItem::Progress(revision)) => *revision,
                    Err(_) => 0,
                };
                drop(arrived.wait_for(|arrived| *arrived >= revision).await);
                item
            }
        });
        Ok(items.boxed())
    }

    async fn size(&self) -> Result<u64> {
        self.inner.size().await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.inner.compact(revision).await
    }

    async fn defragment(&self, at_least: u64) -> Result<u64> {
        self.inner.defragment(at_least).await
    }
}
