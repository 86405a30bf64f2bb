//! The ServiceAccount `default` in every namespace, made again if it is deleted.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use tokio::task::JoinSet;

use crate::core::{Ctx, Key, WorkQueue, meta};

const DEFAULT: &str = "default";

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.namespaces.on_change(move |_, new| new.into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let to = queue.clone();
    ctx.informers.service_accounts.on_change(move |old, new| {
        if let (Some(old), None) = (old, new)
            && meta::name(&old.metadata) == DEFAULT
        {
            to.add(Key::new("", meta::namespace(&old.metadata)));
        }
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.namespaces.wait_synced().await;
        informers.service_accounts.wait_synced().await;
    };
    let ctx = Arc::new(ctx.clone());
    queue.work(tasks, "serviceaccount-controller", 4, ready, move |key| {
        let ctx = ctx.clone();
        async move { sync(&ctx, &key).await }
    });
}

async fn sync(ctx: &Ctx, key: &Key) -> anyhow::Result<()> {
    let Some(namespace) = ctx.informers.namespaces.get_key(key) else { return Ok(()) };
    if namespace.metadata.deletion_timestamp.is_some()
        || ctx.informers.service_accounts.get(&key.name, DEFAULT).is_some()
    {
        return Ok(());
    }
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(DEFAULT.into()), namespace: Some(key.name.clone()), ..Default::default() },
        ..Default::default()
    };
    match ctx.api::<ServiceAccount>(&key.name).create(&PostParams::default(), &account).await {
        Ok(_) => Ok(()),
        Err(error)
            if meta::already_exists(&error) || meta::namespace_terminating(&error) || meta::not_found(&error) =>
        {
            Ok(())
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot create the default service account of namespace {key}"))
        }
    }
}
