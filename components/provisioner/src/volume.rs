//! The PersistentVolume for a claim, and which volumes this node has to clean up.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, PersistentVolume,
    PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Keeps the volume until its data is removed.
pub const FINALIZER: &str = "kinstall.dev/local-volume";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The node whose instance made the volume and will remove it.
const NODE: &str = "kinstall.dev/node";

/// The name every provisioner gives by convention.
pub fn name_for(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

/// Where a volume is and who made it.
pub struct Origin<'a> {
    pub provisioner: &'a str,
    pub node: &'a str,
    pub hostname: &'a str,
    pub path: &'a Path,
}

pub fn for_claim(claim: &PersistentVolumeClaim, class: &StorageClass, origin: &Origin<'_>) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    let requested = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let annotations = [(PROVISIONED_BY, origin.provisioner), (NODE, origin.node)];
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name_for(claim)),
            annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            finalizers: Some(vec![FINALIZER.into()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: Some(requested.into_iter().filter(|(name, _)| name == "storage").collect::<BTreeMap<_, _>>()),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                namespace: claim.namespace(),
                name: Some(claim.name_any()),
                uid: claim.uid(),
                resource_version: claim.resource_version(),
                field_path: None,
            }),
            host_path: Some(HostPathVolumeSource {
                path: origin.path.to_string_lossy().into_owned(),
                type_: Some("Directory".into()),
            }),
            mount_options: class.mount_options.clone(),
            node_affinity: Some(on_host(origin.hostname)),
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".into())),
            storage_class_name: Some(class.name_any()),
            volume_mode: Some("Filesystem".into()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

fn on_host(hostname: &str) -> VolumeNodeAffinity {
    let here =
        NodeSelectorRequirement { key: HOSTNAME.into(), operator: "In".into(), values: Some(vec![hostname.into()]) };
    let term = NodeSelectorTerm { match_expressions: Some(vec![here]), match_fields: None };
    VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }
}

/// What this node has to do about a volume.
#[derive(Debug, PartialEq, Eq)]
pub enum Duty {
    Nothing,
    /// Remove the data, then the volume.
    Remove,
    /// Let the volume go but keep the data (reclaim policy Retain).
    Release,
}

pub fn duty(volume: &PersistentVolume, provisioner: &str, node: &str) -> Duty {
    let annotated = |key: &str, value: &str| volume.annotations().get(key).is_some_and(|found| found == value);
    if !annotated(PROVISIONED_BY, provisioner) || !annotated(NODE, node) {
        return Duty::Nothing;
    }
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let deleted = volume.metadata.deletion_timestamp.is_some();
    match (policy, phase, deleted) {
        // While it is bound, upstream's own finalizer (pv-protection) holds a deleted volume.
        (_, Some("Bound"), _) => Duty::Nothing,
        (Some("Delete"), Some("Released" | "Failed"), _) | (Some("Delete"), _, true) => Duty::Remove,
        (_, _, true) if volume.finalizers().iter().any(|finalizer| finalizer == FINALIZER) => Duty::Release,
        _ => Duty::Nothing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::{from_value, json};

    fn made() -> PersistentVolume {
        let claim = from_value(json!({"metadata": {"name": "data", "namespace": "blog", "uid": "u1", "resourceVersion": "7"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "l", "resources": {"requests": {"storage": "1Gi"}}}}))
        .unwrap();
        let class =
            from_value(json!({"metadata": {"name": "l"}, "provisioner": "p", "reclaimPolicy": "Delete"})).unwrap();
        let path = Path::new("/base/blog_data_u1");
        for_claim(&claim, &class, &Origin { provisioner: "p", node: "n", hostname: "h", path })
    }

    #[test]
    fn the_volume_is_tied_to_claim_and_node() {
        let volume = serde_json::to_value(made()).unwrap();
        assert_eq!(volume["metadata"]["name"], "pvc-u1");
        assert_eq!(volume["spec"]["claimRef"]["uid"], "u1");
        assert_eq!(volume["spec"]["hostPath"], json!({"path": "/base/blog_data_u1", "type": "Directory"}));
        assert_eq!(volume["spec"]["capacity"]["storage"], "1Gi");
        let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchExpressions"][0], json!({"key": HOSTNAME, "operator": "In", "values": ["h"]}));
    }

    #[test]
    fn duties() {
        let with = |phase: &str, policy: &str, deleted: bool| {
            let mut volume = made();
            volume.spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some(policy.into());
            volume.status = from_value(json!({"phase": phase})).unwrap();
            volume.metadata.deletion_timestamp = deleted.then(|| from_value(json!("2026-01-01T00:00:00Z")).unwrap());
            volume
        };
        let duty = |volume| super::duty(&volume, "p", "n");
        assert_eq!(duty(with("Released", "Delete", false)), Duty::Remove);
        assert_eq!(duty(with("Released", "Retain", false)), Duty::Nothing);
        assert_eq!(duty(with("Released", "Retain", true)), Duty::Release);
        assert_eq!(duty(with("Bound", "Delete", true)), Duty::Nothing);
        assert_eq!(duty(with("Pending", "Delete", true)), Duty::Remove);
        assert_eq!(duty(with("Pending", "Delete", false)), Duty::Nothing);
        assert_eq!(super::duty(&with("Released", "Delete", false), "p", "other"), Duty::Nothing);
        assert_eq!(super::duty(&with("Released", "Delete", false), "other", "n"), Duty::Nothing);
    }
}
