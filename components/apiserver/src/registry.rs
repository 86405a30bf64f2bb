//! Objects in the store: keys, reads, compare-and-swap writes. The only room that knows how keys look.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::BoxStream};
use machinery::{ApiError, Resource, ResourceRef, encoding};
use serde_json::Value;
use store::{Event, Expect, KeyValue, Op, Revision, Txn, WatchItem};

use crate::{aggregation, core::Core, crd};

pub const ROOT: &str = "/registry/";

/// The row of a built-in resource.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    machinery::resources::find(group, version, plural)
}

/// The row of any resource that is served now, built in or custom.
pub fn resolve(core: &Core, group: &str, version: &str, plural: &str) -> Option<ResourceRef> {
    find(group, version, plural).map(ResourceRef::from).or_else(|| core.custom.find(group, version, plural))
}

/// Everything that is served now: built-in resources, then custom ones.
pub fn served(core: &Core) -> Vec<ResourceRef> {
    machinery::resources::all().map(ResourceRef::from).chain(core.custom.all()).collect()
}

/// The part of keys that all objects of a resource share; ends with a slash so that `a` never sees `a-b`.
pub fn prefix(resource: &Resource, namespace: &str) -> String {
    let (group, plural) = resource.stored_as();
    let group = if group.is_empty() { "core" } else { group };
    if resource.namespaced && !namespace.is_empty() {
        format!("{ROOT}{group}/{plural}/{namespace}/")
    } else {
        format!("{ROOT}{group}/{plural}/")
    }
}

pub fn key(resource: &Resource, namespace: &str, name: &str) -> String {
    prefix(resource, namespace) + name
}

/// An object with the revision it was last written at.
#[derive(Clone, Debug)]
pub struct Stored {
    pub object: Value,
    pub revision: Revision,
    /// A write is needed even if nothing changes: it lies there in a version that is no longer stored.
    pub stale: bool,
}

pub fn decode(resource: &Resource, bytes: &[u8], revision: Revision) -> Result<Value, ApiError> {
    encoding::decode_stored(bytes, &resource.api_version(), resource.kind, revision).map_err(ApiError::internal)
}

fn not_found(resource: &Resource, name: &str) -> ApiError {
    ApiError::not_found(resource.group, resource.plural, name)
}

/// What lies in the store, in the form in which the resource serves it: nothing to do for most kinds; kinds that are stored
/// as another group or version, and custom resources, are converted here, so that everything above the registry sees one
/// version only.
pub async fn present(resource: &Resource, mut items: Vec<KeyValue>) -> Result<Vec<KeyValue>, ApiError> {
    if let Some(view) = &resource.view {
        for kv in &mut items {
            let mut object = decode(resource, &kv.value, kv.mod_revision)?;
            (view.from_stored)(&mut object);
            kv.value = encoding::encode_stored(&object);
        }
        return Ok(items);
    }
    let Some(custom) = resource.custom() else { return Ok(items) };
    let mut todo = Vec::new();
    for (index, kv) in items.iter_mut().enumerate() {
        let (value, note) = encoding::split_note(&kv.value);
        if custom.note() == Some(note) {
            kv.value = value;
        } else {
            let object = encoding::decode_stored(&value, "", resource.kind, kv.mod_revision);
            todo.push((index, (object.map_err(ApiError::internal)?, note.to_owned())));
        }
    }
    if todo.is_empty() {
        return Ok(items);
    }
    let (indices, objects): (Vec<usize>, Vec<_>) = todo.into_iter().unzip();
    let objects = custom.present(objects).await?;
    for (index, object) in indices.into_iter().zip(objects) {
        if let Some(kv) = items.get_mut(index) {
            kv.value = encoding::encode_stored(&object);
        }
    }
    Ok(items)
}

async fn present_one(resource: &Resource, kv: KeyValue) -> Result<KeyValue, ApiError> {
    present(resource, vec![kv]).await?.pop().ok_or_else(|| ApiError::internal("a stored object was lost"))
}

