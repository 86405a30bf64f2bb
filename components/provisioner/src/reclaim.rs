//! Removes the data of volumes that are no longer wanted.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::volume::{Duty, FINALIZER, duty};
use crate::{Context, Failure};

pub(crate) async fn reconcile(volume: Arc<PersistentVolume>, context: Arc<Context>) -> Result<Action, Failure> {
    match duty(&volume, &context.name, &context.node) {
        Duty::Nothing => {}
        Duty::Release => let_go(&volume, &context).await?,
        Duty::Remove => {
            remove_data(&volume, &context).await?;
            delete(&volume, &context).await?;
            let_go(&volume, &context).await?;
        }
    }
    Ok(Action::await_change())
}

async fn remove_data(volume: &PersistentVolume, context: &Context) -> anyhow::Result<()> {
    let source = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref());
    let path = PathBuf::from(&source.with_context(|| format!("volume {} has no hostPath", volume.name_any()))?.path);
    let base = context.base.clone();
    let told = path.display().to_string();
    tokio::task::spawn_blocking(move || base.remove(&path)).await??;
    tracing::info!(volume = volume.name_any(), path = told, "removed the data");
    Ok(())
}

async fn delete(volume: &PersistentVolume, context: &Context) -> anyhow::Result<()> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = volume.name_any();
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let exactly = Preconditions { uid: volume.uid(), resource_version: None };
    let deleted =
        volumes.delete(&name, &DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() }).await;
    ignore_missing(deleted.map(|_| ())).with_context(|| format!("cannot delete volume {name}"))
}

/// Removes our finalizer, and only ours.
async fn let_go(volume: &PersistentVolume, context: &Context) -> anyhow::Result<()> {
    let name = volume.name_any();
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let Some(current) = volumes.get_opt(&name).await.with_context(|| format!("cannot read volume {name}"))? else {
        return Ok(());
    };
    if current.uid() != volume.uid() || !current.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let kept: Vec<&String> = current.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    // The version makes a concurrent change of the list a conflict, which is tried again.
    let patch = json!({"metadata": {"resourceVersion": current.resource_version(), "finalizers": kept}});
    let patched = volumes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    ignore_missing(patched.map(|_| ())).with_context(|| format!("cannot remove the finalizer of volume {name}"))
}

fn ignore_missing(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
