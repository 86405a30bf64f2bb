//! Custom resources: definitions in the store become rows that are served.
//!
//! One task follows the definitions. A write of a definition waits until that task has seen it, so the next request finds what
//! it made; [`names::settle`] has accepted its names and established it before it was stored.

mod cleanup;
mod convert;
mod definition;
mod kind;
pub mod names;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use machinery::{
    Resource, ResourceRef, encoding,
    resources::{CustomResource, apiextensions::is_true},
    value::str_at,
};
use parking_lot::RwLock;
use serde_json::Value;
use store::{EventKind, RangeRequest, Revision, Store, WatchItem};
use tokio::sync::{Mutex, watch};

use crate::{callback::Callbacks, core::Core, registry};
use definition::Definition;

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
const CATCH_UP: Duration = Duration::from_secs(10);

pub fn is_definition(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == PLURAL
}

/// The row of definitions themselves.
fn row() -> Option<&'static Resource> {
    registry::find(GROUP, "v1", PLURAL)
}

/// Group, version, plural.
type Id = (String, String, String);

#[derive(Clone, Default)]
struct State {
    /// All definitions there are, by name, as stored last.
    objects: BTreeMap<String, Arc<Value>>,
    /// Those that are established.
    definitions: BTreeMap<String, Arc<Definition>>,
    rows: BTreeMap<Id, Arc<CustomResource>>,
}

/// What is served at the moment. Readers get a snapshot; changes replace it.
pub struct Served {
    state: RwLock<Arc<State>>,
    revision: watch::Sender<Revision>,
    callbacks: Arc<Callbacks>,
    /// Held while names are given: two definitions cannot get the same ones.
    naming: Arc<Mutex<()>>,
    /// Definitions whose objects are being removed.
    cleaning: parking_lot::Mutex<BTreeSet<String>>,
}

impl Served {
    /// Knows every definition of the store when it returns.
    pub async fn load(store: &dyn Store, callbacks: Arc<Callbacks>) -> anyhow::Result<Self> {
        let served = Served {
            state: RwLock::default(),
            revision: watch::channel(0).0,
            callbacks,
            naming: Arc::default(),
            cleaning: parking_lot::Mutex::default(),
        };
        served.reload(store).await?;
        Ok(served)
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<ResourceRef> {
        let state = self.state.read();
        if state.rows.is_empty() {
            return None;
        }
        let id = (group.to_owned(), version.to_owned(), plural.to_owned());
        state.rows.get(&id).cloned().map(ResourceRef::Custom)
    }

    /// Every served version of every custom resource.
    pub fn all(&self) -> Vec<ResourceRef> {
        self.state.read().rows.values().cloned().map(ResourceRef::Custom).collect()
    }

    /// Waits (bounded) until what was written at `revision` is served.
    pub async fn caught_up(&self, revision: Revision) {
        let mut seen = self.revision.subscribe();
        let _ = tokio::time::timeout(CATCH_UP, seen.wait_for(|r| *r >= revision)).await;
    }

    /// Changes after every change of a definition, and now and then.
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// All definitions there are.
    pub fn objects(&self) -> Vec<Arc<Value>> {
        self.state.read().objects.values().cloned().collect()
    }

    fn definition(&self, name: &str) -> Option<Arc<Definition>> {
        self.state.read().definitions.get(name).cloned()
    }

    async fn reload(&self, store: &dyn Store) -> anyhow::Result<Revision> {
        let Some(row) = row() else { return Ok(0) };
        let revision = store.revision();
        let request =
            RangeRequest { prefix: registry::prefix(row, ""), revision: Some(revision), ..Default::default() };
        let items = store.range(request).await?.items;
        let known: Vec<String> = self.state.read().objects.keys().cloned().collect();
        let there: Vec<(String, Value)> = items
            .iter()
            .filter_map(|kv| registry::decode(row, &kv.value, kv.mod_revision).ok())
            .map(|object| (str_at(&object, "metadata.name").to_owned(), object))
            .collect();
        for name in known.iter().filter(|name| !there.iter().any(|(n, _)| n == *name)) {
            self.set(name, None);
        }
        for (name, object) in there {
            self.set(&name, Some(object));
        }
        self.revision.send_replace(revision);
        Ok(revision)
    }

    /// Takes over a definition as it is now, or that it is gone.
    fn set(&self, name: &str, object: Option<Value>) {
        let mut held = self.state.write();
        let state = Arc::make_mut(&mut held);
        let object = object.map(Arc::new);
        match &object {
            Some(object) => drop(state.objects.insert(name.to_owned(), object.clone())),
            None => drop(state.objects.remove(name)),
        }
        let established = object.filter(|object| is_true(object, "Established"));
        let before = state.definitions.remove(name);
        if let (Some(before), Some(object)) = (&before, &established)
            && before.serves_same(object)
        {
            before.set_terminating(object);
            state.definitions.insert(name.to_owned(), before.clone());
            return;
        }
        state.rows.retain(|_, row| row.custom().is_none_or(|it| str_at(it.definition(), "metadata.name") != name));
        if let Some(object) = established {
            let definition = Arc::new(Definition::new(&object, self.callbacks.clone()));
            for row in kind::rows(&definition) {
                let id = (row.group.to_owned(), row.version.to_owned(), row.plural.to_owned());
                state.rows.insert(id, Arc::new(row));
            }
            state.definitions.insert(name.to_owned(), definition);
        }
        drop(held);
        // those who serve the old one look again and find the new one
        if let Some(before) = before {
            before.replaced.cancel();
        }
    }
}

/// Follows the definitions until the server stops.
pub fn start(core: &Arc<Core>) {
    let core = core.clone();
    tokio::spawn(async move {
        for object in core.custom.objects() {
            cleanup::begin_if_deleted(&core, &object);
        }
        let mut from = *core.custom.revision.borrow();
        loop {
            tokio::select! {
                () = core.stopping.cancelled() => return,
                ended = follow(&core, from) => if let Err(error) = ended {
                    tracing::warn!(%error, "following custom resource definitions failed; reading all of them again");
                },
            }
            match core.custom.reload(&*core.store).await {
                Ok(revision) => from = revision,
                Err(error) => {
                    tracing::error!(%error, "the store cannot be read");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
}

async fn follow(core: &Arc<Core>, from: Revision) -> store::Result<()> {
    let Some(row) = row() else { return Ok(()) };
    let prefix = registry::prefix(row, "");
    let mut items = core.store.watch(&prefix, from).await?;
    while let Some(item) = items.next().await {
        let revision = match item? {
            WatchItem::Progress(revision) => revision,
            WatchItem::Event(event) => {
                let revision = event.kv.mod_revision;
                let name = event.kv.key.strip_prefix(&prefix).unwrap_or_default();
                let put = (event.kind == EventKind::Put).then_some(&event.kv.value);
                let object =
                    put.and_then(|value| encoding::decode_stored(value, &row.api_version(), row.kind, revision).ok());
                core.custom.set(name, object.clone());
                match object {
                    Some(object) => cleanup::begin_if_deleted(core, &object),
                    // its names are free now
                    None => names::retry(core),
                }
                revision
            }
        };
        core.custom.revision.send_replace(revision);
    }
    Ok(())
}
