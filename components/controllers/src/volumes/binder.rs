//! Binds claims and volumes to each other, asks external provisioners for volumes, and releases volumes whose claim is gone
//! (upstream: pkg/controller/volume/persistentvolume). A claim of a WaitForFirstConsumer class waits until the scheduler
//! names a node in `volume.kubernetes.io/selected-node`.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinSet;

use super::matching;
use crate::core::{Ctx, Key, WorkQueue, meta};

const NAME: &str = "persistentvolume-controller";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Volumes are queued under this namespace, which no claim can have.
const VOLUMES: &str = "/volumes";

struct Binder {
    ctx: Ctx,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    register(ctx, &queue);
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.claims.wait_synced().await;
        informers.volumes.wait_synced().await;
        informers.classes.wait_synced().await;
        informers.nodes.wait_synced().await;
    };
    let binder = Arc::new(Binder { ctx: ctx.clone() });
    // One worker: two claims must not choose the same volume.
    queue.work(tasks, NAME, 1, ready, move |key| {
        let binder = binder.clone();
        async move { binder.sync(&key).await }
    });
}

fn register(ctx: &Ctx, queue: &Arc<WorkQueue>) {
    let to = queue.clone();
    let volumes = ctx.informers.volumes.clone();
    ctx.informers.claims.on_change(move |old, new| {
        let Some(claim) = new.or(old) else { return };
        match new {
            Some(_) => to.add(Key::of(claim.as_ref())),
            None => volumes
                .list()
                .iter()
                .filter(|it| matching::is_reserved_for(it, claim))
                .for_each(|it| to.add(Key::new(VOLUMES, meta::name(&it.metadata)))),
        }
    });
    let (to, claims) = (queue.clone(), ctx.informers.claims.clone());
    ctx.informers.volumes.on_change(move |old, new| {
        let Some(volume) = new.or(old) else { return };
        to.add(Key::new(VOLUMES, meta::name(&volume.metadata)));
        let name = volume.metadata.name.as_deref();
        let concerned = |claim: &&Arc<PersistentVolumeClaim>| {
            let bound = claim.spec.as_ref().and_then(|it| it.volume_name.as_deref()).filter(|it| !it.is_empty());
            bound.is_none() || bound == name
        };
        claims.list().iter().filter(concerned).for_each(|it| to.add(Key::of(it.as_ref())));
    });
    // A class that appears may be what unbound claims wait for.
    let (to, claims) = (queue.clone(), ctx.informers.claims.clone());
    ctx.informers.classes.on_change(move |_, _| {
        claims
            .list()
            .iter()
            .filter(|it| it.spec.as_ref().is_some_and(|spec| spec.volume_name.is_none()))
            .for_each(|it| to.add(Key::of(it.as_ref())));
    });
    // Pods make a waiting claim be looked at again only through the scheduler's annotation, which is a claim change.
}

