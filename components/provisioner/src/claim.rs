//! Which claims are this instance's, and which it cannot serve: pure decisions.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// A claim waits for a volume on this node; its class decides whether this provisioner makes it.
pub fn waits_for(claim: &PersistentVolumeClaim, node: &str) -> bool {
    let unbound = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.as_deref().unwrap_or_default().is_empty());
    unbound
        && claim.metadata.deletion_timestamp.is_none()
        && claim.annotations().get(SELECTED_NODE).is_some_and(|selected| selected == node)
}

/// The class, by field or by the annotation of old.
pub fn class_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated = claim.annotations().get("volume.beta.kubernetes.io/storage-class").map(String::as_str);
    annotated.or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref()).filter(|name| !name.is_empty())
}

/// Why no local volume can satisfy the claim.
pub fn objection(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("local volumes are directories: volumeMode Block is not supported".into());
    }
    if spec.selector.is_some() {
        return Some("a selector cannot be satisfied by a new volume: remove spec.selector".into());
    }
    let shared =
        spec.access_modes.iter().flatten().find(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"));
    if let Some(mode) = shared {
        return Some(format!("local volumes are reachable on one node only: use ReadWriteOnce instead of {mode}"));
    }
    if class.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
        return Some(format!("storage class {} has parameters, but local volumes take none", class.name_any()));
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::{Value, from_value, json};

    fn claim(spec: Value, node: &str) -> PersistentVolumeClaim {
        from_value(json!({"metadata": {"name": "c", "annotations": {SELECTED_NODE: node}}, "spec": spec})).unwrap()
    }

    #[test]
    fn only_unbound_claims_of_this_node() {
        assert!(waits_for(&claim(json!({}), "n"), "n"));
        assert!(!waits_for(&claim(json!({}), "m"), "n"));
        assert!(!waits_for(&claim(json!({"volumeName": "pv"}), "n"), "n"));
    }

    #[test]
    fn what_cannot_be_local_is_refused() {
        let class: StorageClass = from_value(json!({"metadata": {"name": "l"}, "provisioner": "p"})).unwrap();
        let told = |spec: Value| objection(&claim(spec, "n"), &class);
        assert_eq!(told(json!({"accessModes": ["ReadWriteOnce", "ReadWriteOncePod"]})), None);
        assert!(told(json!({"accessModes": ["ReadWriteMany"]})).unwrap().contains("ReadWriteMany"));
        assert!(told(json!({"volumeMode": "Block"})).unwrap().contains("Block"));
        assert!(told(json!({"selector": {}})).unwrap().contains("selector"));
    }
}
