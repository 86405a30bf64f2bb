//! The ConfigMap `kube-root-ca.crt` in every namespace, restored when it is changed or deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use tokio::task::JoinSet;

use crate::core::context::ROOT_CA;
use crate::core::{Ctx, Key, WorkQueue, meta};

const ABOUT: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>, bundle: String) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.namespaces.on_change(move |_, new| new.into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let to = queue.clone();
    ctx.informers.root_cas.on_change(move |old, new| {
        new.or(old).into_iter().for_each(|it| to.add(Key::new("", meta::namespace(&it.metadata))))
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.namespaces.wait_synced().await;
        informers.root_cas.wait_synced().await;
    };
    let (ctx, bundle) = (Arc::new(ctx.clone()), Arc::new(bundle));
    queue.work(tasks, "root-ca-certificate-publisher", 4, ready, move |key| {
        let (ctx, bundle) = (ctx.clone(), bundle.clone());
        async move { sync(&ctx, &key, &bundle).await }
    });
}

async fn sync(ctx: &Ctx, key: &Key, bundle: &str) -> anyhow::Result<()> {
    let Some(namespace) = ctx.informers.namespaces.get_key(key) else { return Ok(()) };
    if namespace.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let data = BTreeMap::from([("ca.crt".to_owned(), bundle.to_owned())]);
    let api = ctx.api::<ConfigMap>(&key.name);
    let written = match ctx.informers.root_cas.get(&key.name, ROOT_CA) {
        Some(existing)
            if existing.data.as_ref() == Some(&data) && meta::annotation(&existing.metadata, ABOUT.0).is_some() =>
        {
            return Ok(());
        }
        Some(existing) => {
            let mut changed = existing.as_ref().clone();
            (changed.data, changed.binary_data) = (Some(data), None);
            changed.metadata.annotations.get_or_insert_default().insert(ABOUT.0.into(), ABOUT.1.into());
            api.replace(ROOT_CA, &PostParams::default(), &changed).await
        }
        None => {
            let annotations = BTreeMap::from([(ABOUT.0.to_owned(), ABOUT.1.to_owned())]);
            let metadata = ObjectMeta {
                name: Some(ROOT_CA.into()),
                namespace: Some(key.name.clone()),
                annotations: Some(annotations),
                ..Default::default()
            };
            api.create(&PostParams::default(), &ConfigMap { metadata, data: Some(data), ..Default::default() }).await
        }
    };
    match written {
        Ok(_) => Ok(()),
        Err(error)
            if meta::already_exists(&error) || meta::namespace_terminating(&error) || meta::not_found(&error) =>
        {
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("cannot publish the root CA in namespace {key}")),
    }
}
