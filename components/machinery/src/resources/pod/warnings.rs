//! What clients are warned of in a pod's spec (kubernetes `pkg/api/pod/warnings.go`), in upstream's order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{each_container, ip};
use crate::{
    field::{Path, quoted},
    names, quantity,
    resources::storage,
    value::{get, int_at, list_at, map_at, str_at},
};

/// Labels of nodes that were renamed or went, with what takes their place.
const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Sources of volumes that are gone, with the name upstream shows.
const OLD_VOLUMES: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const NO_POD: &str = "a null labelSelector results in matching no pod";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(label, _)| *label == key).map(|(_, text)| *text)
}

/// Of a pod itself, when it is made; an update is seldom a person's.
pub(in crate::resources) fn pod(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let problems = names::dns1123_label(str_at(new, "metadata.name"));
    if !problems.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
            problems.join(" ")
        ));
    }
    warnings.extend(template(new, &Path::default()));
    warnings
}

/// Of a pod or a template; `path` is where it lies.
pub(in crate::resources) fn template(new: &Value, path: &Path) -> Vec<String> {
    let empty = Value::Null;
    let spec = new.get("spec").unwrap_or(&empty);
    let at = path.child("spec");
    let mut warnings = placement(spec, &at);
    let annotations = path.child("metadata").child("annotations");
    for (key, text) in OLD_ANNOTATIONS.iter().filter(|(key, _)| annotated(new, key)) {
        warnings.push(format!("{}: {text}", annotations.key(key)));
    }
    warnings.extend(volumes(spec, &at.child("volumes")));
    warnings.extend(duplicates(spec, &at));
    warnings.extend(fractions(spec.get("overhead"), &at.child("overhead")));
    if get(spec, "securityContext.seccompProfile").is_none() && annotated(new, SECCOMP_POD) {
        warnings.push(format!("{}: {SECCOMP}", annotations.key(SECCOMP_POD)));
    }
    for (container, at) in each_container(spec, &at) {
        warnings.extend(profiles(new, spec, container, &annotations));
        for name in ["memory", "ephemeral-storage"] {
            for list in ["limits", "requests"] {
                let amounts = get(container, "resources").and_then(|r| r.get(list));
                warnings.extend(fraction(amounts, name, &at.child("resources").child(list)));
            }
        }
        warnings.extend(variables(container, &at.child("env")));
    }
    warnings.extend(ports(spec, &at));
    if int_at(spec, "terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        let at = at.child("terminationGracePeriodSeconds");
        warnings.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    warnings.extend(unselected(spec, &at.child("affinity")));
    warnings
}

fn annotated(object: &Value, key: &str) -> bool {
    map_at(object, "metadata.annotations").is_some_and(|all| all.contains_key(key))
}

fn placement(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for key in map_at(spec, "nodeSelector").into_iter().flat_map(serde_json::Map::keys) {
        if let Some(text) = old_label(key) {
            warnings.push(format!("{}: {text}", path.child("nodeSelector").key(key)));
        }
    }
    let node = path.child("affinity").child("nodeAffinity");
    let node_spec = get(spec, "affinity.nodeAffinity").unwrap_or(&Value::Null);
    for (i, term) in list_at(node_spec, &format!("{REQUIRED}.nodeSelectorTerms")).iter().enumerate() {
        warnings.extend(expressions(term, false, &node.child(REQUIRED).child("nodeSelectorTerms").index(i)));
    }
    for (i, term) in list_at(node_spec, PREFERRED).iter().enumerate() {
        let preference = term.get("preference").unwrap_or(&Value::Null);
        warnings.extend(expressions(preference, true, &node.child(PREFERRED).index(i).child("preference")));
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
    warnings
}

/// Labels of nodes that a term of a node selector knows by an old name.
pub(in crate::resources) fn old_labels(term: &Value, path: &Path) -> Vec<String> {
    expressions(term, false, path)
}

/// Those of some sources that a volume has and that are old.
pub(in crate::resources) fn old_sources(volume: &Value, of: &[&str], path: &Path) -> Vec<String> {
    let given = OLD_VOLUMES.iter().filter(|(source, ..)| of.contains(source) && volume.get(*source).is_some());
    given.map(|(_, shown, text)| format!("{}: {text}", path.child(shown))).collect()
}

/// `values`: where values that no label can have are let through, they are told.
fn expressions(term: &Value, values: bool, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, expression) in list_at(term, "matchExpressions").iter().enumerate() {
        let at = path.child("matchExpressions").index(i);
        let key = str_at(expression, "key");
        if let Some(text) = old_label(key) {
            warnings.push(format!("{}: {key} is {text}", at.child("key")));
        }
        for (j, value) in list_at(expression, "values").iter().filter_map(Value::as_str).enumerate().filter(|_| values)
        {
            let at = at.child("values").index(j);
            warnings.extend(names::label_value(value).into_iter().map(|p| format!("{at}: {value} is invalid, {p}")));
        }
    }
    warnings
}

fn volumes(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let all = || list_at(spec, "volumes").iter().enumerate();
    for (i, volume) in all() {
        let at = path.index(i);
        for (_, shown, text) in OLD_VOLUMES.iter().filter(|(source, ..)| volume.get(*source).is_some()) {
            warnings.push(format!("{}: {text}", at.child(shown)));
        }
        if let Some(claim) = get(volume, "ephemeral.volumeClaimTemplate.spec") {
            let at = at.child("ephemeral").child("volumeClaimTemplate").child("spec");
            warnings.extend(storage::claim_spec_warnings(claim, &at));
        }
    }
    let sources = |volume| list_at(volume, "projected.sources");
    let tokens: BTreeSet<&str> = all()
        .flat_map(|(_, v)| sources(v))
        .filter_map(|s| get(s, "serviceAccountToken.path").and_then(Value::as_str))
        .collect();
    for (i, volume) in all().filter(|_| !tokens.is_empty()) {
        let at = path.index(i).child("projected").child("sources");
        let shadow = |at: &Path, file| format!("{at}: has duplicated path with ServiceAccountToken {}", quoted(file));
        for source in sources(volume) {
            for (kind, shown) in [("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")] {
                let items = source.get(kind).map(|s| list_at(s, "items")).unwrap_or_default();
                let files = items.iter().map(|item| str_at(item, "path")).enumerate();
                let hidden = files.filter(|(_, file)| tokens.contains(file));
                warnings.extend(hidden.map(|(j, file)| shadow(&at.child(shown).index(j), file)));
            }
            let bundle = get(source, "clusterTrustBundle.path").and_then(Value::as_str);
            let hidden = bundle.filter(|file| tokens.contains(file));
            warnings.extend(hidden.map(|file| shadow(&at.child("ClusterTrustBundle"), file)));
        }
    }
    warnings
}

/// Entries that a later apply would drop, and addresses written in an unusual way.
fn duplicates(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, alias) in list_at(spec, "hostAliases").iter().enumerate() {
        let address = str_at(alias, "ip");
        let at = path.child("hostAliases").index(i).child("ip");
        if !seen.insert(address) {
            warnings.push(format!("{at}: duplicate ip {}", quoted(address)));
        }
        warnings.extend(ip::odd(address, &at));
    }
    let mut seen = BTreeSet::new();
    let secrets = || list_at(spec, "imagePullSecrets").iter().map(|s| str_at(s, "name")).enumerate();
    let at = |i| path.child("imagePullSecrets").index(i).child("name");
    let repeated = secrets().filter(|(_, name)| !seen.insert(*name));
    warnings.extend(repeated.map(|(i, name)| format!("{}: duplicate name {}", at(i), quoted(name))));
    let empty = secrets().filter(|(_, name)| name.is_empty());
    warnings.extend(empty.map(|(i, _)| format!("{}: invalid empty name \"\"", at(i))));
    for (i, server) in list_at(spec, "dnsConfig.nameservers").iter().filter_map(Value::as_str).enumerate() {
        warnings.extend(ip::odd(server, &path.child("dnsConfig").child("nameservers").index(i)));
    }
    warnings
}

