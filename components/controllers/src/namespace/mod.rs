//! Empties a namespace that is being deleted, pods first (KEP-5080), and then lets it go by emptying `spec.finalizers`.

mod conditions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinSet;

use self::conditions::{Pass, Remaining};
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

/// It is being deleted, and waits for us.
fn is_ours(namespace: &Namespace) -> bool {
    let holds = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).any(|it| it == FINALIZER);
    namespace.metadata.deletion_timestamp.is_some() && holds
}

async fn sync(ctx: &Ctx, queue: &WorkQueue, resources: &Resources, key: &Key) -> anyhow::Result<()> {
    if !ctx.informers.namespaces.get_key(key).is_some_and(|it| is_ours(&it)) {
        return Ok(());
    }
    // The watch may lag, and what is emptied is told by its name alone: a namespace of that name may have been made again.
    let live = ctx.cluster_api::<Namespace>().get_opt(&key.name).await;
    let live = live.with_context(|| format!("cannot read namespace {key}"))?;
    let Some(namespace) = live.filter(is_ours) else { return Ok(()) };
    let catalogue = resources.fresh().await?;
    let (remaining, failed) = empty(ctx, &catalogue, &key.name).await;
    let done = remaining.is_none() && failed.is_none();
    if !done || !catalogue.unknown.is_empty() {
        let failure = failed.as_ref().map(|error| format!("{error:#}"));
        tell(ctx, &namespace, &Pass { remaining, unknown: catalogue.unknown.clone(), failure }).await?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if !done {
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

/// Writes down why the namespace is still there, if that is news.
async fn tell(ctx: &Ctx, namespace: &Namespace, pass: &Pass) -> anyhow::Result<()> {
    let name = meta::name(&namespace.metadata);
    let old = namespace.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let new = conditions::after(&old, pass);
    if new == old {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"status": {"conditions": new}}));
    let api = ctx.cluster_api::<Namespace>();
    meta::ignore_gone(api.patch_status(name, &PatchParams::default(), &patch).await)
        .with_context(|| format!("cannot write the status of namespace {name}"))?;
    Ok(())
}

/// Deletes what is there, other things only when no pod is left; what remains, and the first failure.
async fn empty(ctx: &Ctx, catalogue: &Catalogue, ns: &str) -> (Remaining, Option<anyhow::Error>) {
    let deletable = |it: &&Served| it.namespaced && it.can("list") && it.can("delete");
    let (pods, others): (Vec<_>, Vec<_>) = catalogue.served.iter().filter(deletable).partition(|it| it.id() == "pods.");
    let (mut remaining, mut failed) = (Remaining::default(), None);
    for resources in [pods, others] {
        for result in futures::future::join_all(resources.into_iter().map(|served| purge(ctx, served, ns))).await {
            match result {
                Ok(left) => remaining.add(left),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if failed.is_some() || !remaining.is_none() {
            break;
        }
    }
    (remaining, failed)
}

/// Deletes the objects of one resource; what remains of them.
async fn purge(ctx: &Ctx, served: &Served, ns: &str) -> anyhow::Result<Remaining> {
    let api = served.api(&ctx.client, ns);
    let describe = || format!("cannot empty {} in namespace {ns}", served.resource.plural);
    let probe = ListParams::default().limit(1);
    if api.list_metadata(&probe).await.with_context(describe)?.items.is_empty() {
        return Ok(Remaining::default());
    }
    if served.can("deletecollection") {
        api.delete_collection(&DeleteParams::background(), &ListParams::default()).await.with_context(describe)?;
    } else {
        for object in api.list_metadata(&ListParams::default()).await.with_context(describe)? {
            meta::ignore_gone(api.delete(meta::name(&object.metadata), &meta::delete_exactly(&object.metadata)).await)
                .with_context(describe)?;
        }
    }
    let left = api.list_metadata(&ListParams::default()).await.with_context(describe)?.items;
    let mut finalizers = BTreeMap::new();
    for finalizer in left.iter().flat_map(|object| object.metadata.finalizers.iter().flatten()) {
        *finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    let objects = (!left.is_empty()).then(|| (served.id(), left.len())).into_iter().collect();
    Ok(Remaining { objects, finalizers })
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
