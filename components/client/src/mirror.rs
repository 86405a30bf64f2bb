//! A local copy of one kind of object, reduced to what is needed, fed by a watch.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// Namespace and name.
pub type Key = (String, String);

pub struct Mirror<T> {
    pub objects: BTreeMap<Key, T>,
    /// A list in progress; it takes the place of `objects` when it is complete, so that half a list is never acted on.
    listing: BTreeMap<Key, T>,
    pub complete: bool,
}

impl<T> Default for Mirror<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listing: BTreeMap::new(), complete: false }
    }
}

impl<T> Mirror<T> {
    /// Takes in an event; `reduce` says what to keep of an object, if anything.
    pub fn apply<K: ResourceExt>(&mut self, event: Event<K>, reduce: impl Fn(&K) -> Option<T>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                self.listing.extend(reduce(&object).map(|kept| (key(&object), kept)));
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Event::Apply(object) => match reduce(&object) {
                Some(kept) => drop(self.objects.insert(key(&object), kept)),
                None => drop(self.objects.remove(&key(&object))),
            },
            Event::Delete(object) => drop(self.objects.remove(&key(&object))),
        }
    }
}

fn key(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
