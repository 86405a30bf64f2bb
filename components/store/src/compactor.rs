//! History is kept for a while and then forgotten.

use std::sync::Arc;
use std::time::Duration;

use crate::Store;

/// Less than this is not worth that writes wait for it.
const UNUSED: u64 = 64 * 1024 * 1024;

/// Compacts every `interval` to the revision of one interval ago, until the store is dropped.
pub fn spawn_compactor(store: &Arc<impl Store + ?Sized>, interval: Duration) -> tokio::task::JoinHandle<()> {
    let store = Arc::downgrade(store);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        let mut before = None;
        loop {
            ticks.tick().await;
            let Some(store) = store.upgrade() else { return };
            if let Some(revision) = before.replace(store.revision())
                && let Err(error) = store.compact(revision).await
            {
                tracing::warn!(revision, "cannot compact the store: {error}");
            }
            match store.defragment(UNUSED).await {
                Ok(0) => {}
                Ok(bytes) => tracing::info!(bytes, "the store gave disk space back"),
                Err(error) => tracing::warn!("cannot defragment the store: {error}"),
            }
        }
    })
}
