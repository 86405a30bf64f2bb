//! Fields of v1.37 whose feature gates are off: what clients send in them is dropped without a word, as upstream's strategies do
//! (`dropDisabledFields`).

/// Definition, then its fields. Only fields whose gate is known to be off without configuration stand here.
const OFF: &[(&str, &[&str])] = &[
    // DRAListTypeAttributes
    ("io.k8s.api.resource.v1.DeviceAttribute", &["bools", "ints", "strings", "versions"]),
    // DRADerivedAttributes
    ("io.k8s.api.resource.v1.DeviceSubRequest", &["derivedAttributes"]),
    ("io.k8s.api.resource.v1.ExactDeviceRequest", &["derivedAttributes"]),
    // DRAOptionalNodeOperations
    ("io.k8s.api.resource.v1.DeviceRequestAllocationResult", &["skipNodeOperations"]),
    ("io.k8s.api.resource.v1.ResourceSliceSpec", &["skipNodeOperations"]),
    // DRANodeAllocatableResources
    ("io.k8s.api.resource.v1.Device", &["nodeAllocatableResources"]),
    // DRADeviceCompatibilityGroups
    ("io.k8s.api.resource.v1.DeviceCounterConsumption", &["compatibilityGroups"]),
    // InPlacePodVerticalScalingSchedulerPreemption
    ("io.k8s.api.core.v1.NodeSpec", &["podPreemptionPolicy"]),
    // GenericWorkload, DRANodeAllocatableResources
    ("io.k8s.api.core.v1.PodSpec", &["schedulingGroup"]),
    ("io.k8s.api.core.v1.PodStatus", &["nodeAllocatableResourceClaimStatuses"]),
    ("io.k8s.api.batch.v1.JobSpec", &["scheduling"]),
];

/// The fields of a definition that are dropped.
pub(super) fn off(definition: &str) -> &'static [&'static str] {
    OFF.iter().find(|(name, _)| *name == definition).map_or(&[], |(_, fields)| *fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::{self, Unknown};
    use serde_json::json;

    #[test]
    fn every_field_exists() {
        for (definition, fields) in OFF {
            for field in *fields {
                assert!(schema::field(definition, field).is_some(), "{definition} {field}");
            }
        }
    }

    #[test]
    fn they_are_dropped_without_a_word() {
        let mut node = json!({"spec": {"podPreemptionPolicy": {"disableResizePreemption": []}, "providerID": "x"}});
        let unknown = schema::check("io.k8s.api.core.v1.Node", &mut node, Unknown::Prune).unwrap();
        assert_eq!((unknown, node), (Vec::new(), json!({"spec": {"providerID": "x"}})));
        let mut claim = json!({"spec": {"devices": {"requests": [{"exactly": {"derivedAttributes": [{"name": "a"}], "count": 1}}]}}});
        schema::check("io.k8s.api.resource.v1.ResourceClaim", &mut claim, Unknown::Prune).unwrap();
        assert_eq!(claim, json!({"spec": {"devices": {"requests": [{"exactly": {"count": 1}}]}}}));
    }
}