fn fractions(amounts: Option<&Value>, path: &Path) -> Vec<String> {
    ["memory", "ephemeral-storage"].iter().filter_map(|name| fraction(amounts, name, path)).collect()
}

/// Half a byte.
pub(in crate::resources) fn fraction(amounts: Option<&Value>, name: &str, path: &Path) -> Option<String> {
    let quantity = quantity::from_json(amounts?.get(name)?).ok().filter(|q| !q.is_integer())?;
    Some(format!("{}: fractional byte value \"{quantity}\" is invalid, must be an integer", path.key(name)))
}

/// Annotations where the field that took their place is not used.
fn profiles(object: &Value, spec: &Value, container: &Value, annotations: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let name = str_at(container, "name");
    let key = format!("{SECCOMP_CONTAINER}{name}");
    if get(container, "securityContext.seccompProfile").is_none() && annotated(object, &key) {
        warnings.push(format!("{}: {SECCOMP}", annotations.key(&key)));
    }
    let key = format!("{APPARMOR_CONTAINER}{name}");
    let field = [container, spec].iter().any(|owner| get(owner, "securityContext.appArmorProfile").is_some());
    if !field && annotated(object, &key) {
        warnings.push(format!("{}: {APPARMOR}", annotations.key(&key)));
    }
    warnings
}

