//! NodeRestriction: a kubelet writes only its own node, its lease and the pods bound to it, and gives itself no labels that
//! steer workloads (KEP-279).

use std::collections::BTreeSet;

use machinery::{
    ApiError,
    value::{bool_at, get, list_at, map_at, object_mut, str_at},
};
use serde_json::{Map, Value, json};

use super::{Attempt, Operation, node_certificates};
use crate::registry;

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels under kubernetes.io and k8s.io that a kubelet may set on its node.
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];

/// TaintNodesByCondition: nothing is put on a new node before it said that it is ready.
pub fn taint(attempt: &Attempt<'_>, node: &mut Value) {
    if !attempt.is(Operation::Create, "", "nodes") {
        return;
    }
    let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let mut taints = list_at(node, "spec.taints").to_vec();
    if !taints.iter().any(|t| t["key"] == not_ready["key"] && t["effect"] == not_ready["effect"]) {
        taints.push(not_ready);
    }
    if let Some(spec) = object_mut(node, "spec") {
        spec["taints"] = taints.into();
    }
}

pub async fn restrict(attempt: &Attempt<'_>, new: &Value) -> Result<(), ApiError> {
    let Some(node) = attempt.call.identity.node().filter(|_| attempt.operation != Operation::Connect) else {
        return Ok(());
    };
    let target = attempt.target;
    let refuse = |why: &str| Err(target.forbidden(why));
    let name = match attempt.operation {
        Operation::Create => str_at(new, "metadata.name"),
        _ => target.name.as_str(),
    };
    match (target.resource.group, target.resource.plural) {
        ("", "nodes") => own_node(attempt, new, node, name),
        ("", "pods") => own_pod(attempt, new, node).await,
        ("", "persistentvolumeclaims") if attempt.subresource == "status" => claim_status(attempt, new, node),
        ("", "persistentvolumeclaims") => refuse("may only update PVC status"),
        ("coordination.k8s.io", "leases") if target.namespace != "kube-node-lease" => {
            refuse("can only access leases in the \"kube-node-lease\" system namespace")
        }
        ("coordination.k8s.io", "leases") if name != node => {
            refuse("can only access node lease with the same name as the requesting node")
        }
        ("storage.k8s.io", "csinodes") if name != node => {
            refuse("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => own_slice(attempt, new, node),
        ("certificates.k8s.io", "podcertificaterequests") => node_certificates::restrict(attempt, new, node).await,
        _ => Ok(()),
    }
}

/// A slice must be of this node when it is made; when it goes, it must have been.
fn own_slice(attempt: &Attempt<'_>, new: &Value, node: &str) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(attempt.target.forbidden(why));
    match (attempt.operation, attempt.old) {
        (Operation::Create, _) if str_at(new, "spec.nodeName") != node => {
            refuse("can only create ResourceSlice with the same NodeName as the requesting node")
        }
        (Operation::Delete, Some(old)) if str_at(old, "spec.nodeName") != node => {
            refuse("can only delete ResourceSlice with the same NodeName as the requesting node")
        }
        _ => Ok(()),
    }
}

/// Of a claim a kubelet reports only how large the volume has become.
fn claim_status(attempt: &Attempt<'_>, new: &Value, node: &str) -> Result<(), ApiError> {
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
            for reported in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
                status.remove(reported);
            }
        }
        claim
    };
    if attempt.old.is_some_and(|old| rest(old) == rest(new)) {
        return Ok(());
    }
    Err(attempt.target.forbidden(&format!(
        "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
    )))
}

