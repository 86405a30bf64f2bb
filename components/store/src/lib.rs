//! A revisioned key-value store, the only state of the control plane.
//!
//! In: transactions that compare on revision. Out: consistent reads at any kept revision and ordered watches. There is
//! one revision counter for everything, as etcd has. Values are opaque bytes. Depends on no other crate of ours.

mod compactor;
mod embedded;
mod etcd;
mod mirror;

use std::sync::Arc;

pub use compactor::spawn_compactor;
pub use embedded::{EmbeddedStore, contents, create};
pub use etcd::{EtcdConfig, EtcdStore};

use bytes::Bytes;

/// A point in the store's history; 0 is "before the first write". Each committed transaction gets the next one.
pub type Revision = u64;

/// One key with the value it had at `mod_revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Arc<str>,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
}

/// A page of keys under a prefix, in key order, as they were at `revision`.
#[derive(Clone, Debug)]
pub struct Range {
    pub items: Vec<KeyValue>,
    /// The revision that was read.
    pub revision: Revision,
    /// How many keys under the prefix come after the last item of this page.
    pub remaining: usize,
}

/// What `range` reads.
#[derive(Clone, Debug, Default)]
pub struct RangeRequest {
    pub prefix: String,
    /// Only keys strictly greater than this one.
    pub start_after: Option<String>,
    /// 0: no limit.
    pub limit: usize,
    /// `None`: the newest revision.
    pub revision: Option<Revision>,
}

/// What has to hold for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists with this `mod_revision`.
    Revision(Revision),
}

#[derive(Clone, Debug)]
pub enum Op {
    Put { key: String, value: Bytes, expect: Expect },
    Delete { key: String, expect: Expect },
}

/// All operations happen at one revision, or none does.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub ops: Vec<Op>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// A change. For a `Delete`, `kv.value` is the last value and `kv.mod_revision` the revision of the deletion.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: EventKind,
    pub kv: KeyValue,
    /// The value before this change (`None` on creation); watchers with selectors need it.
    pub previous: Option<Bytes>,
}

/// What a watch delivers, in revision order; events of one revision are never split by a progress mark.
#[derive(Clone, Debug)]
pub enum WatchItem {
    Event(Arc<Event>),
    /// Everything up to and including this revision has been delivered.
    Progress(Revision),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key did not meet its expectation; carries what the store holds (`None`: absent).
    #[error("{key} was changed by somebody else")]
    Conflict { key: String, actual: Option<KeyValue> },
    #[error("revision {requested} was compacted; the oldest kept is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    #[error("revision {requested} is in the future; the newest is {newest}")]
    Future { requested: Revision, newest: Revision },
    #[error("the store's files cannot be used: {0}")]
    Corrupt(String),
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Items until the first error; an error ends the watch.
pub type WatchStream = futures::stream::BoxStream<'static, Result<WatchItem>>;

#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest committed revision.
    fn revision(&self) -> Revision;
    async fn get(&self, key: &str) -> Result<Option<KeyValue>>;
    async fn range(&self, request: RangeRequest) -> Result<Range>;
    /// Durable when it returns.
    async fn txn(&self, txn: Txn) -> Result<Revision>;
    /// Everything under `prefix` strictly after revision `after`. A progress mark comes every few seconds when the
    /// revision has moved on without an event for this prefix (used for bookmarks). A watcher that reads so slowly that
    /// what it has not seen is compacted away gets [`Error::Compacted`] and must list again.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream>;
    /// Bytes on disk.
    async fn size(&self) -> Result<u64>;
    /// Forgets history before `revision`; the newest value of every live key stays.
    async fn compact(&self, revision: Revision) -> Result<()>;
    /// Gives disk space back when at least half of the files, and at least so many bytes, hold nothing any more; returns how
    /// many bytes that was. Writes wait meanwhile. A store that refuses writes because its space was used up takes them again
    /// afterwards, if there is room.
    async fn defragment(&self, at_least: u64) -> Result<u64>;
    /// Fails when reads or writes cannot be served at the moment. The caller bounds how long this may take.
    async fn ready(&self) -> Result<()> {
        self.get("/health").await.map(drop)
    }
    /// Finishes what is queued and gives back what this process holds. Later writes fail with [`Error::Unavailable`].
    fn close(&self) {}
}