/// Changes under a prefix, in the form in which the resource serves objects; the first error ends it.
pub async fn watch(
    core: &Core,
    resource: &ResourceRef,
    prefix: &str,
    after: Revision,
) -> BoxStream<'static, Result<WatchItem, ApiError>> {
    let items = match core.store.watch(prefix, after).await {
        Ok(items) => items.map(|item| item.map_err(store_error)),
        Err(error) => return futures::stream::once(std::future::ready(Err(store_error(error)))).boxed(),
    };
    if resource.custom().is_none() && resource.view.is_none() {
        return items.boxed();
    }
    let replaced = resource.custom().map_or_else(|| futures::future::pending().boxed(), |custom| custom.replaced());
    let resource = resource.clone();
    let presented = items.then(move |item| {
        let resource = resource.clone();
        async move {
            match item? {
                WatchItem::Event(event) => {
                    present_event(&resource, &event).await.map(|e| WatchItem::Event(Arc::new(e)))
                }
                progress => Ok(progress),
            }
        }
    });
    presented.take_until(replaced).boxed()
}

/// The newest revision there is, whichever server wrote it: a read waits until all of that has arrived here.
pub async fn newest(core: &Core) -> Revision {
    // a store that cannot be read leaves what is known
    let _ = core.store.get(ROOT).await;
    core.store.revision()
}

/// How long a revision of the future is waited for, as upstream's cache does.
const FUTURE: Duration = Duration::from_secs(3);

/// Returns when the store has come to a revision; 504 if it does not in time.
pub async fn reached(core: &Core, wanted: Revision) -> Result<(), ApiError> {
    if wanted <= core.store.revision() {
        return Ok(());
    }
    // another server may have written it
    let current = newest(core).await;
    if wanted <= current {
        return Ok(());
    }
    let coming = async {
        let mut items = core.store.watch(ROOT, current).await.map_err(store_error)?;
        while core.store.revision() < wanted {
            if items.next().await.transpose().map_err(store_error)?.is_none() {
                break;
            }
        }
        Ok(())
    };
    tokio::time::timeout(FUTURE, coming)
        .await
        .unwrap_or_else(|_| Err(ApiError::too_large_resource_version(wanted, core.store.revision())))
}

async fn present_event(resource: &Resource, event: &Event) -> Result<Event, ApiError> {
    let before = event.previous.clone().map(|value| KeyValue { value, ..event.kv.clone() });
    let both = present(resource, std::iter::once(event.kv.clone()).chain(before).collect()).await?;
    let mut both = both.into_iter();
    let kv = both.next().ok_or_else(|| ApiError::internal("an event was lost"))?;
    Ok(Event { kind: event.kind.clone(), kv, previous: both.next().map(|kv| kv.value) })
}

