//! Which volume suits a claim: pure (upstream: pkg/volume/persistentvolume/util FindMatchingVolume).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::core::{affinity, meta, quantity};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The class a claim names; `None` when it names none at all, which leaves it to a default class.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    meta::annotation(&claim.metadata, CLASS_ANNOTATION).or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    meta::annotation(&volume.metadata, CLASS_ANNOTATION)
        .or_else(|| volume.spec.as_ref()?.storage_class_name.as_deref())
        .unwrap_or_default()
}

fn bytes(quantity: Option<&Quantity>) -> f64 {
    quantity.and_then(quantity::value).unwrap_or(0.0)
}

pub fn capacity(volume: &PersistentVolume) -> f64 {
    bytes(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()).and_then(|it| it.get("storage")))
}

pub fn requested(claim: &PersistentVolumeClaim) -> f64 {
    bytes(
        claim
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref())
            .and_then(|it| it.requests.as_ref())
            .and_then(|it| it.get("storage")),
    )
}

fn mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

/// Is this volume reserved for exactly this claim? A reservation without uid is by name.
pub fn is_reserved_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reserved) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let same_name = reserved.name == claim.metadata.name && reserved.namespace == claim.metadata.namespace;
    same_name
        && reserved.uid.as_ref().filter(|it| !it.is_empty()).is_none_or(|it| Some(it) == claim.metadata.uid.as_ref())
}

/// Everything but the reservation and the class: size, access modes, volume mode.
pub fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let offered = has.access_modes.as_deref().unwrap_or_default();
    wants.access_modes.iter().flatten().all(|it| offered.contains(it))
        && mode(has.volume_mode.as_ref()) == mode(wants.volume_mode.as_ref())
        && has.volume_attributes_class_name.as_deref().unwrap_or_default()
            == wants.volume_attributes_class_name.as_deref().unwrap_or_default()
        && capacity(volume) >= requested(claim)
}

/// The volume reserved for the claim, or else the smallest free one that suits it. `node` restricts to volumes it can reach.
pub fn find(
    volumes: &[Arc<PersistentVolume>],
    claim: &PersistentVolumeClaim,
    node: Option<&Node>,
) -> Option<Arc<PersistentVolume>> {
    let living: Vec<_> = volumes.iter().filter(|it| it.metadata.deletion_timestamp.is_none()).collect();
    if let Some(reserved) = living.iter().find(|it| is_reserved_for(it, claim) && satisfies(it, claim)) {
        return Some((*reserved).clone());
    }
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(meta::selector);
    let suits = |volume: &&&Arc<PersistentVolume>| {
        let spec = volume.spec.as_ref();
        spec.is_some_and(|it| it.claim_ref.is_none())
            && volume.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Available")
            && class_of_volume(volume) == class_of_claim(claim).unwrap_or_default()
            && selector.as_ref().is_none_or(|it| it.as_ref().is_some_and(|it| meta::selects(it, &volume.metadata)))
            && node.is_none_or(|node| {
                spec.and_then(|it| it.node_affinity.as_ref())
                    .and_then(|it| it.required.as_ref())
                    .is_none_or(|it| affinity::matches_selector(it, node))
            })
            && satisfies(volume, claim)
    };
    living
        .iter()
        .filter(suits)
        .min_by(|a, b| capacity(a).total_cmp(&capacity(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name)))
        .map(|it| (*it).clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn volume(name: &str, size: &str, extra: Value) -> Arc<PersistentVolume> {
        let mut spec =
            json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}))
                .unwrap(),
        )
    }

    fn claim(extra: Value) -> PersistentVolumeClaim {
        let mut spec = json!({"resources": {"requests": {"storage": "2Gi"}}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn found(volumes: &[Arc<PersistentVolume>], claim: &PersistentVolumeClaim) -> Option<String> {
        find(volumes, claim, None).and_then(|it| it.metadata.name.clone())
    }

    #[test]
    fn smallest_fit_of_the_class() {
        let all = [
            volume("big", "10Gi", json!({})),
            volume("fit", "3Gi", json!({})),
            volume("small", "1Gi", json!({})),
            volume("other", "2Gi", json!({"storageClassName": "slow"})),
        ];
        assert_eq!(found(&all, &claim(json!({}))).as_deref(), Some("fit"));
        assert_eq!(found(&all, &claim(json!({"accessModes": ["ReadWriteMany"]}))), None);
        assert_eq!(found(&all, &claim(json!({"volumeMode": "Block"}))), None);
        assert_eq!(found(&all, &claim(json!({"selector": {"matchLabels": {"a": "b"}}}))), None);
    }

    #[test]
    fn a_reservation_wins_and_is_respected() {
        let mine = volume("mine", "10Gi", json!({"claimRef": {"name": "c", "namespace": "ns"}}));
        let taken = volume("taken", "2Gi", json!({"claimRef": {"name": "c", "namespace": "ns", "uid": "older"}}));
        assert_eq!(
            found(&[volume("fit", "2Gi", json!({})), mine, taken.clone()], &claim(json!({}))).as_deref(),
            Some("mine")
        );
        assert_eq!(found(&[taken], &claim(json!({}))), None);
    }
}
