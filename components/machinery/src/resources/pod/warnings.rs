//! What clients are warned of in a pod's spec (kubernetes `pkg/api/pod/warnings.go`).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::Path,
    names, quantity,
    value::{get, int_at, list_at, map_at, str_at},
};

/// Labels that were renamed, with what takes their place.
const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
];
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("seccomp.security.alpha.kubernetes.io/pod", "non-functional in v1.27+; use the \"seccompProfile\" field instead"),
];
const OLD_VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const NO_POD: &str = "a null labelSelector results in matching no pod";

fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(label, _)| *label == key).map(|(_, text)| *text)
}

/// Of a pod itself.
pub(in crate::resources) fn pod(new: &Value, old: Option<&Value>) -> Vec<String> {
    let generation = |pod: &Value| int_at(pod, "metadata.generation");
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if old.is_none() {
        let problems = names::dns1123_label(str_at(new, "metadata.name"));
        if !problems.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                problems.join(" ")
            ));
        }
    }
    warnings.extend(template(new, old, &Path::default()));
    warnings
}

/// Of a pod or a template; `path` is where it lies.
pub(in crate::resources) fn template(new: &Value, old: Option<&Value>, path: &Path) -> Vec<String> {
    let empty = Value::Null;
    let spec = new.get("spec").unwrap_or(&empty);
    let at = path.child("spec");
    let mut warnings = placement(spec, &at);
    warnings.extend(annotations(new, &path.child("metadata").child("annotations")));
    warnings.extend(volumes(spec, &at));
    warnings.extend(duplicates(spec, &at));
    if int_at(spec, "terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        let at = at.child("terminationGracePeriodSeconds");
        warnings.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    let known = old.is_some_and(|old| old.get("spec") == Some(spec));
    for list in ["initContainers", "containers"] {
        for (i, one) in list_at(spec, list).iter().enumerate() {
            warnings.extend(container(one, &at.child(list).index(i), known));
        }
    }
    warnings
}

fn placement(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for key in map_at(spec, "nodeSelector").into_iter().flat_map(serde_json::Map::keys) {
        if let Some(text) = old_label(key) {
            warnings.push(format!("{}: {text}", path.child("nodeSelector").key(key)));
        }
    }
    let affinity = path.child("affinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let node = affinity.child("nodeAffinity");
    let node_spec = get(spec, "affinity.nodeAffinity").unwrap_or(&Value::Null);
    for (i, term) in list_at(node_spec, &format!("{required}.nodeSelectorTerms")).iter().enumerate() {
        warnings.extend(expressions(term, &node.child(required).child("nodeSelectorTerms").index(i)));
    }
    for (i, term) in list_at(node_spec, preferred).iter().enumerate() {
        let preference = term.get("preference").unwrap_or(&Value::Null);
        warnings.extend(expressions(preference, &node.child(preferred).index(i).child("preference")));
    }
    for (i, constraint) in list_at(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = path.child("topologySpreadConstraints").index(i);
        let key = str_at(constraint, "topologyKey");
        if let Some(text) = old_label(key) {
            warnings.push(format!("{}: {key} is {text}", at.child("topologyKey")));
        }
        if constraint.get("labelSelector").is_none() {
            warnings.push(format!("{}: {NO_POD}", at.child("labelSelector")));
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let rules = get(spec, &format!("affinity.{kind}")).unwrap_or(&Value::Null);
        for (i, term) in list_at(rules, required).iter().enumerate() {
            if term.get("labelSelector").is_none() {
                warnings.push(format!(
                    "{}: {NO_POD}",
                    affinity.child(kind).child(required).index(i).child("labelSelector")
                ));
            }
        }
        for (i, term) in list_at(rules, preferred).iter().enumerate() {
            if get(term, "podAffinityTerm.labelSelector").is_none() {
                let at = affinity.child(kind).child(preferred).index(i).child("podAffinityTerm").child("labelSelector");
                warnings.push(format!("{at}: {NO_POD}"));
            }
        }
    }
    warnings
}

fn expressions(term: &Value, path: &Path) -> Vec<String> {
    let all = list_at(term, "matchExpressions").iter().enumerate();
    all.filter_map(|(i, e)| {
        let key = str_at(e, "key");
        old_label(key).map(|text| format!("{}: {key} is {text}", path.child("matchExpressions").index(i).child("key")))
    })
    .collect()
}

fn annotations(object: &Value, path: &Path) -> Vec<String> {
    let all = get(object, "metadata.annotations").and_then(Value::as_object);
    let mut warnings = Vec::new();
    for key in all.into_iter().flat_map(serde_json::Map::keys) {
        if let Some((_, text)) = OLD_ANNOTATIONS.iter().find(|(name, _)| name == key) {
            warnings.push(format!("{}: {text}", path.key(key)));
        }
        if key.starts_with("container.seccomp.security.alpha.kubernetes.io/") {
            let text = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
            warnings.push(format!("{}: {text}", path.key(key)));
        }
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            let text = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            warnings.push(format!("{}: {text}", path.key(key)));
        }
    }
    warnings
}

fn volumes(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, volume) in list_at(spec, "volumes").iter().enumerate() {
        for (source, text) in OLD_VOLUMES.iter().filter(|(source, _)| volume.get(*source).is_some()) {
            warnings.push(format!("{}: {text}", path.child("volumes").index(i).child(source)));
        }
    }
    warnings
}

/// Entries that a later apply would drop.
fn duplicates(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, alias) in list_at(spec, "hostAliases").iter().enumerate() {
        let ip = str_at(alias, "ip");
        if !seen.insert(ip) {
            warnings.push(format!("{}: duplicate ip \"{ip}\"", path.child("hostAliases").index(i).child("ip")));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, secret) in list_at(spec, "imagePullSecrets").iter().enumerate() {
        let name = str_at(secret, "name");
        let at = path.child("imagePullSecrets").index(i);
        if name.is_empty() {
            warnings.push(format!("{}: invalid empty name \"\"", at.child("name")));
        } else if !seen.insert(name) {
            warnings.push(format!("{}: duplicate name \"{name}\"", at.child("name")));
        }
    }
    warnings
}

fn container(one: &Value, path: &Path, known: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, variable) in list_at(one, "env").iter().enumerate() {
        let name = str_at(variable, "name");
        if !seen.insert(name) && !known {
            let at = path.child("env").index(i);
            warnings
                .push(format!("{at}: hides previous definition of \"{name}\", which may be dropped when using apply"));
        }
    }
    for list in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage"] {
            let Some(value) = get(one, "resources").and_then(|r| r.get(list)?.get(name)) else { continue };
            if quantity::from_json(value).is_ok_and(|q| !q.is_integer()) {
                let at = path.child("resources").child(list).key(name);
                let text = value.as_str().unwrap_or_default();
                warnings.push(format!("{at}: fractional byte value \"{text}\" is invalid, must be an integer"));
            }
        }
    }
    warnings.extend(ports(one, path));
    warnings
}

