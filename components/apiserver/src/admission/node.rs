//! NodeRestriction: a kubelet writes only its own node, its lease and the pods bound to it, and gives itself no labels that
//! steer workloads (KEP-279).

use machinery::{
    ApiError,
    value::{get, list_at, map_at, object_mut, str_at},
};
use serde_json::{Value, json};

use super::{Attempt, Operation};
use crate::registry;

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
    let Some(node) = attempt.call.identity.node() else { return Ok(()) };
    let target = attempt.target;
    let refuse = |why: String| Err(target.forbidden(&why));
    match (target.resource.group, target.resource.plural) {
        ("", "nodes") => own_node(attempt, new, node),
        ("", "pods") => own_pod(attempt, new, node).await,
        ("coordination.k8s.io", "leases")
            if target.namespace != "kube-node-lease" || str_at(new, "metadata.name") != node =>
        {
            refuse(format!(
                "can only access node lease with the same name as the requesting node {node:?} in namespace kube-node-lease"
            ))
        }
        ("storage.k8s.io", "csinodes") if str_at(new, "metadata.name") != node => {
            refuse(format!("can only access CSINode with the same name as the requesting node {node:?}"))
        }
        _ => Ok(()),
    }
}

fn own_node(attempt: &Attempt<'_>, new: &Value, node: &str) -> Result<(), ApiError> {
    let refuse = |why: String| Err(attempt.target.forbidden(&why));
    if str_at(new, "metadata.name") != node {
        return refuse(format!("node {node:?} is not allowed to modify node {:?}", str_at(new, "metadata.name")));
    }
    let empty = Value::Null;
    let old = attempt.old.unwrap_or(&empty);
    match attempt.operation {
        Operation::Delete => return refuse(format!("node {node:?} is not allowed to delete node {node:?}")),
        Operation::Create | Operation::Connect => {}
        Operation::Update => {
            if get(new, "spec.taints") != get(old, "spec.taints") {
                return refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            if get(new, "spec.configSource") != get(old, "spec.configSource")
                || new["metadata"].get("ownerReferences") != old["metadata"].get("ownerReferences")
            {
                return refuse(format!("node {node:?} is not allowed to change its configSource or ownerReferences"));
            }
        }
    }
    let before = map_at(old, "metadata.labels");
    let after = map_at(new, "metadata.labels");
    let keys = before.into_iter().chain(after).flat_map(|m| m.keys());
    let changed = keys.filter(|k| before.and_then(|m| m.get(*k)) != after.and_then(|m| m.get(*k)));
    let forbidden: Vec<&str> = changed.map(String::as_str).filter(|k| !may_set_label(k)).collect();
    if forbidden.is_empty() {
        Ok(())
    } else {
        refuse(format!("is not allowed to modify labels: {}", forbidden.join(", ")))
    }
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
    match (attempt.operation, attempt.subresource) {
        // upstream lets a kubelet mirror its static pods; ours has none, and what a pod refers to its node may read
        (Operation::Create, "") => refuse(format!("node {node:?} is not allowed to create pods")),
        (_, "status" | "") => {
            let bound = attempt.old.map(|o| str_at(o, "spec.nodeName")).unwrap_or_default();
            if bound != node {
                return refuse(format!(
                    "node {node:?} can only update or delete pods with spec.nodeName set to itself"
                ));
            }
            if let (Operation::Update, Some(old)) = (attempt.operation, attempt.old)
                && map_at(new, "metadata.labels") != map_at(old, "metadata.labels")
            {
                return refuse(format!("node {node:?} cannot update labels through pod status"));
            }
            Ok(())
        }
        _ => {
            let pod = registry::read(
                &attempt.call.core,
                &attempt.target.resource,
                &attempt.target.namespace,
                &attempt.target.name,
            )
            .await?
            .object;
            if str_at(&pod, "spec.nodeName") == node {
                Ok(())
            } else {
                refuse(format!("node {node:?} can only evict pods with spec.nodeName set to itself"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