impl Binder {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        if key.ns == VOLUMES {
            return match self.ctx.informers.volumes.get("", &key.name) {
                Some(volume) => self.sync_volume(&volume).await,
                None => Ok(()),
            };
        }
        let Some(claim) = self.ctx.informers.claims.get_key(key) else { return Ok(()) };
        if claim.metadata.deletion_timestamp.is_some() && meta::annotation(&claim.metadata, BIND_COMPLETED).is_none() {
            return Ok(());
        }
        let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|it| !it.is_empty());
        match named {
            None => self.sync_unbound(&claim).await,
            Some(name) => self.sync_named(&claim, name).await,
        }
    }

    /// A claim that names its volume: bound already, or asked for by its author.
    async fn sync_named(&self, claim: &Arc<PersistentVolumeClaim>, name: &str) -> anyhow::Result<()> {
        let completed = meta::annotation(&claim.metadata, BIND_COMPLETED).is_some();
        let volume = match self.ctx.informers.volumes.get("", name) {
            Some(volume) => volume,
            // Lost is final, so only the API server's word counts.
            None => match self
                .ctx
                .cluster_api::<PersistentVolume>()
                .get_opt(name)
                .await
                .with_context(|| format!("cannot look up volume {name}"))?
            {
                Some(volume) => Arc::new(volume),
                None if completed => {
                    self.ctx.events.warning(
                        NAME,
                        claim.as_ref(),
                        "ClaimLost",
                        "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
                    );
                    return self.write_claim_phase(claim, "Lost", None).await;
                }
                None => return self.write_claim_phase(claim, "Pending", None).await,
            },
        };
        let reserved = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if matching::is_reserved_for(&volume, claim)
            || (reserved.is_none() && (completed || matching::satisfies(&volume, claim)))
        {
            return self.bind(claim, volume).await;
        }
        if completed {
            self.ctx.events.warning(
                NAME,
                claim.as_ref(),
                "ClaimMisbound",
                "Two claims are bound to the same volume, this one is bound incorrectly",
            );
            return self.write_claim_phase(claim, "Lost", None).await;
        }
        self.write_claim_phase(claim, "Pending", None).await
    }

    async fn sync_unbound(&self, claim: &Arc<PersistentVolumeClaim>) -> anyhow::Result<()> {
        let claim = match self.with_default_class(claim).await? {
            Some(changed) => Arc::new(changed),
            None => claim.clone(),
        };
        let class = matching::class_of_claim(&claim)
            .filter(|it| !it.is_empty())
            .and_then(|it| self.ctx.informers.classes.get("", it));
        let waits = class.as_ref().is_some_and(|it| it.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let node = meta::annotation(&claim.metadata, SELECTED_NODE).map(str::to_owned);
        let chosen = node.as_ref().and_then(|it| self.ctx.informers.nodes.get("", it));
        let volumes = self.ctx.informers.volumes.list();
        let reserved =
            volumes.iter().find(|it| matching::is_reserved_for(it, &claim) && matching::satisfies(it, &claim)).cloned();
        let found =
            if waits && node.is_none() { reserved } else { matching::find(&volumes, &claim, chosen.as_deref()) };
        if let Some(volume) = found {
            return self.bind(&claim, volume).await;
        }
        self.write_claim_phase(&claim, "Pending", None).await?;
        match class {
            _ if waits && node.is_none() => self.ctx.events.normal(
                NAME,
                claim.as_ref(),
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding",
            ),
            Some(class) if class.provisioner != NO_PROVISIONER => return self.ask(&claim, &class).await,
            None if matching::class_of_claim(&claim).is_some_and(|it| !it.is_empty()) => {
                let name = matching::class_of_claim(&claim).unwrap_or_default();
                self.ctx.events.warning(
                    NAME,
                    claim.as_ref(),
                    "ProvisioningFailed",
                    format!("storageclass.storage.k8s.io \"{name}\" not found"),
                );
            }
            _ => self.ctx.events.normal(
                NAME,
                claim.as_ref(),
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set",
            ),
        }
        Ok(())
    }

    /// A claim made before there was a default class gets it later (KEP-3333).
    async fn with_default_class(&self, claim: &PersistentVolumeClaim) -> anyhow::Result<Option<PersistentVolumeClaim>> {
        if matching::class_of_claim(claim).is_some() {
            return Ok(None);
        }
        let mut defaults: Vec<_> = self
            .ctx
            .informers
            .classes
            .list()
            .into_iter()
            .filter(|it| meta::annotation(&it.metadata, DEFAULT_CLASS) == Some("true"))
            .collect();
        defaults.sort_by(|a, b| {
            b.metadata
                .creation_timestamp
                .cmp(&a.metadata.creation_timestamp)
                .then_with(|| a.metadata.name.cmp(&b.metadata.name))
        });
        let Some(class) = defaults.first() else { return Ok(None) };
        self.patch_claim(claim, json!({"spec": {"storageClassName": class.metadata.name}})).await.map(Some)
    }

    /// Tells the external provisioner of the class that this claim is its.
    async fn ask(&self, claim: &PersistentVolumeClaim, class: &StorageClass) -> anyhow::Result<()> {
        let provisioner = class.provisioner.as_str();
        if meta::annotation(&claim.metadata, PROVISIONER) != Some(provisioner) {
            self.patch_claim(
                claim,
                json!({"metadata": {"annotations": {(PROVISIONER): provisioner, (BETA_PROVISIONER): provisioner}}}),
            )
            .await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.ctx.events.normal(NAME, claim, "ExternalProvisioning", message);
        Ok(())
    }

    /// The four writes of a binding, in the order that survives a stop in between: volume, its phase, claim, its phase.
    async fn bind(&self, claim: &Arc<PersistentVolumeClaim>, volume: Arc<PersistentVolume>) -> anyhow::Result<()> {
        let volume = match reserve(&volume, claim) {
            Some(changed) => {
                let name = meta::name(&volume.metadata);
                let written = self
                    .ctx
                    .cluster_api::<PersistentVolume>()
                    .replace(name, &PostParams::default(), &changed)
                    .await
                    .with_context(|| format!("cannot bind volume {name}"))?;
                self.ctx.informers.volumes.note(written.clone());
                Arc::new(written)
            }
            None => volume,
        };
        self.write_volume_phase(&volume, "Bound").await?;
        let name = meta::name(&volume.metadata);
        let spec = claim.spec.clone().unwrap_or_default();
        let claim = if spec.volume_name.as_deref() != Some(name)
            || meta::annotation(&claim.metadata, BIND_COMPLETED).is_none()
        {
            let mut annotations = serde_json::Map::from_iter([(BIND_COMPLETED.to_owned(), json!("yes"))]);
            if spec.volume_name.as_deref() != Some(name) {
                annotations.insert(BOUND_BY_CONTROLLER.into(), json!("yes"));
            }
            Arc::new(
                self.patch_claim(
                    claim,
                    json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": name}}),
                )
                .await?,
            )
        } else {
            claim.clone()
        };
        self.write_claim_phase(&claim, "Bound", Some(&volume)).await
    }

    async fn patch_claim(
        &self,
        claim: &PersistentVolumeClaim,
        mut patch: serde_json::Value,
    ) -> anyhow::Result<PersistentVolumeClaim> {
        if let Some(metadata) = patch
            .as_object_mut()
            .map(|it| it.entry("metadata").or_insert_with(|| json!({})))
            .and_then(|it| it.as_object_mut())
        {
            metadata.insert("uid".into(), json!(claim.metadata.uid));
            metadata.insert("resourceVersion".into(), json!(claim.metadata.resource_version));
        }
        let (ns, name) = (meta::namespace(&claim.metadata), meta::name(&claim.metadata));
        let written = self
            .ctx
            .api::<PersistentVolumeClaim>(ns)
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("cannot update claim {ns}/{name}"))?;
        self.ctx.informers.claims.note(written.clone());
        Ok(written)
    }

    /// Only what the phase implies is written; resize conditions and the like are others'.
    async fn write_claim_phase(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> anyhow::Result<()> {
        let old = claim.status.clone().unwrap_or_default();
        let mut status = serde_json::Map::new();
        if old.phase.as_deref() != Some(phase) {
            status.insert("phase".into(), json!(phase));
        }
        if let Some(spec) = volume.and_then(|it| it.spec.as_ref()) {
            if old.access_modes != spec.access_modes {
                status.insert("accessModes".into(), json!(spec.access_modes));
            }
            // Once bound, the capacity is the resizer's to change.
            if old.phase.as_deref() != Some("Bound") && old.capacity != spec.capacity {
                status.insert("capacity".into(), json!(spec.capacity));
            }
        }
        if status.is_empty() {
            return Ok(());
        }
        let (ns, name) = (meta::namespace(&claim.metadata), meta::name(&claim.metadata));
        let patch = json!({"metadata": {"uid": claim.metadata.uid}, "status": status});
        let result = self
            .ctx
            .api::<PersistentVolumeClaim>(ns)
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let written =
            meta::ignore_gone(result).with_context(|| format!("cannot write the status of claim {ns}/{name}"))?;
        if let Some(written) = written {
            self.ctx.informers.claims.note(written);
        }
        Ok(())
    }

    async fn write_volume_phase(&self, volume: &PersistentVolume, phase: &str) -> anyhow::Result<()> {
        if volume.status.as_ref().and_then(|it| it.phase.as_deref()) == Some(phase) {
            return Ok(());
        }
        let name = meta::name(&volume.metadata);
        // Of exactly this version: a reservation that came or went meanwhile makes it another phase.
        let exactly = json!({"uid": volume.metadata.uid, "resourceVersion": volume.metadata.resource_version});
        let patch = json!({"metadata": exactly, "status": {"phase": phase, "lastPhaseTransitionTime": meta::now_time(), "message": null, "reason": null}});
        let result = self
            .ctx
            .cluster_api::<PersistentVolume>()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        match result {
            Ok(written) => self.ctx.informers.volumes.note(written),
            Err(error) if meta::not_found(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write the status of volume {name}")),
        }
        Ok(())
    }

    async fn sync_volume(&self, volume: &Arc<PersistentVolume>) -> anyhow::Result<()> {
        let Some(reserved) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()) else {
            return self.write_volume_phase(volume, "Available").await;
        };
        if reserved.uid.as_deref().unwrap_or_default().is_empty() {
            return self.write_volume_phase(volume, "Available").await;
        }
        let (ns, name) =
            (reserved.namespace.as_deref().unwrap_or_default(), reserved.name.as_deref().unwrap_or_default());
        let same = |claim: &PersistentVolumeClaim| claim.metadata.uid == reserved.uid;
        let claim = match self.ctx.informers.claims.get(ns, name).filter(|it| same(it)) {
            Some(claim) => Some(claim),
            // Released means that data may be deleted: only the API server's word counts.
            None => self
                .ctx
                .api::<PersistentVolumeClaim>(ns)
                .get_opt(name)
                .await
                .with_context(|| format!("cannot look up claim {ns}/{name}"))?
                .filter(same)
                .map(Arc::new),
        };
        let Some(claim) = claim else { return self.release(volume).await };
        let bound_here =
            claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()) == volume.metadata.name.as_deref();
        let elsewhere =
            claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).is_some_and(|it| !it.is_empty())
                && !bound_here;
        match elsewhere {
            true if meta::annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some() => self.unreserve(volume).await,
            true => Ok(()),
            false if bound_here => self.write_volume_phase(volume, "Bound").await,
            // The binding was interrupted, or the provisioner reserved the volume: the claim completes it.
            false => self.sync_unbound(&claim).await,
        }
    }

    /// The claim went to another volume; ours is free again.
    async fn unreserve(&self, volume: &PersistentVolume) -> anyhow::Result<()> {
        let name = meta::name(&volume.metadata);
        let patch = json!({"metadata": {"resourceVersion": volume.metadata.resource_version, "annotations": {(BOUND_BY_CONTROLLER): null}}, "spec": {"claimRef": null}});
        let result = self
            .ctx
            .cluster_api::<PersistentVolume>()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let written = result.with_context(|| format!("cannot free volume {name}"))?;
        self.ctx.informers.volumes.note(written);
        Ok(())
    }

    /// The claim is gone. Delete is carried out by the external provisioner that made the volume.
    async fn release(&self, volume: &PersistentVolume) -> anyhow::Result<()> {
        let phase = volume.status.as_ref().and_then(|it| it.phase.as_deref());
        if phase == Some("Failed") {
            return Ok(());
        }
        self.write_volume_phase(volume, "Released").await?;
        if volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Recycle")
            && phase != Some("Released")
        {
            self.ctx.events.warning(
                NAME,
                volume,
                "VolumeFailedRecycle",
                "the reclaim policy Recycle is not supported; the volume stays Released",
            );
        }
        Ok(())
    }
}