fn ports(one: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let all = list_at(one, "ports");
    let same = |a: &Value, b: &Value| {
        ["containerPort", "protocol", "hostPort", "hostIP"].iter().all(|field| a.get(*field) == b.get(*field))
    };
    for (i, port) in all.iter().enumerate() {
        if let Some(first) = all[..i].iter().position(|earlier| same(earlier, port)) {
            let (at, earlier) = (path.child("ports").index(i), path.child("ports").index(first));
            warnings.push(format!("{at}: duplicate port definition with {earlier}"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_and_odd_specs_are_told() {
        let spec = json!({"metadata": {"name": "a.b", "generation": 1}, "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "topologySpreadConstraints": [{"topologyKey": "zone"}],
            "volumes": [{"name": "v", "gitRepo": {"repository": "x"}}],
            "containers": [{"name": "a", "env": [{"name": "X"}, {"name": "X"}], "resources": {"limits": {"memory": "1500m"}},
                            "ports": [{"containerPort": 1}, {"containerPort": 1}]}],
        }});
        let warnings = pod(&spec, None);
        for (got, wanted) in warnings.iter().zip([
            "metadata.name: this is used in the Pod's hostname",
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.containers[0].env[1]: hides previous definition of \"X\", which may be dropped when using apply",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ]) {
            assert!(got.starts_with(wanted), "{got}");
        }
        assert_eq!(warnings.len(), 7);
        assert!(pod(&spec, Some(&spec)).is_empty());
    }
}
