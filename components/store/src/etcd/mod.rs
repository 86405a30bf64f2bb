//! The store of several control planes: etcd holds the truth, a mirror of it in memory answers.
//!
//! The mirror follows etcd's watch over all keys, so every revision passes by here. A read first asks etcd which revision
//! is the newest (one request for all reads that wait at the moment) and waits until the mirror has it: reads are
//! linearizable and never stale. Writes are etcd transactions; they return when the mirror shows them.
//!
//! A store's revision is etcd's plus an offset that is fixed when the store is made ([`origin`]): a store that was moved
//! into etcd goes on counting where it was.

mod connection;
mod follower;
mod load;
mod origin;
mod reads;
mod space;
mod translate;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::mirror::Mirror;
use crate::{Error, KeyValue, Range, RangeRequest, Result, Revision, Store, Txn, WatchStream};
use connection::Members;
use reads::ReadIndex;
use translate::Offset;

/// How long a request may wait for the mirror to show what etcd has already.
const CATCH_UP: Duration = Duration::from_secs(10);

/// How etcd is reached.
#[derive(Clone, Debug, Default)]
pub struct EtcdConfig {
    /// URLs of members; the first is preferred.
    pub endpoints: Vec<String>,
    /// PEM. Without an authority the connections are not encrypted, which only tests want.
    pub ca: Option<Vec<u8>>,
    /// PEM: the client's certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// `Some`: this process may make the store if there is none yet, from the embedded store in that directory if there is
    /// one. Others wait until it is made.
    pub founder: Option<PathBuf>,
    /// The cluster's id. A store that another cluster made is refused.
    pub cluster: Option<String>,
}

pub struct EtcdStore {
    members: Arc<Members>,
    mirror: Arc<Mirror>,
    offset: Offset,
    reads: ReadIndex,
    /// The newest revision of the mirror.
    newest: watch::Receiver<Revision>,
    follower: JoinHandle<()>,
}

impl EtcdStore {
    /// Connects, waits until the store is made, and reads all of it.
    pub async fn open(config: &EtcdConfig) -> Result<Arc<Self>> {
        let members = Arc::new(Members::new(config).await?);
        let offset = origin::ensure(&members, config.founder.as_deref(), config.cluster.as_deref()).await?;
        let memory = load::everything(&members, offset).await?;
        let (told, newest) = watch::channel(memory.revision());
        let mirror = Mirror::new(memory);
        let follower = tokio::spawn(follower::run(members.clone(), mirror.clone(), offset, told));
        let reads = ReadIndex::start(members.clone(), offset);
        Ok(Arc::new(Self { members, mirror, offset, reads, newest, follower }))
    }

    async fn reached(&self, revision: Revision) -> Result<()> {
        let mut newest = self.newest.clone();
        match tokio::time::timeout(CATCH_UP, newest.wait_for(|newest| *newest >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Unavailable("the store is closed".into())),
            Err(_) => Err(Error::Unavailable(format!("etcd's watch is behind: revision {revision} has not arrived"))),
        }
    }

    /// Waits until everything that was committed before this call can be read.
    async fn caught_up(&self) -> Result<()> {
        let revision = self.reads.newest().await?;
        self.reached(revision).await
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait::async_trait]
impl Store for EtcdStore {
    fn revision(&self) -> Revision {
        self.mirror.revision()
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        self.caught_up().await?;
        Ok(self.mirror.get(key))
    }

    async fn range(&self, request: RangeRequest) -> Result<Range> {
        if request.revision.is_none() {
            self.caught_up().await?;
        }
        self.mirror.range(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<Revision> {
        let revision = write::commit(&self.members, self.offset, &txn).await?;
        if let Err(error) = self.reached(revision).await {
            // it is committed: saying otherwise would be a lie, and who reads next waits anyway
            tracing::warn!(revision, "{error}");
        }
        Ok(revision)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        self.mirror.watch(prefix, after)
    }

    async fn size(&self) -> Result<u64> {
        let status = self.members.ask("size", |mut client| async move { client.status().await }).await?;
        Ok(status.db_size().cast_unsigned())
    }

    /// Other processes compact the same etcd: what is gone already is no error.
    async fn compact(&self, revision: Revision) -> Result<()> {
        let theirs = self.offset.theirs(revision);
        if theirs > 0 {
            let compacted =
                self.members.ask("compact", |mut client| async move { client.compact(theirs, None).await }).await;
            match compacted {
                Ok(_) | Err(Error::Compacted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.mirror.compact(revision)
    }

    /// The member that is asked at the moment, which is the own host's as long as it lives: every member has a process that
    /// looks after it.
    async fn defragment(&self, at_least: u64) -> Result<u64> {
        let (_, mut client) = self.members.current();
        space::give_back(&mut client, at_least).await.map_err(|error| Error::Unavailable(format!("etcd: {error}")))
    }

    /// Follows etcd no longer: reads of the newest state fail from now on.
    fn close(&self) {
        self.follower.abort();
    }
}
