//! How lists and objects merge under a strategic merge patch: upstream's `patchStrategy` and `patchMergeKey` struct tags, as data.

/// How a patch of a field is merged. Fields not listed here: objects merge, lists are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// A list of objects, merged by this key.
    Key(&'static str),
    /// A list of plain values, merged as a set.
    Set,
    /// As `Key`, and an element's patch may say which keys stay.
    KeyRetain(&'static str),
    /// An object whose patch may say which keys stay.
    Retain,
}

use Merge::{Key, KeyRetain, Retain, Set};

/// (the last part of the definition's name, field, merge)
const TABLE: &[(&str, &str, Merge)] = &[
    ("ObjectMeta", "finalizers", Set),
    ("ObjectMeta", "ownerReferences", Key("uid")),
    ("NamespaceStatus", "conditions", Key("type")),
    ("NodeSpec", "podCIDRs", Set),
    ("NodeStatus", "addresses", Key("type")),
    ("NodeStatus", "conditions", Key("type")),
    ("PersistentVolumeClaimStatus", "conditions", Key("type")),
    ("ReplicationControllerStatus", "conditions", Key("type")),
    ("ServiceAccount", "secrets", Key("name")),
    ("ServiceSpec", "ports", Key("port")),
    ("ServiceStatus", "conditions", Key("type")),
    ("PodSpec", "containers", Key("name")),
    ("PodSpec", "ephemeralContainers", Key("name")),
    ("PodSpec", "hostAliases", Key("ip")),
    ("PodSpec", "imagePullSecrets", Key("name")),
    ("PodSpec", "initContainers", Key("name")),
    ("PodSpec", "resourceClaims", KeyRetain("name")),
    ("PodSpec", "schedulingGates", Key("name")),
    ("PodSpec", "topologySpreadConstraints", Key("topologyKey")),
    ("PodSpec", "volumes", KeyRetain("name")),
    ("Container", "env", Key("name")),
    ("Container", "ports", Key("containerPort")),
    ("Container", "volumeDevices", Key("devicePath")),
    ("Container", "volumeMounts", Key("mountPath")),
    ("EphemeralContainer", "env", Key("name")),
    ("EphemeralContainer", "ports", Key("containerPort")),
    ("EphemeralContainer", "volumeDevices", Key("devicePath")),
    ("EphemeralContainer", "volumeMounts", Key("mountPath")),
    ("ContainerStatus", "allocatedResourcesStatus", Key("name")),
    ("ContainerStatus", "volumeMounts", Key("mountPath")),
    ("PodStatus", "conditions", Key("type")),
    ("PodStatus", "hostIPs", Key("ip")),
    ("PodStatus", "podIPs", Key("ip")),
    ("PodStatus", "resourceClaimStatuses", KeyRetain("name")),
    ("DaemonSetStatus", "conditions", Key("type")),
    ("DeploymentSpec", "strategy", Retain),
    ("DeploymentStatus", "conditions", Key("type")),
    ("ReplicaSetStatus", "conditions", Key("type")),
    ("StatefulSetStatus", "conditions", Key("type")),
    ("JobStatus", "conditions", Key("type")),
    ("PodDisruptionBudgetStatus", "conditions", Key("type")),
    ("CSINodeSpec", "drivers", Key("name")),
    ("MutatingWebhook", "matchConditions", Key("name")),
    ("MutatingWebhookConfiguration", "webhooks", Key("name")),
    ("ValidatingWebhook", "matchConditions", Key("name")),
    ("ValidatingWebhookConfiguration", "webhooks", Key("name")),
];

/// How a field of a definition merges, if not in the plain way.
pub fn merge(definition: &str, field: &str) -> Option<Merge> {
    let kind = definition.rsplit('.').next()?;
    TABLE.iter().find(|(k, f, _)| *k == kind && *f == field).map(|(_, _, merge)| *merge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_entry_names_a_field() {
        for (kind, field, _) in TABLE {
            let known = schema::definitions()
                .iter()
                .any(|(name, d)| name.rsplit('.').next() == Some(kind) && d.fields.contains_key(*field));
            assert!(known, "{kind}.{field}");
        }
    }
}
