//! What clients are warned of in PersistentVolumes and claims (kubernetes `pkg/api/{persistentvolume,persistentvolumeclaim}`).

use serde_json::Value;

use crate::{
    field::Path,
    resources::pod,
    value::{get, list_at, str_at},
};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const OLD_CLASS: (&str, &str) = (BETA_CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead");
const OLD_OPTIONS: (&str, &str) =
    ("volume.beta.kubernetes.io/mount-options", "deprecated since v1.31; use \"mountOptions\" attribute instead");
/// Sources of volumes whose age upstream tells; it is silent about flocker and quobyte here.
const OLD_SOURCES: [&str; 6] = ["cephfs", "photonPersistentDisk", "rbd", "scaleIO", "storageos", "glusterfs"];

fn old_annotations(object: &Value, old: &[(&str, &str)]) -> Vec<String> {
    let at = Path::new("metadata").child("annotations");
    let given =
        old.iter().filter(|(key, _)| get(object, "metadata.annotations").is_some_and(|a| a.get(*key).is_some()));
    given.map(|(key, text)| format!("{}: {text}", at.key(key))).collect()
}

/// Half bytes in a claim (`GetWarningsForPersistentVolumeClaimSpec`).
pub(in crate::resources) fn claim_spec_warnings(spec: &Value, path: &Path) -> Vec<String> {
    let lists = ["requests", "limits"].iter();
    let found = lists.filter_map(|list| {
        let amounts = get(spec, "resources").and_then(|r| r.get(*list));
        pod::fraction_warning(amounts, "storage", &path.child("resources").child(list))
    });
    found.collect()
}

pub(in crate::resources) fn claim_warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut warnings = old_annotations(new, &[OLD_CLASS]);
    warnings.extend(claim_spec_warnings(new.get("spec").unwrap_or(&Value::Null), &Path::new("spec")));
    warnings
}

pub(in crate::resources) fn volume_warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let path = Path::new("spec");
    let spec = new.get("spec").unwrap_or(&Value::Null);
    let mut warnings = old_annotations(new, &[OLD_CLASS, OLD_OPTIONS]);
    let terms = path.child("nodeAffinity").child("required").child("nodeSelectorTerms");
    for (i, term) in list_at(spec, "nodeAffinity.required.nodeSelectorTerms").iter().enumerate() {
        warnings.extend(pod::old_labels(term, &terms.index(i)));
    }
    if str_at(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let text = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        warnings.push(format!("{}: {text}", path.child("persistentVolumeReclaimPolicy")));
    }
    warnings.extend(pod::old_sources(spec, &OLD_SOURCES, &path));
    warnings.extend(pod::fraction_warning(spec.get("capacity"), "storage", &path.child("capacity")));
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_old_is_told() {
        let annotations = json!({BETA_CLASS: "x", "volume.beta.kubernetes.io/mount-options": "y"});
        let claim = json!({
            "metadata": {"annotations": annotations},
            "spec": {"resources": {"requests": {"storage": "100m"}}},
        });
        let class = "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead";
        assert_eq!(
            claim_warnings(&claim, None),
            [class, "spec.resources.requests[storage]: fractional byte value \"100m\" is invalid, must be an integer"]
        );
        let term =
            json!({"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "In", "values": ["linux"]}]});
        let volume = json!({
            "metadata": {"annotations": annotations},
            "spec": {
                "persistentVolumeReclaimPolicy": "Recycle", "storageos": {}, "capacity": {"storage": "1"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            },
        });
        assert_eq!(
            volume_warnings(&volume, None),
            [
                class,
                "metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use \"mountOptions\" attribute instead",
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
                "spec.storageOS: deprecated in v1.22, non-functional in v1.25+",
            ]
        );
    }
}
