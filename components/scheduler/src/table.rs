//! A copy of one resource's objects, kept by a watch; tells what each event changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// One change of one object.
pub enum Delta<K> {
    Added(Arc<K>),
    Updated { old: Arc<K>, new: Arc<K> },
    Deleted(Arc<K>),
}

/// Objects by `namespace/name` (`name` alone for cluster-scoped ones).
pub struct Table<K> {
    objects: HashMap<String, Arc<K>>,
    /// The keys seen since a re-list began; what is missing when it ends was deleted meanwhile.
    relisted: Option<HashSet<String>>,
    synced: bool,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), relisted: None, synced: false }
    }
}

/// The key of a namespaced object.
pub fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl<K: ResourceExt> Table<K> {
    /// True once the first list is complete: only then does absence mean anything.
    pub fn synced(&self) -> bool {
        self.synced
    }

    pub fn get(&self, key: &str) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    pub fn values(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    pub fn apply(&mut self, event: Event<K>) -> Vec<Delta<K>> {
        match event {
            Event::Init => {
                self.relisted = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(seen) = &mut self.relisted {
                    seen.insert(key_of(&object));
                }
                self.put(object)
            }
            Event::InitDone => {
                self.synced = true;
                let Some(seen) = self.relisted.take() else { return Vec::new() };
                let gone: Vec<String> = self.objects.keys().filter(|key| !seen.contains(*key)).cloned().collect();
                gone.iter().filter_map(|key| self.objects.remove(key)).map(Delta::Deleted).collect()
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => self.objects.remove(&key_of(&object)).map(Delta::Deleted).into_iter().collect(),
        }
    }

    /// An object of the same name and another uid is another object: the first one was deleted unseen.
    fn put(&mut self, object: K) -> Vec<Delta<K>> {
        let new = Arc::new(object);
        match self.objects.insert(key_of(&*new), Arc::clone(&new)) {
            None => vec![Delta::Added(new)],
            Some(old) if old.uid() != new.uid() => vec![Delta::Deleted(old), Delta::Added(new)],
            Some(old) => vec![Delta::Updated { old, new }],
        }
    }
}

fn key_of<K: ResourceExt>(object: &K) -> String {
    match object.meta().namespace.as_deref() {
        Some(namespace) => key(namespace, &object.name_any()),
        None => object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    #[test]
    fn a_relist_deletes_what_it_does_not_show() {
        let mut table = Table::default();
        table.apply(Event::Init);
        table.apply(Event::InitApply(pod("a", json!({}))));
        table.apply(Event::InitApply(pod("b", json!({}))));
        assert!(!table.synced());
        assert!(table.apply(Event::InitDone).is_empty());
        assert!(table.synced());
        table.apply(Event::Init);
        assert!(matches!(table.apply(Event::InitApply(pod("a", json!({}))))[..], [Delta::Updated { .. }]));
        let gone = table.apply(Event::InitDone);
        assert!(matches!(&gone[..], [Delta::Deleted(pod)] if pod.name_any() == "b"));
    }

    #[test]
    fn same_name_other_uid_is_another_object() {
        let mut table = Table::default();
        table.apply(Event::Apply(pod("a", json!({}))));
        let mut second = pod("a", json!({}));
        second.metadata.uid = Some("another".into());
        assert!(matches!(table.apply(Event::Apply(second))[..], [Delta::Deleted(_), Delta::Added(_)]));
    }
}