async fn raw(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<KeyValue, ApiError> {
    core.store.get(&key(resource, namespace, name)).await.map_err(store_error)?.ok_or_else(|| not_found(resource, name))
}

pub async fn read_raw(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<KeyValue, ApiError> {
    present_one(resource, raw(core, resource, namespace, name).await?).await
}

pub async fn read(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<Stored, ApiError> {
    let kv = raw(core, resource, namespace, name).await?;
    let mut stale = resource.custom().is_some_and(|custom| custom.is_stale(encoding::split_note(&kv.value).1));
    if let Some(encryption) = &core.encryption {
        stale |= encryption.is_stale(&kv.key).await;
    }
    let kv = present_one(resource, kv).await?;
    Ok(Stored { object: decode(resource, &kv.value, kv.mod_revision)?, revision: kv.mod_revision, stale })
}

/// The newest state of an object of a built-in kind that many requests look at and few change: decoded once.
pub async fn look(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<Value>, ApiError> {
    looked_at(core, resource, &raw(core, resource, namespace, name).await?)
}

/// As [`look`], every object in a namespace, or all.
pub async fn look_all(core: &Core, resource: &Resource, namespace: &str) -> Result<Vec<Arc<Value>>, ApiError> {
    let request = store::RangeRequest { prefix: prefix(resource, namespace), ..Default::default() };
    let range = core.store.range(request).await.map_err(store_error)?;
    range.items.iter().map(|kv| looked_at(core, resource, kv)).collect()
}

fn looked_at(core: &Core, resource: &Resource, kv: &KeyValue) -> Result<Arc<Value>, ApiError> {
    let read = || decode(resource, &kv.value, kv.mod_revision);
    core.looked_at.get_or_decode(&kv.key, kv.mod_revision, resource.version, false, read)
}

/// Every object of a resource (in a namespace, or all), newest state.
pub async fn read_all(core: &Core, resource: &Resource, namespace: &str) -> Result<Vec<Stored>, ApiError> {
    let request = store::RangeRequest { prefix: prefix(resource, namespace), ..Default::default() };
    let range = core.store.range(request).await.map_err(store_error)?;
    present(resource, range.items)
        .await?
        .iter()
        .map(|kv| {
            let object = decode(resource, &kv.value, kv.mod_revision)?;
            Ok(Stored { object, revision: kv.mod_revision, stale: false })
        })
        .collect()
}

/// Why a write did not happen.
pub enum WriteError {
    /// The object itself was changed (or made, or removed) meanwhile.
    Lost,
    /// Another key of the transaction was not as expected: a claim is taken.
    Taken(String),
    Failed(ApiError),
}

impl WriteError {
    pub fn into_api(self, resource: &Resource, name: &str) -> ApiError {
        match self {
            WriteError::Lost | WriteError::Taken(_) => ApiError::modified(resource.group, resource.plural, name),
            WriteError::Failed(error) => error,
        }
    }
}

/// A write of one object, with what has to change in the same transaction.
pub struct Write<'a> {
    pub resource: &'a Resource,
    pub namespace: &'a str,
    pub name: &'a str,
    pub claims: Vec<Op>,
}

impl Write<'_> {
    /// Stores `object`; `None` expects that there is none yet.
    pub async fn put(
        self,
        core: &Core,
        object: &Value,
        expected: Option<Revision>,
    ) -> Result<(Bytes, Revision), WriteError> {
        if expected.is_none() {
            may_create(self.resource).map_err(WriteError::Failed)?;
        }
        if !crd::is_definition(self.resource) {
            return self.put_as_it_is(core, object, expected).await;
        }
        loop {
            let settled = crd::names::settle(core, object).await.map_err(WriteError::Failed)?;
            let claims = self.claims.iter().cloned().chain([settled.turn.clone()]).collect();
            match (Write { claims, ..self }).put_as_it_is(core, &settled.object, expected).await {
                Err(WriteError::Taken(key)) if crd::names::is_turn(&key) => {}
                result => return result,
            }
        }
    }

    async fn put_as_it_is(
        self,
        core: &Core,
        object: &Value,
        expected: Option<Revision>,
    ) -> Result<(Bytes, Revision), WriteError> {
        let (value, served) = stored_form(self.resource, object).await.map_err(WriteError::Failed)?;
        let expect = expected.map_or(Expect::Absent, Expect::Revision);
        let op = Op::Put { key: key(self.resource, self.namespace, self.name), value, expect };
        let revision = self.commit(core, op).await?;
        Ok((served, revision))
    }

    pub async fn delete(self, core: &Core, expected: Revision) -> Result<Revision, WriteError> {
        let op = Op::Delete { key: key(self.resource, self.namespace, self.name), expect: Expect::Revision(expected) };
        self.commit(core, op).await
    }

    async fn commit(self, core: &Core, op: Op) -> Result<Revision, WriteError> {
        let own = match &op {
            Op::Put { key, .. } | Op::Delete { key, .. } => key.clone(),
        };
        let operation = match &op {
            Op::Put { expect: Expect::Absent, .. } => "create",
            Op::Put { .. } => "update",
            Op::Delete { .. } => "delete",
        };
        let mut ops = vec![op];
        ops.extend(self.claims);
        let begun = Instant::now();
        match core.store.txn(Txn { ops }).await {
            Ok(revision) => {
                let (group, plural) = self.resource.stored_as();
                core.metrics.storage.wrote((operation, group, plural), begun.elapsed());
                if crd::is_definition(self.resource) {
                    core.custom.caught_up(revision).await;
                } else if aggregation::is_registration(self.resource) {
                    core.aggregation.caught_up(revision).await;
                }
                Ok(revision)
            }
            Err(store::Error::Conflict { key, .. }) if key == own => Err(WriteError::Lost),
            Err(store::Error::Conflict { key, .. }) => Err(WriteError::Taken(key)),
            Err(error) => Err(WriteError::Failed(store_error(error))),
        }
    }
}

/// A custom resource whose definition goes away takes no new objects.
fn may_create(resource: &Resource) -> Result<(), ApiError> {
    let Some(why) = resource.custom().and_then(|custom| custom.closed()) else { return Ok(()) };
    let mut error = ApiError::method_not_allowed(resource.group, resource.plural, "create");
    error.message = why;
    Err(error)
}

/// What to store of an object, and what to answer of it: the same bytes, but for views and custom resources.
async fn stored_form(resource: &Resource, object: &Value) -> Result<(Bytes, Bytes), ApiError> {
    if let Some(view) = &resource.view {
        let mut object = object.clone();
        (view.to_stored)(&mut object);
        let stored = encoding::encode_stored(&object);
        (view.from_stored)(&mut object);
        return Ok((stored, encoding::encode_stored(&object)));
    }
    let Some(custom) = resource.custom() else {
        let value = encoding::encode_stored(object);
        return Ok((value.clone(), value));
    };
    let (stored, note) = custom.to_stored(object).await?;
    let value = encoding::encode_stored(&stored);
    let noted = encoding::with_note(&value, &note);
    if custom.note() == Some(note.as_str()) {
        return Ok((noted, value));
    }
    // the answer is what a read will give: the way back is taken, too
    let back = custom.present(vec![(stored, note)]).await?.pop();
    let served = back.ok_or_else(|| ApiError::internal("a converted object was lost"))?;
    Ok((noted, encoding::encode_stored(&served)))
}

/// An object as another served version (or group) of its kind has it.
pub async fn convert(from: &Resource, to: &Resource, object: &Value) -> Result<Value, ApiError> {
    let mut converted = match (from.custom(), to.custom()) {
        (Some(from), Some(to)) => {
            let stored = from.to_stored(object).await?;
            let back = to.present(vec![stored]).await?.pop();
            back.ok_or_else(|| ApiError::internal("a converted object was lost"))?
        }
        _ => {
            let mut object = object.clone();
            if let Some(view) = &from.view {
                (view.to_stored)(&mut object);
            }
            if let Some(view) = &to.view {
                (view.from_stored)(&mut object);
            }
            object
        }
    };
    converted["apiVersion"] = to.api_version().into();
    converted["kind"] = to.kind.into();
    Ok(converted)
}

/// The store's troubles as clients know them; nothing of the backend's own text but what an operator needs.
pub fn store_error(error: store::Error) -> ApiError {
    match error {
        store::Error::Compacted { requested, oldest } => {
            ApiError::expired(format!("too old resource version: {requested} ({oldest})"))
        }
        store::Error::Future { requested, newest } => ApiError::too_large_resource_version(requested, newest),
        store::Error::Conflict { key, .. } => {
            ApiError::new(409, "Conflict", format!("{key} was changed by somebody else"))
        }
        store::Error::Corrupt(why) => ApiError::internal(why),
        store::Error::Unavailable(why) => {
            tracing::error!(%why, "the store is not available");
            ApiError::service_unavailable(format!("the store is not available: {why}"))
        }
    }
}
