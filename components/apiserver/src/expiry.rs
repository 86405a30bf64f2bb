//! Events are forgotten an hour after they were last written (upstream: `--event-ttl`, a lease of the store).
//!
//! One task follows the store and holds when each event ends; what a restart finds gets its time from what the event says.
//! A deletion names the revision it means, so an event that was written again in the same moment stays.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use machinery::{
    time as stamps,
    value::{get, str_at},
};
use serde_json::Value;
use store::{EventKind, Expect, KeyValue, Op, RangeRequest, Revision, Store, Txn, WatchItem};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::registry;

/// After trouble with the store, everything is read anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Until when each key lives, by key and by time.
#[derive(Default)]
struct Ends {
    of: HashMap<Arc<str>, (Instant, Revision)>,
    order: BTreeSet<(Instant, Arc<str>)>,
}

impl Ends {
    fn set(&mut self, key: Arc<str>, at: Instant, revision: Revision) {
        self.forget(&key);
        self.order.insert((at, key.clone()));
        self.of.insert(key, (at, revision));
    }

    fn forget(&mut self, key: &Arc<str>) {
        if let Some((at, _)) = self.of.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: Instant) -> Vec<(Arc<str>, Revision)> {
        let mut due = Vec::new();
        while self.order.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.order.pop_first() else { break };
            if let Some((_, revision)) = self.of.remove(&key) {
                due.push((key, revision));
            }
        }
        due
    }
}

/// Runs until `stopping`.
pub async fn run(store: Arc<dyn Store>, ttl: Duration, stopping: CancellationToken) {
    let Some(events) = registry::find("", "v1", "events") else { return };
    let prefix = registry::prefix(events, "");
    while !stopping.is_cancelled() {
        let following = follow(&*store, &prefix, ttl);
        tokio::select! {
            () = stopping.cancelled() => return,
            ended = following => if let Err(error) = ended {
                tracing::debug!(%error, "events' ends are read anew");
            },
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn follow(store: &dyn Store, prefix: &str, ttl: Duration) -> store::Result<()> {
    let mut ends = Ends::default();
    let request = RangeRequest { prefix: prefix.to_owned(), ..RangeRequest::default() };
    let range = store.range(request).await?;
    for kv in &range.items {
        ends.set(kv.key.clone(), Instant::now() + remaining(kv, ttl), kv.mod_revision);
    }
    let mut changes = store.watch(prefix, range.revision).await?;
    loop {
        let due = ends.next();
        tokio::select! {
            biased;
            item = changes.next() => match item {
                None => return Ok(()),
                Some(item) => if let WatchItem::Event(event) = item? {
                    match event.kind {
                        EventKind::Put => ends.set(event.kv.key.clone(), Instant::now() + ttl, event.kv.mod_revision),
                        EventKind::Delete => ends.forget(&event.kv.key),
                    }
                },
            },
            () = at(due) => {
                for (key, revision) in ends.take_due(Instant::now()) {
                    let op = Op::Delete { key: key.to_string(), expect: Expect::Revision(revision) };
                    match store.txn(Txn { ops: vec![op] }).await {
                        // a newer one is told by the watch
                        Ok(_) | Err(store::Error::Conflict { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// How long an event that was found still has, by the newest time it tells.
fn remaining(kv: &KeyValue, ttl: Duration) -> Duration {
    const TIMES: &[&str] =
        &["series.lastObservedTime", "lastTimestamp", "eventTime", "firstTimestamp", "metadata.creationTimestamp"];
    let Ok(event) = serde_json::from_slice::<Value>(&kv.value) else { return ttl };
    let newest = TIMES
        .iter()
        .filter(|path| get(&event, path).is_some())
        .filter_map(|path| stamps::parse(str_at(&event, path)))
        .max();
    let age = newest.map_or(Duration::ZERO, |at| (OffsetDateTime::now_utc() - at).unsigned_abs());
    ttl.saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_gives_new_time() {
        let (mut ends, start) = (Ends::default(), Instant::now());
        let key: Arc<str> = "a".into();
        ends.set(key.clone(), start, 1);
        ends.set(key.clone(), start + Duration::from_secs(5), 2);
        assert!(ends.take_due(start + Duration::from_secs(1)).is_empty());
        assert_eq!(ends.take_due(start + Duration::from_secs(5)), [(key, 2)]);
        assert_eq!(ends.next(), None);
    }
}
