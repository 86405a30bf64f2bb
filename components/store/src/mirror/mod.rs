//! All live objects and the recent history in memory: what readers and watchers see, whatever makes it durable.

mod memory;
mod watch;

use std::sync::Arc;

use parking_lot::RwLock;

pub use memory::{Change, Memory};

use crate::{Event, KeyValue, Range, RangeRequest, Result, Revision, WatchStream};

pub struct Mirror {
    memory: RwLock<Memory>,
    groups: watch::Groups,
}

impl Mirror {
    pub fn new(memory: Memory) -> Arc<Self> {
        Arc::new(Self { memory: RwLock::new(memory), groups: watch::Groups::default() })
    }

    pub fn revision(&self) -> Revision {
        self.memory.read().revision()
    }

    pub fn get(&self, key: &str) -> Option<KeyValue> {
        self.memory.read().get(key)
    }

    pub fn range(&self, request: &RangeRequest) -> Result<Range> {
        self.memory.read().range(request)
    }

    /// Everything under `prefix` after revision `after`.
    pub fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Result<WatchStream> {
        watch::watch(self, prefix, after)
    }

    /// Takes over committed changes, which are in revision order and newer than everything here. Watchers are told by
    /// [`Mirror::wake`].
    pub fn publish(&self, changes: Vec<Change>, revision: Revision) {
        self.memory.write().publish(changes, revision);
    }

    /// Tells watchers of what was published.
    pub fn wake(&self, events: &[Arc<Event>]) {
        self.groups.wake(events);
    }

    /// Begins anew from a state whose history is not known: every watch from before ends with [`crate::Error::Compacted`].
    pub fn replace(&self, memory: Memory) {
        *self.memory.write() = memory;
        self.groups.wake_all();
    }

    pub fn compact(&self, revision: Revision) -> Result<()> {
        self.memory.write().compact(revision)
    }
}
