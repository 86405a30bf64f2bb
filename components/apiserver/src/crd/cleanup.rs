//! A deleted definition takes its objects with it; then it goes itself.

use std::sync::Arc;

use futures::StreamExt;
use http::Method;
use machinery::{
    Resource, ResourceRef,
    resources::apiextensions::{CLEANUP, is_true, set_condition},
    value::{list_at, str_at},
};
use serde_json::{Value, json};
use store::{EventKind, WatchItem};

use crate::{
    bootstrap,
    core::Core,
    registry::{self, Stored, Write, WriteError},
};

fn is_deleted(object: &Value) -> bool {
    !str_at(object, "metadata.deletionTimestamp").is_empty()
        && list_at(object, "metadata.finalizers").iter().any(|f| f == CLEANUP)
}

/// Begins to remove the objects of a definition that is being deleted, unless that is under way.
pub fn begin_if_deleted(core: &Arc<Core>, object: &Value) {
    let name = str_at(object, "metadata.name").to_owned();
    if !is_deleted(object) || !core.custom.cleaning.lock().insert(name.clone()) {
        return;
    }
    let core = core.clone();
    tokio::spawn(async move {
        let stopping = core.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => {}
            done = finish(&core, &name) => if let Err(error) = done {
                tracing::warn!(%error, name, "the objects of a deleted definition cannot be removed");
            },
        }
        core.custom.cleaning.lock().remove(&name);
    });
}

/// A state of the condition `Terminating`: status, reason, message.
type Terminating = (&'static str, &'static str, &'static str);

const UNDER_WAY: Terminating = ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
const DONE: Terminating = ("False", "InstanceDeletionCompleted", "removed all instances");
const NOTHING_TO_DO: Terminating = ("False", "NeverEstablished", "resource was never established");

/// Objects first, then the finalizer that stands for them; from the beginning when somebody changes the definition meanwhile.
async fn finish(core: &Arc<Core>, name: &str) -> anyhow::Result<()> {
    let Some(row) = super::row() else { return Ok(()) };
    loop {
        let Some(stored) = deleted(core, row, name).await? else { return Ok(()) };
        let mut new = stored.object.clone();
        set_terminating(&mut new, UNDER_WAY);
        if new != stored.object && !write(core, row, &stored, &new).await? {
            continue;
        }
        let established = is_true(&stored.object, "Established");
        if let Some(row) = any_row(core, name).filter(|_| established) {
            remove_all(core, &row).await?;
        }
        let Some(stored) = deleted(core, row, name).await? else { return Ok(()) };
        let mut new = stored.object.clone();
        set_terminating(&mut new, if established { DONE } else { NOTHING_TO_DO });
        let mut kept = list_at(&new, "metadata.finalizers").to_vec();
        kept.retain(|finalizer| finalizer != CLEANUP);
        new["metadata"]["finalizers"] = json!(kept);
        if write(core, row, &stored, &new).await? {
            return Ok(());
        }
    }
}

fn set_terminating(object: &mut Value, (status, reason, message): Terminating) {
    set_condition(object, "Terminating", status, reason, message);
}

/// The definition as it is now, if it waits for us.
async fn deleted(core: &Core, row: &Resource, name: &str) -> anyhow::Result<Option<Stored>> {
    match registry::read(core, row, "", name).await {
        Ok(stored) => Ok(Some(stored).filter(|stored| is_deleted(&stored.object))),
        Err(error) if error.code == 404 => Ok(None),
        Err(error) => anyhow::bail!("cannot read the definition: {error}"),
    }
}

/// Stores a deleted definition, or removes it when nothing holds it any more; `false` if somebody else has written.
async fn write(core: &Core, row: &Resource, stored: &Stored, new: &Value) -> anyhow::Result<bool> {
    let write = Write { resource: row, namespace: "", name: str_at(new, "metadata.name"), claims: Vec::new() };
    let written = match list_at(new, "metadata.finalizers").is_empty() {
        true => write.delete(core, stored.revision).await.map(drop),
        false => write.put(core, new, Some(stored.revision)).await.map(drop),
    };
    match written {
        Ok(()) => Ok(true),
        Err(WriteError::Failed(error)) => anyhow::bail!("cannot write the definition: {error}"),
        Err(_) => Ok(false),
    }
}

/// A served version of the definition; objects are the same in all of them.
fn any_row(core: &Core, name: &str) -> Option<ResourceRef> {
    let definition = core.custom.definition(name)?;
    let plural = str_at(&definition.object, "spec.names.plural");
    definition.versions.iter().find_map(|version| core.custom.find(&definition.group, &version.name, plural))
}

/// Deletes every object and waits for those that somebody's finalizer keeps.
async fn remove_all(core: &Arc<Core>, row: &ResourceRef) -> anyhow::Result<()> {
    let prefix = registry::prefix(row, "");
    loop {
        let from = core.store.revision();
        let mut events = core.store.watch(&prefix, from).await?;
        let keys = core.store.range(store::RangeRequest { prefix: prefix.clone(), ..Default::default() }).await?.items;
        if keys.is_empty() {
            return Ok(());
        }
        for kv in &keys {
            let path = object_path(row, kv.key.strip_prefix(&prefix).unwrap_or_default());
            if let Err(error) = bootstrap::send(core, Method::DELETE, &path, &Value::Null).await {
                tracing::debug!(%error, path, "an object of a deleted definition stays for now");
            }
        }
        if core
            .store
            .range(store::RangeRequest { prefix: prefix.clone(), limit: 1, ..Default::default() })
            .await?
            .items
            .is_empty()
        {
            return Ok(());
        }
        while let Some(item) = events.next().await {
            if matches!(item?, WatchItem::Event(event) if event.kind == EventKind::Delete) {
                break;
            }
        }
    }
}

fn object_path(row: &Resource, rest: &str) -> String {
    match rest.split_once('/').filter(|_| row.namespaced) {
        Some((namespace, name)) => format!("/apis/{}/namespaces/{namespace}/{}/{name}", row.api_version(), row.plural),
        None => format!("/apis/{}/{}/{rest}", row.api_version(), row.plural),
    }
}