/// A variable may build upon an earlier one of its name; otherwise it hides it.
fn variables(container: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, variable) in list_at(container, "env").iter().enumerate() {
        let (name, value) = (str_at(variable, "name"), str_at(variable, "value"));
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        if variable.get("valueFrom").is_some() || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(i),
                quoted(name)
            ));
        }
    }
    warnings
}

fn ports(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut taken: BTreeMap<(i64, &str), Vec<(Path, &Value)>> = BTreeMap::new();
    for (container, at) in each_container(spec, path) {
        for (i, port) in list_at(container, "ports").iter().enumerate() {
            let at = at.child("ports").index(i);
            let (address, host) = (str_at(port, "hostIP"), int_at(port, "hostPort").unwrap_or(0));
            let own = int_at(port, "containerPort").unwrap_or(0);
            let protocol = str_at(port, "protocol");
            if !address.is_empty() && host == 0 {
                let name = str_at(port, "name");
                warnings.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{own} Protocol:{protocol} HostIP:{address}}}"
                ));
            }
            let others = taken.entry((own, protocol)).or_default();
            for (earlier, other) in others.iter() {
                let (other_address, other_host) = (str_at(other, "hostIP"), int_at(other, "hostPort").unwrap_or(0));
                let how = if address == other_address && host == other_host {
                    "duplicate port definition"
                } else if host == 0 || other_host == 0 {
                    "overlapping port definition"
                } else if host == other_host && address.is_empty() != other_address.is_empty() {
                    "dangerously ambiguous port definition"
                } else {
                    continue;
                };
                warnings.push(format!("{at}: {how} with {earlier}"));
            }
            others.push((at, port));
        }
    }
    warnings
}

fn unselected(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let rules = get(spec, "affinity").and_then(|a| a.get(kind)).unwrap_or(&Value::Null);
        let at = path.child(kind);
        for (i, _) in list_at(rules, REQUIRED).iter().enumerate().filter(|(_, t)| t.get("labelSelector").is_none()) {
            warnings.push(format!("{}: {NO_POD}", at.child(REQUIRED).index(i).child("labelSelector")));
        }
        let bare = |term: &Value| get(term, "podAffinityTerm.labelSelector").is_none();
        for (i, _) in list_at(rules, PREFERRED).iter().enumerate().filter(|(_, term)| bare(term)) {
            let at = at.child(PREFERRED).index(i).child("podAffinityTerm").child("labelSelector");
            warnings.push(format!("{at}: {NO_POD}"));
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
        let spec = json!({"metadata": {"name": "a.b", "annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}}, "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "topologySpreadConstraints": [{"topologyKey": "zone"}],
            "hostAliases": [{"ip": "fd00:0::1"}],
            "volumes": [{"name": "v", "gitRepo": {"repository": "x"}}, {"name": "p", "projected": {"sources": [
                {"serviceAccountToken": {"path": "t"}}, {"secret": {"name": "s", "items": [{"key": "k", "path": "t"}]}}]}}],
            "containers": [{"name": "a", "env": [{"name": "X"}, {"name": "X"}, {"name": "Y", "value": "1"}, {"name": "Y", "value": "2$(Y)"}],
                            "resources": {"limits": {"memory": "1500m"}},
                            "ports": [{"containerPort": 1}, {"containerPort": 1}, {"containerPort": 1, "hostPort": 2}, {"containerPort": 2, "protocol": "TCP", "hostIP": "10.0.0.1"}]}],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "k"}]},
                "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["-"]}]}}]}},
        }});
        let warnings = pod(&spec, None);
        let wanted = [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]: - is invalid, a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.volumes[1].projected.sources.secrets[0]: has duplicated path with ServiceAccountToken \"t\"",
            "spec.hostAliases[0].ip: IPv6 address \"fd00:0::1\" should be in RFC 5952 canonical format (\"fd00::1\")",
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: deprecated since v1.30; use the \"appArmorProfile\" field instead",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
            "spec.containers[0].env[1]: hides previous definition of \"X\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
            "spec.containers[0].ports[3]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:2 Protocol:TCP HostIP:10.0.0.1}",
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
        ];
        assert_eq!(warnings, wanted);
        assert!(pod(&spec, Some(&spec)).is_empty());
    }
}
