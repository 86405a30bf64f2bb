//! Watches: each reads the shared history at its own pace, woken when something under its prefix changed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::Mirror;
use crate::{Error, Event, Result, Revision, WatchItem, WatchStream};

/// How often a quiet watcher is told that the revision moved on.
const PROGRESS: Duration = Duration::from_secs(5);
/// Most events taken at once: bounds how long the lock is held.
const BATCH: usize = 256;

/// Watchers by prefix: a write wakes only those that it concerns.
#[derive(Default)]
pub struct Groups {
    senders: Mutex<HashMap<String, watch::Sender<()>>>,
}

impl Groups {
    fn subscribe(&self, prefix: &str) -> watch::Receiver<()> {
        let mut senders = self.senders.lock();
        senders.entry(prefix.to_owned()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    pub fn wake(&self, events: &[Arc<Event>]) {
        self.senders.lock().retain(|prefix, sender| {
            if events.iter().any(|event| event.kv.key.starts_with(prefix.as_str())) {
                sender.send_replace(());
            }
            sender.receiver_count() > 0
        });
    }

    pub fn wake_all(&self) {
        self.senders.lock().values().for_each(|sender| {
            sender.send_replace(());
        });
    }
}

struct Watcher {
    mirror: Arc<Mirror>,
    prefix: String,
    changed: watch::Receiver<()>,
    ticks: tokio::time::Interval,
    /// Everything up to this revision has been taken from the history.
    taken: Revision,
    /// The last revision that the reader has been told of.
    told: Revision,
    batch: VecDeque<Arc<Event>>,
    ended: bool,
}

pub fn watch(mirror: &Arc<Mirror>, prefix: &str, after: Revision) -> Result<WatchStream> {
    // Subscribed before the history is first read: nothing falls between.
    let changed = mirror.groups.subscribe(prefix);
    let newest = mirror.memory.read().revision();
    if after > newest {
        return Err(Error::Future { requested: after, newest });
    }
    mirror.memory.read().events(prefix, after, 1)?;
    let mut ticks = tokio::time::interval_at(Instant::now() + PROGRESS, PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher {
        mirror: mirror.clone(),
        prefix: prefix.to_owned(),
        changed,
        ticks,
        taken: after,
        told: after,
        batch: VecDeque::new(),
        ended: false,
    };
    Ok(futures::stream::unfold(watcher, |mut watcher| async move {
        let item = watcher.next().await?;
        Some((item, watcher))
    })
    .boxed())
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<WatchItem>> {
        if self.ended {
            return None;
        }
        let mut tick = false;
        loop {
            if let Some(event) = self.batch.pop_front() {
                self.told = event.kv.mod_revision;
                return Some(Ok(WatchItem::Event(event)));
            }
            self.changed.mark_unchanged();
            let read = self.mirror.memory.read().events(&self.prefix, self.taken, BATCH);
            match read {
                Ok((events, through)) => {
                    self.taken = through;
                    self.batch = events.into();
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
            if !self.batch.is_empty() {
                continue;
            }
            if tick && self.taken > self.told {
                self.told = self.taken;
                return Some(Ok(WatchItem::Progress(self.taken)));
            }
            tick = tokio::select! {
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        // The store is gone.
                        return None;
                    }
                    false
                }
                _ = self.ticks.tick() => true,
            };
        }
    }
}
