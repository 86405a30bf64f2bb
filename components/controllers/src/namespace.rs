//! Empties a namespace that is being deleted, pods first (KEP-5080), and then lets it go by emptying `spec.finalizers`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams};
use tokio::task::JoinSet;

use crate::core::{Ctx, Key, WorkQueue, meta};
use crate::resources::{Catalogue, Resources, Served};

const NAME: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";
/// Content held by other finalizers or by stopping pods is looked at again after this, or when its last pod goes.
const RECHECK: Duration = Duration::from_millis(500);

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>, resources: Arc<Resources>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.namespaces.on_change(move |_, new| {
        new.filter(|it| it.metadata.deletion_timestamp.is_some())
            .into_iter()
            .for_each(|it| to.add(Key::of(it.as_ref())))
    });
    let (to, namespaces) = (queue.clone(), ctx.informers.namespaces.clone());
    ctx.informers.pods.on_change(move |old, new| {
        let (Some(pod), None) = (old, new) else { return };
        let ns = meta::namespace(&pod.metadata);
        if namespaces.get("", ns).is_some_and(|it| it.metadata.deletion_timestamp.is_some()) {
            to.add(Key::new("", ns));
        }
    });
    let informers = ctx.informers.clone();
    let ready = async move { informers.namespaces.wait_synced().await };
    let (ctx, again) = (Arc::new(ctx.clone()), queue.clone());
    // Many may end at once; each mostly waits.
    queue.work(tasks, NAME, 10, ready, move |key| {
        let (ctx, again, resources) = (ctx.clone(), again.clone(), resources.clone());
        async move { sync(&ctx, &again, &resources, &key).await }
    });
}

async fn sync(ctx: &Ctx, queue: &WorkQueue, resources: &Resources, key: &Key) -> anyhow::Result<()> {
    let Some(namespace) = ctx.informers.namespaces.get_key(key) else { return Ok(()) };
    let holds = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).any(|it| it == FINALIZER);
    if namespace.metadata.deletion_timestamp.is_none() || !holds {
        return Ok(());
    }
    let catalogue = resources.fresh().await?;
    if !empty(ctx, &catalogue, &key.name).await? {
        queue.add_after(key.clone(), RECHECK);
        return Ok(());
    }
    anyhow::ensure!(
        catalogue.unknown.is_empty(),
        "cannot finish namespace {key}: unknown content, since these APIs did not answer: {}",
        catalogue.unknown.join(", ")
    );
    finalize(ctx, &namespace).await
}

/// Deletes what is there; true when nothing was left.
async fn empty(ctx: &Ctx, catalogue: &Catalogue, ns: &str) -> anyhow::Result<bool> {
    let deletable = |it: &&Served| it.namespaced && it.can("list") && it.can("delete");
    let (pods, others): (Vec<_>, Vec<_>) = catalogue.served.iter().filter(deletable).partition(|it| it.id() == "pods.");
    for served in pods {
        if !purge(ctx, served, ns).await? {
            return Ok(false);
        }
    }
    let results = futures::future::join_all(others.into_iter().map(|served| purge(ctx, served, ns))).await;
    let mut all = true;
    for result in results {
        all &= result?;
    }
    Ok(all)
}

async fn purge(ctx: &Ctx, served: &Served, ns: &str) -> anyhow::Result<bool> {
    let api = served.api(&ctx.client, ns);
    let describe = || format!("cannot empty {} in namespace {ns}", served.resource.plural);
    let probe = ListParams::default().limit(1);
    if api.list_metadata(&probe).await.with_context(describe)?.items.is_empty() {
        return Ok(true);
    }
    if served.can("deletecollection") {
        api.delete_collection(&DeleteParams::background(), &ListParams::default()).await.with_context(describe)?;
    } else {
        for object in api.list_metadata(&ListParams::default()).await.with_context(describe)? {
            meta::ignore_gone(api.delete(meta::name(&object.metadata), &meta::delete_exactly(&object.metadata)).await)
                .with_context(describe)?;
        }
    }
    Ok(api.list_metadata(&probe).await.with_context(describe)?.items.is_empty())
}

async fn finalize(ctx: &Ctx, namespace: &Namespace) -> anyhow::Result<()> {
    let name = meta::name(&namespace.metadata);
    let mut changed = namespace.clone();
    if let Some(spec) = changed.spec.as_mut() {
        spec.finalizers.iter_mut().for_each(|it| it.retain(|it| it != FINALIZER));
    }
    let result: Result<Namespace, _> =
        ctx.cluster_api::<Namespace>().replace_subresource("finalize", name, &PostParams::default(), &changed).await;
    match result {
        Err(error) if meta::not_found(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot finish namespace {name}")),
        Ok(_) => Ok(()),
    }
}
