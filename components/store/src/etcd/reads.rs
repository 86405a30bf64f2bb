//! Which revision is the newest: one question to etcd for all who ask meanwhile.

use std::sync::Arc;

use etcd_client::GetOptions;
use tokio::sync::{mpsc, oneshot};

use super::connection::Members;
use super::origin;
use super::translate::Offset;
use crate::{Error, Result, Revision};

type Waiting = oneshot::Sender<std::result::Result<Revision, String>>;

pub struct ReadIndex {
    questions: mpsc::UnboundedSender<Waiting>,
}

impl ReadIndex {
    /// Ends when the index is dropped.
    pub fn start(members: Arc<Members>, offset: Offset) -> Self {
        let (questions, waiting) = mpsc::unbounded_channel();
        tokio::spawn(answer(members, offset, waiting));
        Self { questions }
    }

    /// At least every revision that was committed before this call.
    pub async fn newest(&self) -> Result<Revision> {
        let closed = |_| Error::Unavailable("the store is closed".into());
        let (ask, told) = oneshot::channel();
        self.questions.send(ask).map_err(|_| Error::Unavailable("the store is closed".into()))?;
        told.await.map_err(closed)?.map_err(Error::Unavailable)
    }
}

async fn answer(members: Arc<Members>, offset: Offset, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    let mut batch = Vec::new();
    // A question that comes while etcd is asked waits for the next answer: this one may be older than it.
    while waiting.recv_many(&mut batch, usize::MAX).await > 0 {
        let newest = newest(&members, offset).await.map_err(|error| match error {
            Error::Unavailable(why) => why,
            other => other.to_string(),
        });
        for asked in batch.drain(..) {
            // a reader that has gone away needs no answer
            let _ = asked.send(newest.clone());
        }
    }
}

/// A linearizable read of one small key carries the newest revision in its header.
pub async fn newest(members: &Members, offset: Offset) -> Result<Revision> {
    let options = GetOptions::new().with_count_only();
    let found = members
        .ask("newest revision", |mut client| {
            let options = options.clone();
            async move { client.get(origin::KEY, Some(options)).await }
        })
        .await?;
    Ok(offset.ours(found.header().map_or(0, etcd_client::ResponseHeader::revision)))
}
