//! A deleted definition takes its objects with it; then it goes itself.

use std::sync::Arc;

use futures::StreamExt;
use http::Method;
use machinery::{
    Resource, ResourceRef,
    resources::apiextensions::CLEANUP,
    value::{list_at, str_at},
};
use serde_json::{Value, json};
use store::{EventKind, WatchItem};

use crate::{bootstrap, core::Core, registry};

fn is_deleted(object: &Value) -> bool {
    !str_at(object, "metadata.deletionTimestamp").is_empty()
        && list_at(object, "metadata.finalizers").iter().any(|f| f == CLEANUP)
}

/// Begins to remove the objects of a definition that is being deleted; several at once do no harm.
pub fn begin_if_deleted(core: &Arc<Core>, object: &Value) {
    if !is_deleted(object) {
        return;
    }
    let (core, name) = (core.clone(), str_at(object, "metadata.name").to_owned());
    tokio::spawn(async move {
        let stopping = core.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => {}
            done = finish(&core, &name) => if let Err(error) = done {
                tracing::warn!(%error, name, "the objects of a deleted definition cannot be removed");
            },
        }
    });
}

async fn finish(core: &Arc<Core>, name: &str) -> anyhow::Result<()> {
    if let Some(row) = any_row(core, name) {
        remove_all(core, &row).await?;
    }
    // another write may come between reading and writing: then its event begins this anew
    let Some(row) = super::row() else { return Ok(()) };
    let current = match registry::read(core, row, "", name).await {
        Ok(stored) => stored.object,
        Err(error) if error.code == 404 => return Ok(()),
        Err(error) => anyhow::bail!("cannot read the definition: {error}"),
    };
    if !is_deleted(&current) {
        return Ok(());
    }
    let mut new = current.clone();
    let kept: Vec<Value> = list_at(&current, "metadata.finalizers").iter().filter(|f| *f != CLEANUP).cloned().collect();
    new["metadata"]["finalizers"] = json!(kept);
    bootstrap::send(core, Method::PUT, &format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"), &new)
        .await
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
