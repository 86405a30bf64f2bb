//! Volumes that lie on one node's disk: they go with it.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt as _;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The claims whose volumes are on this node alone, each with its volume: `namespace/claim (volume)`. `hostname` is the node's
/// label.
pub fn lost_with(volumes: &[PersistentVolume], hostname: &str) -> Vec<String> {
    volumes
        .iter()
        .filter(|volume| lies_on(volume, hostname))
        .filter_map(|volume| {
            let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            Some(format!("{}/{} ({})", text(&claim.namespace), text(&claim.name), volume.name_any()))
        })
        .collect()
}

/// Every term of its affinity names this host and no other.
fn lies_on(volume: &PersistentVolume, hostname: &str) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    let Some(terms) = affinity.map(|required| &required.node_selector_terms) else { return false };
    let only_here = |term: &k8s_openapi::api::core::v1::NodeSelectorTerm| {
        term.match_expressions.iter().flatten().any(|wanted| {
            wanted.key == HOSTNAME
                && wanted.operator == "In"
                && wanted.values.as_ref().is_some_and(|values| values.iter().all(|value| value == hostname))
        })
    };
    !terms.is_empty() && terms.iter().all(only_here)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, claim: Value, terms: Value) -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "claimRef": claim, "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        }}))
        .unwrap()
    }

    #[test]
    fn only_claimed_volumes_of_this_node_alone() {
        let at = |hosts: &[&str]| json!({"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": hosts}]});
        let claim = || json!({"namespace": "n", "name": "c"});
        let volumes = [
            volume("here", claim(), json!([at(&["h2"])])),
            volume("elsewhere", claim(), json!([at(&["h3"])])),
            volume("both", claim(), json!([at(&["h2", "h3"])])),
            volume("either", claim(), json!([at(&["h2"]), at(&["h3"])])),
            volume("unclaimed", Value::Null, json!([at(&["h2"])])),
            volume("anywhere", claim(), json!([])),
        ];
        assert_eq!(lost_with(&volumes, "h2"), ["n/c (here)"]);
    }
}
