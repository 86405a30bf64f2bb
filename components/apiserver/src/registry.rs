//! Objects in the store: keys, reads, compare-and-swap writes. The only room that knows how keys look.

use bytes::Bytes;
use machinery::{ApiError, Resource, encoding};
use serde_json::Value;
use store::{Expect, KeyValue, Op, Revision, Txn};

use crate::core::Core;

pub const ROOT: &str = "/registry/";

/// The row of a built-in resource.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    machinery::resources::find(group, version, plural)
}

/// The part of keys that all objects of a resource share; ends with a slash so that `a` never sees `a-b`.
pub fn prefix(resource: &Resource, namespace: &str) -> String {
    let group = if resource.group.is_empty() { "core" } else { resource.group };
    if resource.namespaced && !namespace.is_empty() {
        format!("{ROOT}{group}/{}/{namespace}/", resource.plural)
    } else {
        format!("{ROOT}{group}/{}/", resource.plural)
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
}

pub fn decode(resource: &Resource, bytes: &[u8], revision: Revision) -> Result<Value, ApiError> {
    encoding::decode_stored(bytes, &resource.api_version(), resource.kind, revision).map_err(ApiError::internal)
}

fn not_found(resource: &Resource, name: &str) -> ApiError {
    ApiError::not_found(resource.group, resource.plural, name)
}

pub async fn read_raw(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<KeyValue, ApiError> {
    core.store.get(&key(resource, namespace, name)).await.map_err(store_error)?.ok_or_else(|| not_found(resource, name))
}

pub async fn read(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<Stored, ApiError> {
    let kv = read_raw(core, resource, namespace, name).await?;
    Ok(Stored { object: decode(resource, &kv.value, kv.mod_revision)?, revision: kv.mod_revision })
}

/// Every object of a resource (in a namespace, or all), newest state.
pub async fn read_all(core: &Core, resource: &Resource, namespace: &str) -> Result<Vec<Stored>, ApiError> {
    let request = store::RangeRequest { prefix: prefix(resource, namespace), ..Default::default() };
    let range = core.store.range(request).await.map_err(store_error)?;
    range
        .items
        .iter()
        .map(|kv| Ok(Stored { object: decode(resource, &kv.value, kv.mod_revision)?, revision: kv.mod_revision }))
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
        let value = encoding::encode_stored(object);
        let expect = expected.map_or(Expect::Absent, Expect::Revision);
        let op = Op::Put { key: key(self.resource, self.namespace, self.name), value: value.clone(), expect };
        let revision = self.commit(core, op).await?;
        Ok((value, revision))
    }

    pub async fn delete(self, core: &Core, expected: Revision) -> Result<Revision, WriteError> {
        let op = Op::Delete { key: key(self.resource, self.namespace, self.name), expect: Expect::Revision(expected) };
        self.commit(core, op).await
    }

    async fn commit(self, core: &Core, op: Op) -> Result<Revision, WriteError> {
        let own = match &op {
            Op::Put { key, .. } | Op::Delete { key, .. } => key.clone(),
        };
        let mut ops = vec![op];
        ops.extend(self.claims);
        match core.store.txn(Txn { ops }).await {
            Ok(revision) => Ok(revision),
            Err(store::Error::Conflict { key, .. }) if key == own => Err(WriteError::Lost),
            Err(store::Error::Conflict { key, .. }) => Err(WriteError::Taken(key)),
            Err(error) => Err(WriteError::Failed(store_error(error))),
        }
    }
}

/// The store's troubles as clients know them; nothing of the backend's own text but what an operator needs.
pub fn store_error(error: store::Error) -> ApiError {
    match error {
        store::Error::Compacted { requested, oldest } => {
            ApiError::expired(format!("The resourceVersion for the provided watch is too old: {requested} ({oldest})"))
        }
        store::Error::Future { requested, newest } => ApiError::too_large_resource_version(requested, newest),
        store::Error::Conflict { key, .. } => {
            ApiError::new(409, "Conflict", format!("{key} was changed by somebody else"))
        }
        store::Error::Corrupt(why) => ApiError::internal(why),
        store::Error::Unavailable(why) => {
            tracing::error!(%why, "the store cannot write");
            ApiError::service_unavailable("the store cannot write; see the API server's log")
        }
    }
}