fn own_node(attempt: &Attempt<'_>, new: &Value, node: &str, name: &str) -> Result<(), ApiError> {
    let refuse = |why: String| Err(attempt.target.forbidden(&why));
    if name != node {
        return refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let empty = Value::Null;
    let old = attempt.old.unwrap_or(&empty);
    let source = get(new, "spec.configSource").filter(|s| !s.is_null());
    let forbidden = forbidden_labels(map_at(new, "metadata.labels"), map_at(old, "metadata.labels"));
    match attempt.operation {
        Operation::Delete => return Ok(()),
        Operation::Create if source.is_some() => {
            return refuse(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
        }
        Operation::Create if !forbidden.is_empty() => {
            let labels = forbidden.join(", ");
            return refuse(format!("node {node:?} is not allowed to set the following labels: {labels}"));
        }
        Operation::Create | Operation::Connect => {}
        Operation::Update => {
            if source.is_some() && source != get(old, "spec.configSource") {
                return refuse(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if list_at(new, "spec.taints") != list_at(old, "spec.taints") {
                return refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            if list_at(new, "metadata.ownerReferences") != list_at(old, "metadata.ownerReferences") {
                return refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            if !forbidden.is_empty() {
                return refuse(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
            }
        }
    }
    Ok(())
}

type Labels = Map<String, Value>;

/// Keys that differ and that a kubelet may not touch, sorted.
fn forbidden_labels<'a>(after: Option<&'a Labels>, before: Option<&'a Labels>) -> Vec<&'a str> {
    let keys: BTreeSet<&str> = before.into_iter().chain(after).flat_map(|m| m.keys().map(String::as_str)).collect();
    let changed = |key: &&str| before.and_then(|m| m.get(*key)) != after.and_then(|m| m.get(*key));
    keys.into_iter().filter(changed).filter(|key| !may_set_label(key)).collect()
}

fn may_set_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    if within(RESTRICTED) {
        return false;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    !kubernetes || OWN_LABELS.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

async fn own_pod(attempt: &Attempt<'_>, new: &Value, node: &str) -> Result<(), ApiError> {
    let refuse = |why: String| Err(attempt.target.forbidden(&why));
    let bound = attempt.old.map(|old| str_at(old, "spec.nodeName")).unwrap_or_default();
    match (attempt.operation, attempt.subresource) {
        (Operation::Create, "") => mirror_pod(attempt, new, node).await,
        (Operation::Delete, "") if bound != node => {
            refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        (Operation::Delete, "") => Ok(()),
        (Operation::Update, "") => {
            refuse(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        (_, "status") => {
            if bound != node {
                return refuse(format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                ));
            }
            let changed = |path: &str| attempt.old.and_then(|old| get(old, path)) != get(new, path);
            if map_at(new, "metadata.labels") != attempt.old.and_then(|old| map_at(old, "metadata.labels")) {
                return refuse(format!("node {node:?} cannot update labels through pod status"));
            }
            if changed("status.resourceClaimStatuses") {
                return refuse(format!("node {node:?} cannot update resource claim statues"));
            }
            if changed("status.extendedResourceClaimStatus") {
                return refuse(format!("node {node:?} cannot update extended resource claim status"));
            }
            Ok(())
        }
        (_, "eviction") => {
            let target = attempt.target;
            let pod = registry::read(&attempt.call.core, &target.resource, &target.namespace, &target.name).await?;
            match str_at(&pod.object, "spec.nodeName") == node {
                true => Ok(()),
                false => refuse(format!("node {node} can only evict pods with spec.nodeName set to itself")),
            }
        }
        (_, other) => refuse(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed")),
    }
}

/// A kubelet shows its static pods as mirror pods, which may refer to nothing: what a pod refers to its node may read.
async fn mirror_pod(attempt: &Attempt<'_>, pod: &Value, node: &str) -> Result<(), ApiError> {
    let refuse = |why: String| Err(attempt.target.forbidden(&why));
    if pod["metadata"]["annotations"].get(MIRROR).is_none() {
        return refuse(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if str_at(pod, "spec.nodeName") != node {
        return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match list_at(pod, "metadata.ownerReferences") {
        [] => return refuse(format!("node {node:?} can only create pods with an owner reference set to itself")),
        [owner] => owner,
        _ => return refuse(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    if str_at(owner, "apiVersion") != "v1" || str_at(owner, "kind") != "Node" || str_at(owner, "name") != node {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !bool_at(owner, "controller") {
        return refuse(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if bool_at(owner, "blockOwnerDeletion") {
        return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let nodes = registry::find("", "v1", "nodes").ok_or_else(ApiError::no_such_resource)?;
    let uid = registry::read(&attempt.call.core, nodes, "", node).await?.object["metadata"]["uid"].clone();
    if owner["uid"] != uid {
        let (expected, got) = (str_at(owner, "uid"), uid.as_str().unwrap_or_default());
        return refuse(format!("node {node} UID mismatch: expected {expected} got {got}"));
    }
    match refers_to(pod) {
        Some(what) => refuse(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// The first kind of object a pod refers to.
fn refers_to(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if !str_at(spec, "serviceAccountName").is_empty() {
        return Some("a service account");
    }
    let containers =
        || ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(|list| list_at(spec, list));
    let refers = |env_from: &str, env: &str, volume: &str, projected: &str| {
        containers().any(|c| {
            list_at(c, "envFrom").iter().any(|e| get(e, env_from).is_some())
                || list_at(c, "env").iter().any(|e| get(e, env).is_some())
        }) || list_at(spec, "volumes").iter().any(|v| {
            v.get(volume).is_some() || list_at(v, "projected.sources").iter().any(|s| s.get(projected).is_some())
        })
    };
    let hidden = |v: &Value| {
        [
            "csi.nodePublishSecretRef",
            "cephfs.secretRef",
            "iscsi.secretRef",
            "rbd.secretRef",
            "flexVolume.secretRef",
            "azureFile.secretName",
            "scaleIO.secretRef",
            "storageos.secretRef",
        ]
        .iter()
        .any(|path| get(v, path).is_some())
    };
    if !list_at(spec, "imagePullSecrets").is_empty()
        || list_at(spec, "volumes").iter().any(hidden)
        || refers("secretRef", "valueFrom.secretKeyRef", "secret", "secret")
    {
        return Some("secrets");
    }
    if refers("configMapRef", "valueFrom.configMapKeyRef", "configMap", "configMap") {
        return Some("configmaps");
    }
    let volumes = list_at(spec, "volumes");
    let projects =
        |kind: &str| volumes.iter().any(|v| list_at(v, "projected.sources").iter().any(|s| s.get(kind).is_some()));
    if projects("clusterTrustBundle") {
        return Some("clustertrustbundles");
    }
    if projects("serviceAccountToken") {
        return Some("service account tokens");
    }
    if volumes.iter().any(|v| v.get("persistentVolumeClaim").is_some() || v.get("ephemeral").is_some()) {
        return Some("persistentvolumeclaims");
    }
    if !list_at(spec, "resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mirror_pods_refer_to_nothing() {
        let of = |spec: Value| refers_to(&json!({"spec": spec}));
        assert_eq!(
            of(json!({"containers": [{"env": [{"name": "A", "value": "b"}]}], "volumes": [{"emptyDir": {}}]})),
            None
        );
        for (spec, what) in [
            (json!({"serviceAccountName": "x"}), "a service account"),
            (json!({"imagePullSecrets": [{"name": "x"}]}), "secrets"),
            (json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "x"}}]}]}), "secrets"),
            (json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "x"}}]}}]}), "configmaps"),
            (json!({"volumes": [{"persistentVolumeClaim": {"claimName": "x"}}]}), "persistentvolumeclaims"),
            (json!({"resourceClaims": [{"name": "x"}]}), "resourceclaims"),
        ] {
            assert_eq!(of(spec), Some(what));
        }
    }

    #[test]
    fn labels_that_steer_workloads_are_not_the_kubelets() {
        for own in
            ["kubernetes.io/hostname", "example.com/x", "plain", "node.kubernetes.io/x", "a.kubelet.kubernetes.io/x"]
        {
            assert!(may_set_label(own), "{own}");
        }
        for foreign in [
            "node-role.kubernetes.io/control-plane",
            "a.node-restriction.kubernetes.io/x",
            "kubernetes.io/unlisted",
            "scheduling.k8s.io/x",
        ] {
            assert!(!may_set_label(foreign), "{foreign}");
        }
    }
}
