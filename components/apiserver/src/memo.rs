//! A short memory of decoded objects: a burst of watchers with selectors looks at the same few events at the same time, and a burst
//! of writes at the same few namespaces, accounts and classes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;
use store::Revision;

/// A key at a revision, in a version; `true` for the content before that revision.
type Id = (Arc<str>, Revision, &'static str, bool);

pub struct Memo {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    values: HashMap<Id, Arc<Value>>,
    order: VecDeque<Id>,
}

impl Memo {
    pub fn new(capacity: usize) -> Self {
        Memo { capacity, inner: Mutex::default() }
    }

    pub fn get_or_decode<E>(
        &self,
        key: &Arc<str>,
        revision: Revision,
        version: &'static str,
        previous: bool,
        decode: impl FnOnce() -> Result<Value, E>,
    ) -> Result<Arc<Value>, E> {
        let id = (key.clone(), revision, version, previous);
        if let Some(value) = self.inner.lock().values.get(&id) {
            return Ok(value.clone());
        }
        let value = Arc::new(decode()?);
        let mut inner = self.inner.lock();
        if inner.values.insert(id.clone(), value.clone()).is_none() {
            inner.order.push_back(id);
        }
        while inner.order.len() > self.capacity {
            if let Some(oldest) = inner.order.pop_front() {
                inner.values.remove(&oldest);
            }
        }
        Ok(value)
    }
}
