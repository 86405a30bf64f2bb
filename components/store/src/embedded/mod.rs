//! The store of a single control plane: everything in memory, made durable by SQLite.
//!
//! One thread writes. It takes all transactions that wait, checks them in order, commits them to SQLite as one durable
//! transaction (WAL, `synchronous=FULL`), and only then publishes and answers: what was acknowledged survives a power cut,
//! and nobody sees what could still be lost. Readers and watchers never wait for the disk.

mod database;
mod memory;
mod watch;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::{Error, KeyValue, Range, RangeRequest, Result, Revision, Store, Txn, WatchStream};
use database::Database;
use memory::Memory;
use watch::Groups;

pub struct EmbeddedStore {
    dir: PathBuf,
    shared: Arc<Shared>,
    /// `None` once closed.
    writer: Mutex<Option<Writer>>,
}

/// What readers, watchers and the writer share.
struct Shared {
    memory: RwLock<Memory>,
    groups: Groups,
}

struct Writer {
    queue: std::sync::mpsc::Sender<writer::Job>,
    thread: std::thread::JoinHandle<()>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, creating both when they are missing. History from before is gone: watches may start from
    /// the newest revision on.
    pub fn open(dir: &Path) -> Result<Arc<Self>> {
        let mut database = Database::open(dir)?;
        let memory = database.load()?;
        let shared = Arc::new(Shared { memory: RwLock::new(memory), groups: Groups::default() });
        let (queue, jobs) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let shared = shared.clone();
                move || writer::run(&shared, database, &jobs)
            })
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Arc::new(Self { dir: dir.to_owned(), shared, writer: Mutex::new(Some(Writer { queue, thread })) }))
    }

    async fn submit<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> writer::Job) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let queue = self.writer.lock().as_ref().map(|writer| writer.queue.clone()).ok_or_else(closed)?;
        queue.send(job(reply)).map_err(|_| closed())?;
        // the writer ends, and `close` with it, when the last sender is gone
        drop(queue);
        answer.await.map_err(|_| closed())?
    }
}

#[async_trait::async_trait]
impl Store for EmbeddedStore {
    fn revision(&self) -> Revision {
        self.shared.memory.read().revision()
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        Ok(self.shared.memory.read().get(key))
    }

    async fn range(&self, request: RangeRequest) -> Result<Range> {
        self.shared.memory.read().range(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<Revision> {
        self.submit(|reply| writer::Job::Txn { txn, reply }).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        watch::watch(&self.shared, prefix, after)
    }

    async fn size(&self) -> Result<u64> {
        let file = self.dir.join(database::FILE);
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
        Ok(length(&file) + length(&database::log_of(&file)))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.shared.memory.write().compact(revision)
    }

    async fn ready(&self) -> Result<()> {
        match self.writer.lock().as_ref() {
            Some(writer) if !writer.thread.is_finished() => Ok(()),
            _ => Err(closed()),
        }
    }

    fn close(&self) {
        if let Some(Writer { queue, thread }) = self.writer.lock().take() {
            drop(queue);
            // A panic of the writer has been printed; there is nothing left to close then.
            let _ = thread.join();
        }
    }
}

fn closed() -> Error {
    Error::Unavailable("the store is closed".into())
}

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
        }
    })
}
