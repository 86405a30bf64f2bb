//! Gives a claim its volume.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};

use crate::volume::{self, Origin};
use crate::{Context, Failure, claim};

pub(crate) async fn reconcile(object: Arc<PersistentVolumeClaim>, context: Arc<Context>) -> Result<Action, Failure> {
    if !claim::waits_for(&object, &context.node) {
        return Ok(Action::await_change());
    }
    let Some(class) = class_of(&object, &context).await? else { return Ok(Action::await_change()) };
    if class.provisioner != context.name {
        return Ok(Action::await_change());
    }
    if let Some(objection) = claim::objection(&object, &class) {
        tell(&object, &context, EventType::Warning, "ProvisioningFailed", objection).await;
        return Ok(Action::await_change());
    }
    match provision(&object, &class, &context).await {
        Ok(name) => {
            let note = format!("Successfully provisioned volume {name}");
            tell(&object, &context, EventType::Normal, "ProvisioningSucceeded", note).await;
            Ok(Action::await_change())
        }
        Err(error) => {
            let note = format!("failed to provision volume with StorageClass \"{}\": {error:#}", class.name_any());
            tell(&object, &context, EventType::Warning, "ProvisioningFailed", note).await;
            Err(error.into())
        }
    }
}

async fn class_of(claim: &PersistentVolumeClaim, context: &Context) -> anyhow::Result<Option<StorageClass>> {
    let Some(name) = claim::class_name(claim) else { return Ok(None) };
    let classes: Api<StorageClass> = Api::all(context.client.clone());
    classes.get_opt(name).await.with_context(|| format!("cannot read storage class {name}"))
}

/// Directory first, volume second: a volume that can be seen can be mounted.
async fn provision(claim: &PersistentVolumeClaim, class: &StorageClass, context: &Context) -> anyhow::Result<String> {
    let namespace = claim.namespace().unwrap_or_default();
    let path = context.base.path_for(&namespace, &claim.name_any(), &claim.uid().unwrap_or_default())?;
    let (base, made) = (context.base.clone(), path.clone());
    tokio::task::spawn_blocking(move || base.create(&made)).await??;
    let origin = Origin { provisioner: &context.name, node: &context.node, hostname: &context.hostname, path: &path };
    let volume = volume::for_claim(claim, class, &origin);
    let name = volume.name_any();
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    match volumes.create(&PostParams::default(), &volume).await {
        Ok(_) => tracing::info!(volume = name, claim = claim.name_any(), namespace, "provisioned"),
        // An earlier attempt succeeded but the claim is not bound yet.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).with_context(|| format!("cannot create volume {name}")),
    }
    Ok(name)
}

async fn tell(claim: &PersistentVolumeClaim, context: &Context, type_: EventType, reason: &str, note: String) {
    let event =
        Event { type_, reason: reason.into(), note: Some(note), action: "Provisioning".into(), secondary: None };
    if let Err(error) = context.events.publish(&event, &claim.object_ref(&())).await {
        tracing::debug!(claim = claim.name_any(), %error, "cannot record an event");
    }
}
