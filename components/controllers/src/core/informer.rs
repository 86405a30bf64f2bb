//! A shared, indexed cache of one kind, kept current by one watch. Like client-go's SharedIndexInformer: every controller
//! reads the same `Arc`s and registers handlers that only put keys on queues.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher;
use kube::{Api, Resource};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Namespace and name. The namespace of a cluster-scoped object is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub ns: String,
    pub name: String,
}

impl Key {
    pub fn new(ns: impl Into<String>, name: impl Into<String>) -> Self {
        Self { ns: ns.into(), name: name.into() }
    }

    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.ns.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.ns, self.name) }
    }
}

pub trait Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static> Object for K {}

type Handler<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;
type IndexFn<K> = fn(&K) -> Option<String>;

struct Index<K> {
    of: IndexFn<K>,
    keys: HashMap<String, BTreeSet<Key>>,
}

struct Store<K> {
    objects: BTreeMap<Key, Arc<K>>,
    indexes: Vec<Index<K>>,
}

impl<K> Store<K> {
    fn put(&mut self, key: Key, object: Option<Arc<K>>) -> Option<Arc<K>> {
        let old = match &object {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        for index in &mut self.indexes {
            let before = old.as_deref().and_then(index.of);
            let after = object.as_deref().and_then(index.of);
            if before == after {
                continue;
            }
            if let Some(value) = before
                && let Some(keys) = index.keys.get_mut(&value)
            {
                keys.remove(&key);
                if keys.is_empty() {
                    index.keys.remove(&value);
                }
            }
            if let Some(value) = after {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
        old
    }
}

/// One kind's cache. Handlers are registered before `run` is spawned and are called with (old, new).
pub struct Informer<K> {
    store: RwLock<Store<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K: Object> Informer<K> {
    pub fn new() -> Arc<Self> {
        Self::indexed(&[])
    }

    /// `indexes` are addressed by their position in `by`.
    pub fn indexed(indexes: &[IndexFn<K>]) -> Arc<Self> {
        let indexes = indexes.iter().map(|of| Index { of: *of, keys: HashMap::new() }).collect();
        Arc::new(Self {
            store: RwLock::new(Store { objects: BTreeMap::new(), indexes }),
            handlers: RwLock::new(Vec::new()),
            synced: watch::Sender::new(false),
        })
    }

    pub fn on_change(&self, handler: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static) {
        self.handlers.write().push(Box::new(handler));
    }

    pub fn get(&self, ns: &str, name: &str) -> Option<Arc<K>> {
        self.get_key(&Key::new(ns, name))
    }

    pub fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.store.read().objects.get(key).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.store.read().objects.values().cloned().collect()
    }

    /// Every object of one namespace; the key order makes this a range.
    pub fn in_namespace(&self, ns: &str) -> Vec<Arc<K>> {
        let store = self.store.read();
        store
            .objects
            .range(Key::new(ns, "")..)
            .take_while(|(key, _)| key.ns == ns)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects whose index number `index` has `value`.
    pub fn by(&self, index: usize, value: &str) -> Vec<Arc<K>> {
        let store = self.store.read();
        let Some(keys) = store.indexes.get(index).and_then(|index| index.keys.get(value)) else { return Vec::new() };
        keys.iter().filter_map(|key| store.objects.get(key).cloned()).collect()
    }

    pub async fn wait_synced(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Takes one change, as the watch does.
    pub fn apply(&self, object: K) {
        self.offer(object, |_, _| true);
    }

    /// Takes the answer to our own write before the watch delivers it, unless the watch was faster. What is not there any more does not
    /// come back.
    pub fn note(&self, object: K) {
        self.offer(object, |cached, new| cached.is_some_and(|it| is_older(it, new)));
    }

    /// The same for what we have made; the caller knows what to do when its end was told already.
    pub fn note_new(&self, object: K) {
        self.offer(object, |cached, new| cached.is_none_or(|it| is_older(it, new)));
    }

    pub fn remove(&self, key: Key) {
        let old = self.store.write().put(key, None);
        if old.is_some() {
            self.tell(old.as_ref(), None);
        }
    }

    /// Takes the object if that is right with what is cached. Nothing comes in between: who notes an answer and the watch do not wait
    /// for each other.
    fn offer(&self, object: K, is_right: fn(Option<&K>, &K) -> bool) {
        let (key, new) = (Key::of(&object), Arc::new(strip(object)));
        let old = {
            let mut store = self.store.write();
            if !is_right(store.objects.get(&key).map(Arc::as_ref), &new) {
                return;
            }
            store.put(key, Some(new.clone()))
        };
        self.tell(old.as_ref(), Some(&new));
    }

    fn tell(&self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        for handler in self.handlers.read().iter() {
            handler(old, new);
        }
    }

    /// Follows the watch for ever; errors are logged and the watch is resumed with back-off.
    pub async fn run(self: Arc<Self>, api: Api<K>, config: watcher::Config) {
        let mut stream = watcher(api, config).boxed();
        let mut listed: Option<BTreeSet<Key>> = None;
        let mut pause = FIRST_PAUSE;
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    pause = FIRST_PAUSE;
                    self.take(event, &mut listed);
                }
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted; it is resumed");
                    if pause >= Duration::from_secs(2) {
                        tracing::warn!(kind = %K::kind(&()), %error, "watch keeps failing; retrying");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
    }

    fn take(&self, event: watcher::Event<K>, listed: &mut Option<BTreeSet<Key>>) {
        match event {
            watcher::Event::Init => *listed = Some(BTreeSet::new()),
            watcher::Event::InitApply(object) => {
                if let Some(listed) = listed {
                    listed.insert(Key::of(&object));
                }
                self.apply(object);
            }
            watcher::Event::InitDone => {
                let listed = listed.take().unwrap_or_default();
                let gone: Vec<Key> =
                    self.store.read().objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                gone.into_iter().for_each(|key| self.remove(key));
                self.synced.send_replace(true);
            }
            // after `note` the watch may bring what was before
            watcher::Event::Apply(object) => {
                self.offer(object, |cached, new| !cached.is_some_and(|it| is_older(new, it)))
            }
            watcher::Event::Delete(object) => self.remove(Key::of(&object)),
        }
    }
}

/// An earlier state of the same object.
fn is_older<K: Resource>(one: &K, other: &K) -> bool {
    let version = |object: &K| object.meta().resource_version.as_deref().and_then(|it| it.parse::<u64>().ok());
    one.meta().uid == other.meta().uid && version(one) < version(other)
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// No controller reads managed fields, and they are often half of an object.
fn strip<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn pod(name: &str, node: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("a".into());
        pod.metadata.name = Some(name.into());
        pod.spec = Some(k8s_openapi::api::core::v1::PodSpec { node_name: Some(node.into()), ..Default::default() });
        pod
    }

    #[test]
    fn what_was_noted_stays_until_something_newer_comes() {
        let informer = Informer::<Pod>::new();
        let at = |version: &str, uid: &str| {
            let mut pod = pod("x", version);
            pod.metadata.resource_version = Some(version.into());
            pod.metadata.uid = Some(uid.into());
            pod
        };
        let cached = || informer.get("a", "x").and_then(|it| it.metadata.resource_version.clone());
        informer.note(at("5", "one"));
        assert_eq!(cached(), None, "it is gone, or was never told of");
        let mut listed = None;
        let mut take = |event| informer.take(event, &mut listed);
        take(watcher::Event::Apply(at("10", "one")));
        informer.note(at("12", "one"));
        take(watcher::Event::Apply(at("11", "one")));
        assert_eq!(cached().as_deref(), Some("12"));
        take(watcher::Event::Apply(at("13", "one")));
        informer.note(at("12", "one"));
        assert_eq!(cached().as_deref(), Some("13"));
        take(watcher::Event::Delete(at("14", "one")));
        informer.note(at("12", "one"));
        assert_eq!(cached(), None);
        informer.note_new(at("15", "two"));
        informer.note(at("12", "one"));
        assert_eq!(cached().as_deref(), Some("15"));
    }

    #[test]
    fn who_notes_and_the_watch_never_put_back_what_was_before() {
        let version = |pod: &Pod| pod.metadata.resource_version.as_ref().and_then(|it| it.parse::<usize>().ok());
        let informer = Informer::<Pod>::new();
        let put_back = Arc::new(AtomicUsize::new(0));
        let count = put_back.clone();
        informer.on_change(move |old, new| {
            if old.and_then(|it| version(it)) > new.and_then(|it| version(it)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let next = AtomicUsize::new(0);
        let newer = || {
            let version = next.fetch_add(1, Ordering::Relaxed);
            let mut pod = pod("x", "n");
            pod.metadata.resource_version = Some(version.to_string());
            (version < 100_000).then_some(pod)
        };
        informer.apply(newer().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| std::iter::from_fn(newer).for_each(|pod| informer.note(pod)));
            std::iter::from_fn(newer).for_each(|pod| informer.take(watcher::Event::Apply(pod), &mut None));
        });
        assert_eq!(put_back.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn indexes_follow_changes_and_relist_removes_the_lost() {
        let informer = Informer::<Pod>::indexed(&[|pod| pod.spec.as_ref()?.node_name.clone()]);
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        informer.on_change(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        informer.apply(pod("x", "n1"));
        informer.apply(pod("y", "n1"));
        informer.apply(pod("x", "n2"));
        assert_eq!(informer.by(0, "n1").len(), 1);
        assert_eq!(informer.by(0, "n2").len(), 1);
        assert_eq!(informer.in_namespace("a").len(), 2);
        assert!(informer.in_namespace("b").is_empty());
        let mut listed = None;
        informer.take(watcher::Event::Init, &mut listed);
        informer.take(watcher::Event::InitApply(pod("y", "n1")), &mut listed);
        informer.take(watcher::Event::InitDone, &mut listed);
        assert!(informer.get("a", "x").is_none());
        assert!(informer.by(0, "n2").is_empty());
        assert_eq!(seen.load(Ordering::Relaxed), 5);
    }
}
