//! The store of a single control plane: everything in memory, made durable by SQLite.
//!
//! One thread writes. It takes all transactions that wait, checks them in order, commits them to SQLite as one durable
//! transaction (WAL, `synchronous=FULL`), and only then publishes and answers: what was acknowledged survives a power cut,
//! and nobody sees what could still be lost. Readers and watchers never wait for the disk.

mod create;
mod database;
mod log;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use create::create;

use crate::mirror::Mirror;
use crate::{Error, KeyValue, Range, RangeRequest, Result, Revision, Store, Txn, WatchStream};
use database::Database;

pub struct EmbeddedStore {
    dir: PathBuf,
    mirror: Arc<Mirror>,
    /// `None` once closed.
    writer: Mutex<Option<Writer>>,
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
        let mirror = Mirror::new(database.load()?);
        let (queue, jobs) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let mirror = mirror.clone();
                move || writer::run(&mirror, database, &jobs)
            })
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Arc::new(Self { dir: dir.to_owned(), mirror, writer: Mutex::new(Some(Writer { queue, thread })) }))
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
        self.mirror.revision()
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        Ok(self.mirror.get(key))
    }

    async fn range(&self, request: RangeRequest) -> Result<Range> {
        self.mirror.range(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<Revision> {
        self.submit(|reply| writer::Job::Txn { txn, reply }).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        self.mirror.watch(prefix, after)
    }

    async fn size(&self) -> Result<u64> {
        let file = self.dir.join(database::FILE);
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
        Ok(length(&file) + length(&database::log_of(&file)))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.mirror.compact(revision)
    }

    async fn defragment(&self, at_least: u64) -> Result<u64> {
        self.submit(|reply| writer::Job::Defragment { at_least, reply }).await
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

/// What the store in `dir` holds, in the order of last changes, and its revision; `None` if there is no store.
pub fn contents(dir: &Path) -> Result<Option<(Vec<KeyValue>, Revision)>> {
    if !dir.join(database::FILE).exists() {
        return Ok(None);
    }
    let memory = Database::open(dir)?.load()?;
    let mut objects = memory.range(&RangeRequest::default())?.items;
    objects.sort_by_key(|kv| kv.mod_revision);
    Ok(Some((objects, memory.revision())))
}

/// Puts the files of the store in `dir`, if there is one, out of the way: its contents live elsewhere now.
pub fn retire(dir: &Path) -> Result<()> {
    let file = dir.join(database::FILE);
    if !file.exists() {
        return Ok(());
    }
    // opened and closed once: nothing is left in the log that a renamed file would miss
    drop(Database::open(dir)?);
    let retired = file.with_extension("db.moved-to-etcd");
    std::fs::rename(&file, &retired)
        .map_err(|error| Error::Unavailable(format!("cannot rename {}: {error}", file.display())))
}
