//! `kubernetes.io/pvc-protection` and `pv-protection`: added to every claim and volume, removed once one being deleted is no
//! longer in use (upstream: pkg/controller/volume/pvcprotection, pvprotection).

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use crate::core::informer::Object;
use crate::core::{Ctx, Key, WorkQueue, meta, pods};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    start_claims(ctx, tasks);
    start_volumes(ctx, tasks);
}

fn start_claims(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.claims.on_change(move |_, new| {
        new.filter(|it| needs_work(&it.metadata, CLAIM)).into_iter().for_each(|it| to.add(Key::of(it.as_ref())))
    });
    let to = queue.clone();
    ctx.informers.pods.on_change(move |old, new| {
        let ended = new.is_none_or(|pod| pods::is_terminal(pod));
        let Some(pod) = old.filter(|_| ended) else { return };
        claim_names(pod).into_iter().for_each(|name| to.add(Key::new(meta::namespace(&pod.metadata), name)));
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.claims.wait_synced().await;
        informers.pods.wait_synced().await;
    };
    let ctx = Arc::new(ctx.clone());
    queue.work(tasks, "pvc-protection-controller", 2, ready, move |key| {
        let ctx = ctx.clone();
        async move { sync_claim(&ctx, &key).await }
    });
}

fn start_volumes(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.volumes.on_change(move |_, new| {
        new.filter(|it| needs_work(&it.metadata, VOLUME)).into_iter().for_each(|it| to.add(Key::of(it.as_ref())))
    });
    let informers = ctx.informers.clone();
    let ready = async move { informers.volumes.wait_synced().await };
    let ctx = Arc::new(ctx.clone());
    queue.work(tasks, "pv-protection-controller", 2, ready, move |key| {
        let ctx = ctx.clone();
        async move { sync_volume(&ctx, &key).await }
    });
}

/// To be protected, or waiting for its protection to end.
fn needs_work(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.deletion_timestamp.is_some() == meta::has_finalizer(meta, finalizer)
}

/// The claims a pod uses, those of its ephemeral volumes among them.
fn claim_names(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let name = |volume: &k8s_openapi::api::core::v1::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral)
    {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", meta::name(&pod.metadata), volume.name)),
        _ => None,
    };
    volumes.filter_map(name).collect()
}

/// A pod that was never bound to a node cannot have mounted anything.
fn uses(pod: &Pod, claim: &str) -> bool {
    pods::node_name(pod).is_some() && !pods::is_terminal(pod) && claim_names(pod).iter().any(|it| it == claim)
}

async fn sync_claim(ctx: &Ctx, key: &Key) -> anyhow::Result<()> {
    let Some(claim) = ctx.informers.claims.get_key(key).filter(|it| needs_work(&it.metadata, CLAIM)) else {
        return Ok(());
    };
    let api = ctx.api::<PersistentVolumeClaim>(&key.ns);
    if claim.metadata.deletion_timestamp.is_none() {
        return set(&api, claim.as_ref(), CLAIM, true).await;
    }
    if ctx.informers.pods.in_namespace(&key.ns).iter().any(|pod| uses(pod, &key.name)) {
        return Ok(());
    }
    // The cache may lag behind a pod that was just bound.
    let live = ctx
        .api::<Pod>(&key.ns)
        .list(&ListParams::default())
        .await
        .with_context(|| format!("cannot list the pods that may use claim {key}"))?;
    if live.iter().any(|pod| uses(pod, &key.name)) { Ok(()) } else { set(&api, claim.as_ref(), CLAIM, false).await }
}

async fn sync_volume(ctx: &Ctx, key: &Key) -> anyhow::Result<()> {
    let Some(volume) = ctx.informers.volumes.get_key(key).filter(|it| needs_work(&it.metadata, VOLUME)) else {
        return Ok(());
    };
    let api = ctx.cluster_api::<PersistentVolume>();
    if volume.metadata.deletion_timestamp.is_none() {
        return set(&api, volume.as_ref(), VOLUME, true).await;
    }
    let bound = volume.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Bound");
    if bound { Ok(()) } else { set(&api, volume.as_ref(), VOLUME, false).await }
}

async fn set<K: Object>(api: &Api<K>, object: &K, finalizer: &str, present: bool) -> anyhow::Result<()> {
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.retain(|it| it != finalizer);
    if present {
        finalizers.push(finalizer.to_owned());
    }
    let patch = json!({"metadata": {"uid": object.meta().uid, "resourceVersion": object.meta().resource_version, "finalizers": finalizers}});
    let name = meta::name(object.meta());
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if !meta::not_found(&error) => {
            Err(error).with_context(|| format!("cannot change the protection of {} {name}", K::kind(&())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_bound_unfinished_pods_use_a_claim() {
        let pod = |node: Option<&str>, phase: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [], "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "ephemeral": {}}]}, "status": {"phase": phase}})).unwrap()
        };
        assert!(uses(&pod(Some("n"), "Running"), "c"));
        assert!(uses(&pod(Some("n"), "Running"), "p-e"));
        assert!(!uses(&pod(None, "Pending"), "c"));
        assert!(!uses(&pod(Some("n"), "Succeeded"), "c"));
    }
}
