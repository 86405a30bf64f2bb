//! Encryption at rest: a store around the store, whose values of chosen resources nobody reads without the keys.
//!
//! Above it everything sees plain objects. The configuration is read again when its file changes; values are rewritten with the
//! newest key whenever they are written at all (also by a write that changes nothing).

mod config;
mod transform;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::RwLock;
use store::{Error, Event, KeyValue, Op, Range, RangeRequest, Result, Revision, Store, Txn, WatchItem, WatchStream};
use tokio_util::sync::CancellationToken;

use crate::{metrics::text::Text, registry::ROOT};
use config::Rules;
use transform::{MARK, TransformError};

#[derive(Default)]
struct Counts {
    to_storage: AtomicU64,
    from_storage: AtomicU64,
    failures: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
}

pub struct EncryptedStore {
    inner: Arc<dyn Store>,
    file: PathBuf,
    rules: Arc<RwLock<Arc<Rules>>>,
    counts: Arc<Counts>,
}

/// Group and plural of a key `/registry/<group>/<plural>/…`.
fn resource_of(key: &str) -> Option<(&str, &str)> {
    let mut parts = key.strip_prefix(ROOT)?.splitn(3, '/');
    let (group, plural) = (parts.next()?, parts.next()?);
    Some((if group == "core" { "" } else { group }, plural))
}

impl EncryptedStore {
    pub fn open(inner: Arc<dyn Store>, file: &Path) -> anyhow::Result<Arc<Self>> {
        let rules = Arc::new(RwLock::new(Arc::new(Rules::from_file(file)?)));
        Ok(Arc::new(EncryptedStore { inner, file: file.to_owned(), rules, counts: Arc::default() }))
    }

    /// Takes a changed configuration; one that cannot be used is told about and changes nothing.
    pub fn reload(&self) {
        match Rules::from_file(&self.file) {
            // something else in the folder changed
            Ok(rules) if rules.digest == self.rules.read().digest => {}
            Ok(rules) => {
                *self.rules.write() = Arc::new(rules);
                self.counts.reloads.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.counts.failed_reloads.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error = format!("{error:#}"), "the encryption configuration stays as it was");
            }
        }
    }

    pub fn reload_when_changed(self: &Arc<Self>, stopping: CancellationToken) {
        let own = self.clone();
        if let Err(error) = files::watch([self.file.clone()], stopping, move || own.reload()) {
            tracing::warn!(error = format!("{error:#}"), "a changed encryption configuration needs a restart");
        }
    }

    /// Whether a value lies there as it would not be written now.
    pub async fn is_stale(&self, key: &str) -> bool {
        let rules = self.rules.read().clone();
        let Some(providers) = resource_of(key).and_then(|(group, plural)| rules.of(group, plural)) else {
            return false;
        };
        match self.inner.get(key).await {
            Ok(Some(kv)) => !transform::is_current(providers, &kv.value),
            _ => false,
        }
    }

    pub fn render(&self, out: &mut Text) {
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (ok, failed) = (
            "apiserver_storage_transformation_operations_total",
            "apiserver_encryption_config_controller_automatic_reloads_total",
        );
        let mut transformed = out.counter(ok, "Total number of transformations.");
        for (kind, status, counter) in [
            ("to_storage", "OK", &self.counts.to_storage),
            ("from_storage", "OK", &self.counts.from_storage),
            ("from_storage", "Internal", &self.counts.failures),
        ] {
            transformed.sample(&[("status", status), ("transformation_type", kind)], total(counter));
        }
        let help =
            "Total number of reload successes and failures of encryption configuration split by apiserver identity.";
        let mut reloads = out.counter(failed, help);
        for (status, counter) in [("success", &self.counts.reloads), ("failure", &self.counts.failed_reloads)] {
            reloads.sample(&[("status", status)], total(counter));
        }
    }
}

/// The value as it was before it was stored; cheap for what is not encrypted.
fn reveal(rules: &Rules, counts: &Counts, key: &str, value: Bytes) -> Result<Bytes> {
    let providers = resource_of(key).and_then(|(group, plural)| rules.of(group, plural));
    let revealed = match providers {
        Some(providers) => transform::decrypt(providers, &value, key),
        None if value.starts_with(MARK) => Err(TransformError::Encrypted),
        None => Ok(None),
    };
    match revealed {
        Ok(None) => Ok(value),
        Ok(Some(plain)) => {
            counts.from_storage.fetch_add(1, Ordering::Relaxed);
            Ok(plain.into())
        }
        Err(error) => {
            counts.failures.fetch_add(1, Ordering::Relaxed);
            Err(Error::Corrupt(format!("unable to transform key {key:?}: {error}")))
        }
    }
}

fn reveal_kv(rules: &Rules, counts: &Counts, kv: KeyValue) -> Result<KeyValue> {
    let value = reveal(rules, counts, &kv.key, kv.value)?;
    Ok(KeyValue { value, ..kv })
}

fn reveal_event(rules: &Rules, counts: &Counts, event: &Arc<Event>) -> Result<Arc<Event>> {
    let marked = |value: &Bytes| value.starts_with(MARK);
    if !marked(&event.kv.value) && !event.previous.as_ref().is_some_and(marked) {
        return Ok(event.clone());
    }
    Ok(Arc::new(Event {
        kind: event.kind.clone(),
        kv: reveal_kv(rules, counts, event.kv.clone())?,
        // what it was before, nobody may be able to read any more: then it is new
        previous: event.previous.clone().and_then(|value| reveal(rules, counts, &event.kv.key, value).ok()),
    }))
}

#[async_trait::async_trait]
impl Store for EncryptedStore {
    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        let rules = self.rules.read().clone();
        self.inner.get(key).await?.map(|kv| reveal_kv(&rules, &self.counts, kv)).transpose()
    }

    async fn range(&self, request: RangeRequest) -> Result<Range> {
        let rules = self.rules.read().clone();
        let range = self.inner.range(request).await?;
        let items = range.items.into_iter().map(|kv| reveal_kv(&rules, &self.counts, kv)).collect::<Result<_>>()?;
        Ok(Range { items, ..range })
    }

    async fn txn(&self, txn: Txn) -> Result<Revision> {
        let rules = self.rules.read().clone();
        let mut ops = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            ops.push(match op {
                Op::Put { key, value, expect } => {
                    let providers = resource_of(&key).and_then(|(group, plural)| rules.of(group, plural));
                    let value = match providers {
                        Some(providers) => {
                            self.counts.to_storage.fetch_add(1, Ordering::Relaxed);
                            let stored = transform::encrypt(providers, &value, &key);
                            stored.map_err(|e| Error::Corrupt(format!("unable to transform key {key:?}: {e}")))?.into()
                        }
                        None => value,
                    };
                    Op::Put { key, value, expect }
                }
                delete => delete,
            });
        }
        match self.inner.txn(Txn { ops }).await {
            Err(Error::Conflict { key, actual }) => {
                let actual = actual.map(|kv| reveal_kv(&rules, &self.counts, kv)).transpose()?;
                Err(Error::Conflict { key, actual })
            }
            result => result,
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        let (rules, counts) = (self.rules.clone(), self.counts.clone());
        let items = self.inner.watch(prefix, after).await?;
        let revealed = items.map(move |item| match item? {
            WatchItem::Event(event) => {
                let rules = rules.read().clone();
                reveal_event(&rules, &counts, &event).map(WatchItem::Event)
            }
            progress => Ok(progress),
        });
        Ok(revealed.boxed())
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

    async fn ready(&self) -> Result<()> {
        self.inner.ready().await
    }

    fn close(&self) {
        self.inner.close();
    }
}
