//! Deployments, ReplicaSets, StatefulSets and DaemonSets (kubernetes `pkg/apis/apps`).

pub(super) mod cronjob;
pub(super) mod job;
pub(super) mod replication;
pub(super) mod rules;
pub(super) mod service;
pub(super) mod status;

use serde_json::{Value, json};

use super::{meta, pod, storage};
use crate::{
    field::{FieldError, Path},
    value::{default_to, each_mut, get, int_at, list_at, object_mut, str_at, with_mut},
};
use rules::always_restarting;
pub(super) use rules::{daemon_set, deployment, replica_set};

const KEPT_REVISIONS: i64 = 10;

/// What all templates get; returns `spec` to go on with.
fn template_spec(object: &mut Value) -> Option<&mut Value> {
    let spec = object_mut(object, "spec")?;
    if let Some(template) = object_mut(spec, "template") {
        pod::template_defaults(template);
    }
    Some(spec)
}

pub(super) fn deployment_defaults(object: &mut Value) {
    let Some(spec) = template_spec(object) else { return };
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", KEPT_REVISIONS);
    default_to(spec, "progressDeadlineSeconds", 600);
    let Some(strategy) = object_mut(spec, "strategy") else { return };
    default_to(strategy, "type", "RollingUpdate");
    if str_at(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = object_mut(strategy, "rollingUpdate")
    {
        default_to(rolling, "maxUnavailable", "25%");
        default_to(rolling, "maxSurge", "25%");
    }
}

pub(super) fn replica_set_defaults(object: &mut Value) {
    if let Some(spec) = template_spec(object) {
        default_to(spec, "replicas", 1);
    }
}

pub(super) fn stateful_set_defaults(object: &mut Value) {
    let Some(spec) = template_spec(object) else { return };
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", KEPT_REVISIONS);
    default_to(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = object_mut(spec, "updateStrategy") {
        default_to(strategy, "type", "RollingUpdate");
        if str_at(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = object_mut(strategy, "rollingUpdate")
        {
            default_to(rolling, "partition", 0);
        }
    }
    if let Some(retention) = object_mut(spec, "persistentVolumeClaimRetentionPolicy") {
        default_to(retention, "whenDeleted", "Retain");
        default_to(retention, "whenScaled", "Retain");
    }
    each_mut(spec, "volumeClaimTemplates", |claim| {
        default_to(claim, "apiVersion", "v1");
        default_to(claim, "kind", "PersistentVolumeClaim");
        storage::claim_defaults(claim);
        if let Some(status) = object_mut(claim, "status") {
            default_to(status, "phase", "Pending");
        }
    });
}

pub(super) fn daemon_set_defaults(object: &mut Value) {
    let Some(spec) = template_spec(object) else { return };
    default_to(spec, "revisionHistoryLimit", KEPT_REVISIONS);
    let Some(strategy) = object_mut(spec, "updateStrategy") else { return };
    default_to(strategy, "type", "RollingUpdate");
    if str_at(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = object_mut(strategy, "rollingUpdate")
    {
        default_to(rolling, "maxUnavailable", 1);
        default_to(rolling, "maxSurge", 0);
    }
}

/// What clients are warned of in a template, when its object's spec is new or changed.
pub(super) fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let generation = |object: &Value| int_at(object, "metadata.generation");
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    let template = get(new, "spec.template").unwrap_or(&Value::Null);
    pod::template_warnings(template, &Path::new("spec").child("template"))
}

pub(super) fn deployment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_fixed(deployment(new), new, old, &["spec.selector"])
}

pub(super) fn replica_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_fixed(replica_set(new), new, old, &["spec.selector"])
}

pub(super) fn daemon_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_fixed(daemon_set(new), new, old, &["spec.selector"])
}

fn with_fixed(mut errors: Vec<FieldError>, new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    errors.extend(meta::immutable(new, old, fields));
    errors
}

/// What the controller does for every pod: each claim template becomes a volume of its name, and containers may mount it.
fn with_claims_as_volumes(object: &Value) -> Value {
    let mut object = object.clone();
    let claims: Vec<Value> = list_at(&object, "spec.volumeClaimTemplates")
        .iter()
        .map(|claim| str_at(claim, "metadata.name").to_owned())
        .filter(|name| !name.is_empty())
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    let Some(Value::Object(spec)) = object.pointer_mut("/spec/template/spec") else { return object };
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.retain(|volume| !claims.iter().any(|claim| claim["name"] == volume["name"]));
        volumes.extend(claims);
    }
    object
}

pub(super) fn stateful_set(object: &Value) -> Vec<FieldError> {
    rules::stateful_set(object, &with_claims_as_volumes(object), None)
}

/// Only these fields of a StatefulSet's spec may change.
const STATEFUL_SET_MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(super) fn stateful_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = rules::stateful_set(new, &with_claims_as_volumes(new), Some(old));
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for field in STATEFUL_SET_MUTABLE {
            crate::value::remove(&mut spec, field);
        }
        // the status of a claim template is nobody's business
        each_mut(&mut spec, "volumeClaimTemplates", |claim| {
            crate::value::remove(claim, "status");
            with_mut(claim, "metadata", |m| {
                crate::value::remove(m, "creationTimestamp");
            });
        });
        spec
    };
    if fixed(new) != fixed(old) {
        let list: Vec<String> = STATEFUL_SET_MUTABLE[..6].iter().map(|f| format!("'{f}'")).collect();
        let detail = format!(
            "updates to statefulset spec for fields other than {} and 'minReadySeconds' are forbidden",
            list.join(", ")
        );
        errors.push(FieldError::forbidden(&Path::new("spec"), detail));
    }
    errors
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
