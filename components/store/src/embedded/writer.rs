//! The one thread that changes anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::database::Database;
use crate::mirror::{Change, Mirror};
use crate::{Error, Event, EventKind, Expect, KeyValue, Op, Result, Revision, Txn};

/// Most transactions that share one commit; bounds how long the first of them waits.
const GROUP: usize = 512;

pub enum Job {
    Txn { txn: Txn, reply: oneshot::Sender<Result<Revision>> },
    Defragment { at_least: u64, reply: oneshot::Sender<Result<u64>> },
}

/// Works until every sender is gone.
pub fn run(mirror: &Mirror, mut database: Database, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut transactions = Vec::new();
        for job in std::iter::once(first).chain(jobs.try_iter().take(GROUP - 1)) {
            match job {
                Job::Txn { txn, reply } => transactions.push((txn, reply)),
                Job::Defragment { at_least, reply } => drop(reply.send(database.defragment(at_least))),
            }
        }
        commit(mirror, &mut database, transactions);
    }
}

/// Transactions of one commit, checked in order against the state that the ones before them leave.
struct Group<'a> {
    mirror: &'a Mirror,
    changed: HashMap<Arc<str>, Option<KeyValue>>,
    changes: Vec<Change>,
    revision: Revision,
}

fn commit(mirror: &Mirror, database: &mut Database, jobs: Vec<(Txn, oneshot::Sender<Result<Revision>>)>) {
    let revision = mirror.revision();
    let mut group = Group { mirror, changed: HashMap::new(), changes: Vec::new(), revision };
    let mut accepted = Vec::with_capacity(jobs.len());
    let mut refused = Vec::new();
    for (txn, reply) in jobs {
        match group.add(txn) {
            Ok(revision) => accepted.push((reply, revision)),
            Err(error) => refused.push((reply, error)),
        }
    }
    if accepted.is_empty() {
        return refuse(refused);
    }
    let Group { changed, changes, revision, .. } = group;
    if let Err(error) = database.commit(&changed, revision) {
        tracing::error!("the store cannot commit: {error}");
        for reply in accepted.into_iter().map(|(reply, _)| reply).chain(refused.into_iter().map(|(reply, _)| reply)) {
            drop(reply.send(Err(Error::Unavailable(error.to_string()))));
        }
        return;
    }
    let events: Vec<Arc<Event>> = changes.iter().map(|change| change.event.clone()).collect();
    mirror.publish(changes, revision);
    refuse(refused);
    // Answers first: who waits for one has a client waiting, and what was published can be read already.
    for (reply, revision) in accepted {
        drop(reply.send(Ok(revision)));
    }
    mirror.wake(&events);
}

/// Not before the group is committed: a refusal shows what stands at its key, which may have been written by this very group. A
/// client that has gone away needs no answer; so everywhere here.
fn refuse(refused: Vec<(oneshot::Sender<Result<Revision>>, Error)>) {
    for (reply, error) in refused {
        drop(reply.send(Err(error)));
    }
}

impl Group<'_> {
    fn current(&self, key: &str) -> Option<KeyValue> {
        match self.changed.get(key) {
            Some(pending) => pending.clone(),
            None => self.mirror.get(key),
        }
    }

    /// Checks every expectation before anything is taken over: a refused transaction leaves no trace.
    fn add(&mut self, txn: Txn) -> Result<Revision> {
        let revision = self.revision + 1;
        let mut before = Vec::with_capacity(txn.ops.len());
        for op in &txn.ops {
            let (Op::Put { key, expect, .. } | Op::Delete { key, expect }) = op;
            let actual = self.current(key);
            let met = match expect {
                Expect::Absent => actual.is_none(),
                Expect::Revision(wanted) => actual.as_ref().is_some_and(|kv| kv.mod_revision == *wanted),
            };
            if !met {
                return Err(Error::Conflict { key: key.clone(), actual });
            }
            before.push(actual);
        }
        for (op, before) in txn.ops.into_iter().zip(before) {
            self.take(op, before, revision);
        }
        self.revision = revision;
        Ok(revision)
    }

    fn take(&mut self, op: Op, before: Option<KeyValue>, revision: Revision) {
        let (kind, kv) = match op {
            Op::Put { key, value, .. } => {
                let (key, create_revision) = match &before {
                    Some(kv) => (kv.key.clone(), kv.create_revision),
                    None => (key.into(), revision),
                };
                (EventKind::Put, KeyValue { key, value, create_revision, mod_revision: revision })
            }
            Op::Delete { key, .. } => {
                // An expectation of absence makes a deletion of nothing; it changes nothing.
                let Some(kv) = &before else {
                    tracing::debug!(key, "nothing to delete");
                    return;
                };
                (EventKind::Delete, KeyValue { mod_revision: revision, ..kv.clone() })
            }
        };
        self.changed.insert(kv.key.clone(), (kind == EventKind::Put).then(|| kv.clone()));
        let previous = before.as_ref().map(|kv| kv.value.clone());
        self.changes.push(Change { event: Arc::new(Event { kind, kv, previous }), before });
    }
}
