//! Both kinds of store, as the suite wants them: empty, and ended with the test.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod etcd;
pub mod history;

use std::sync::Arc;

use bytes::Bytes;
use store::{EmbeddedStore, EtcdConfig, EtcdStore, Expect, Op, RangeRequest, Revision, Store, Txn};

/// What an environment variable says: how long a test's long form is.
pub fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A store with what it lives from.
pub struct Subject {
    pub store: Arc<dyn Store>,
    pub kind: Kind,
}

pub enum Kind {
    Embedded(tempfile::TempDir),
    Etcd(etcd::Cluster),
}

pub async fn embedded() -> Subject {
    let dir = tempfile::tempdir().unwrap();
    Subject { store: EmbeddedStore::open(dir.path()).unwrap(), kind: Kind::Embedded(dir) }
}

/// One real member.
pub async fn etcd() -> Subject {
    let cluster = etcd::Cluster::start(1).await;
    Subject { store: open(&cluster, None).await, kind: Kind::Etcd(cluster) }
}

/// A further client of the cluster; its own member is the first it asks.
pub async fn open(cluster: &etcd::Cluster, founder: Option<&std::path::Path>) -> Arc<dyn Store> {
    open_at(cluster, 0, founder.or(Some(std::path::Path::new("/nonexistent")))).await
}

pub async fn open_at(cluster: &etcd::Cluster, first: usize, founder: Option<&std::path::Path>) -> Arc<dyn Store> {
    let mut endpoints = cluster.endpoints();
    endpoints.rotate_left(first);
    let config = EtcdConfig { endpoints, founder: founder.map(Into::into), ..Default::default() };
    EtcdStore::open(&config).await.unwrap()
}

impl Subject {
    /// The same state after the process that held the store has ended.
    pub async fn reopen(self) -> Subject {
        self.store.close();
        let store: Arc<dyn Store> = match &self.kind {
            Kind::Embedded(dir) => EmbeddedStore::open(dir.path()).unwrap(),
            Kind::Etcd(cluster) => open(cluster, None).await,
        };
        Subject { store, kind: self.kind }
    }
}

pub fn put(key: &str, value: &str, expect: Expect) -> Txn {
    Txn { ops: vec![Op::Put { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), expect }] }
}

pub fn delete(key: &str, revision: Revision) -> Txn {
    Txn { ops: vec![Op::Delete { key: key.into(), expect: Expect::Revision(revision) }] }
}

pub fn all(prefix: &str, revision: Option<Revision>) -> RangeRequest {
    RangeRequest { prefix: prefix.into(), revision, ..Default::default() }
}