/// The volume with its reservation complete; `None` if it is already.
fn reserve(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let current = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if current.is_some_and(|it| it.uid.is_some() && it.uid == claim.metadata.uid) {
        return None;
    }
    let mut changed = volume.clone();
    if current.is_none() {
        changed.metadata.annotations.get_or_insert_default().insert(BOUND_BY_CONTROLLER.into(), "yes".into());
    }
    changed.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
        kind: Some("PersistentVolumeClaim".into()),
        api_version: Some("v1".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    });
    Some(changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reservation_by_the_controller_is_marked_and_made_once() {
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}})).unwrap();
        let free: PersistentVolume = serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": {}})).unwrap();
        let reserved = reserve(&free, &claim).unwrap();
        assert_eq!(meta::annotation(&reserved.metadata, BOUND_BY_CONTROLLER), Some("yes"));
        assert!(reserve(&reserved, &claim).is_none());
        let by_name: PersistentVolume = serde_json::from_value(
            json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"name": "c", "namespace": "ns"}}}),
        )
        .unwrap();
        let reserved = reserve(&by_name, &claim).unwrap();
        assert_eq!(meta::annotation(&reserved.metadata, BOUND_BY_CONTROLLER), None);
        assert_eq!(reserved.spec.unwrap().claim_ref.unwrap().uid.as_deref(), Some("u"));
    }
}
