//! PersistentVolumeClaims: from the claim's name to a directory on this host.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod};
use kube::{Api, ResourceExt};

/// What a bound volume is here.
pub enum Backing {
    HostPath { path: String, type_: String },
    Local { path: String },
    Nfs { server: String, path: String, options: Vec<String> },
}

pub async fn resolve(client: &kube::Client, pod: &Pod, claim: &str) -> Result<Backing> {
    let namespace = pod.namespace().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let found = claims.get(claim).await.with_context(|| format!("cannot read claim {namespace}/{claim}"))?;
    if found.metadata.deletion_timestamp.is_some()
        && found.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound")
    {
        bail!("claim {namespace}/{claim} is being deleted");
    }
    let volume = found.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|v| !v.is_empty());
    let bound = found.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let Some(volume) = volume.filter(|_| bound) else { bail!("claim {namespace}/{claim} is not bound yet") };
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let found_volume = volumes.get(&volume).await.with_context(|| format!("cannot read volume {volume}"))?;
    let spec = found_volume.spec.with_context(|| format!("volume {volume} has no spec"))?;
    let owner = spec.claim_ref.as_ref().and_then(|r| r.uid.clone());
    if owner.is_some() && owner != found.uid() {
        bail!("volume {volume} belongs to another claim than {namespace}/{claim}");
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        bail!("volume {volume} is a block volume, which this kubelet does not support");
    }
    backing(&volume, spec)
}

fn backing(name: &str, spec: PersistentVolumeSpec) -> Result<Backing> {
    if let Some(source) = spec.host_path {
        return Ok(Backing::HostPath { path: source.path, type_: source.type_.unwrap_or_default() });
    }
    if let Some(source) = spec.local {
        return Ok(Backing::Local { path: source.path });
    }
    if let Some(source) = spec.nfs {
        let mut options = spec.mount_options.unwrap_or_default();
        if source.read_only == Some(true) {
            options.push("ro".into());
        }
        return Ok(Backing::Nfs { server: source.server, path: source.path, options });
    }
    bail!("volume {name} is neither hostPath, local nor nfs: this kubelet does not support its kind")
}
