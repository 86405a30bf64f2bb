//! All live objects, and the changes since the last compaction.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::{Error, Event, EventKind, KeyValue, Range, RangeRequest, Result, Revision};

/// What history may weigh: many large writes between two compactions must not fill the memory.
const HISTORY_BYTES: usize = 256 * 1024 * 1024;

pub struct Memory {
    live: BTreeMap<Arc<str>, KeyValue>,
    /// In revision order; everything after `compacted`.
    history: VecDeque<Change>,
    /// What `history` weighs, and at most may.
    bytes: usize,
    limit: usize,
    revision: Revision,
    compacted: Revision,
}

/// An event with all that is needed to read the state before it.
#[derive(Clone)]
pub struct Change {
    pub event: Arc<Event>,
    pub before: Option<KeyValue>,
}

impl Change {
    fn weight(&self) -> usize {
        /// Structures around the values.
        const OWN: usize = 256;
        let kv = &self.event.kv;
        OWN + kv.key.len() + kv.value.len()
    }
}

impl Memory {
    /// The state as it was read from disk.
    pub fn restored(live: BTreeMap<Arc<str>, KeyValue>, revision: Revision) -> Self {
        Self { live, history: VecDeque::new(), bytes: 0, limit: HISTORY_BYTES, revision, compacted: revision }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, key: &str) -> Option<KeyValue> {
        self.live.get(key).cloned()
    }

    /// Takes over committed changes, which are in revision order and newer than everything here.
    pub fn publish(&mut self, changes: Vec<Change>, revision: Revision) {
        for change in changes {
            let kv = &change.event.kv;
            match change.event.kind {
                EventKind::Put => self.live.insert(kv.key.clone(), kv.clone()),
                EventKind::Delete => self.live.remove(&kv.key),
            };
            self.bytes += change.weight();
            self.history.push_back(change);
        }
        self.revision = revision;
        while self.bytes > self.limit
            && let Some(oldest) = self.history.front().map(|change| change.event.kv.mod_revision)
        {
            self.forget(oldest);
        }
    }

    /// Drops history up to and including `revision`.
    fn forget(&mut self, revision: Revision) {
        let keep = self.history.partition_point(|change| change.event.kv.mod_revision <= revision);
        self.bytes -= self.history.drain(..keep).map(|change| change.weight()).sum::<usize>();
        self.compacted = revision;
    }

    /// Fails when `revision` is not readable any more or not yet.
    fn check(&self, revision: Revision) -> Result<()> {
        if revision < self.compacted {
            return Err(Error::Compacted { requested: revision, oldest: self.compacted });
        }
        if revision > self.revision {
            return Err(Error::Future { requested: revision, newest: self.revision });
        }
        Ok(())
    }

    pub fn range(&self, request: &RangeRequest) -> Result<Range> {
        let revision = request.revision.unwrap_or(self.revision);
        self.check(revision)?;
        let live = self.live_range(request);
        if revision == self.revision {
            return Ok(page(live.map(|(_, kv)| kv), request.limit, revision));
        }
        // Undo what came after, newest first.
        let mut then: BTreeMap<&Arc<str>, &KeyValue> = live.collect();
        let after = request.start_after.as_deref();
        for change in self.history.iter().rev().take_while(|change| change.event.kv.mod_revision > revision) {
            let key = &change.event.kv.key;
            if !key.starts_with(&request.prefix) || after.is_some_and(|after| **key <= *after) {
                continue;
            }
            match &change.before {
                Some(kv) => then.insert(key, kv),
                None => then.remove(key),
            };
        }
        Ok(page(then.into_values(), request.limit, revision))
    }

    fn live_range<'a>(&'a self, request: &'a RangeRequest) -> impl Iterator<Item = (&'a Arc<str>, &'a KeyValue)> {
        let start = match request.start_after.as_deref() {
            Some(after) if after >= request.prefix.as_str() => Bound::Excluded(after),
            _ => Bound::Included(request.prefix.as_str()),
        };
        self.live.range::<str, _>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(&request.prefix))
    }

    /// Up to `limit` events under `prefix` after revision `after`, and the revision up to which this is everything. Events
    /// of one revision stay together.
    pub fn events(&self, prefix: &str, after: Revision, limit: usize) -> Result<(Vec<Arc<Event>>, Revision)> {
        if after < self.compacted {
            return Err(Error::Compacted { requested: after, oldest: self.compacted });
        }
        let start = self.history.partition_point(|change| change.event.kv.mod_revision <= after);
        let mut events: Vec<Arc<Event>> = Vec::new();
        for change in self.history.range(start..) {
            let event = &change.event;
            if let Some(last) = events.last()
                && events.len() >= limit
                && last.kv.mod_revision != event.kv.mod_revision
            {
                let through = last.kv.mod_revision;
                return Ok((events, through));
            }
            if event.kv.key.starts_with(prefix) {
                events.push(event.clone());
            }
        }
        Ok((events, self.revision.max(after)))
    }

    pub fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision > self.revision {
            return Err(Error::Future { requested: revision, newest: self.revision });
        }
        if revision > self.compacted {
            self.forget(revision);
            self.history.shrink_to(self.history.len() * 2);
        }
        Ok(())
    }
}

fn page<'a>(mut items: impl Iterator<Item = &'a KeyValue>, limit: usize, revision: Revision) -> Range {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let taken: Vec<KeyValue> = items.by_ref().take(limit).cloned().collect();
    Range { items: taken, revision, remaining: items.count() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(key: &str, revision: Revision) -> Change {
        let value = bytes::Bytes::from(vec![0; 1000]);
        let kv = KeyValue { key: key.into(), value, create_revision: revision, mod_revision: revision };
        Change { event: Arc::new(Event { kind: EventKind::Put, kv, previous: None }), before: None }
    }

    #[test]
    fn history_is_bounded_by_bytes_too() {
        let mut memory = Memory { limit: 5000, ..Memory::restored(BTreeMap::new(), 0) };
        // two changes of one revision go together
        memory.publish(vec![put("/a", 1), put("/b", 1)], 1);
        memory.publish(vec![put("/c", 2)], 2);
        assert_eq!(memory.events("/", 0, 10).unwrap().0.len(), 3);
        memory.publish(vec![put("/d", 3)], 3);
        assert!(matches!(memory.events("/", 0, 10), Err(Error::Compacted { oldest: 1, .. })));
        assert_eq!(memory.events("/", 1, 10).unwrap().0.len(), 2);
        assert_eq!(
            memory
                .range(&RangeRequest { revision: Some(1), prefix: "/".into(), ..Default::default() })
                .unwrap()
                .items
                .len(),
            2
        );
        memory.compact(3).unwrap();
        assert_eq!((memory.bytes, memory.live.len()), (0, 4));
    }
}
