//! Deployments, ReplicaSets, StatefulSets and DaemonSets (kubernetes `pkg/apis/apps`).

pub(super) mod cronjob;
pub(super) mod job;
pub(super) mod replication;
pub(super) mod service;
pub(super) mod status;

use serde_json::{Value, json};

use super::{meta, pod, storage};
use crate::{
    field::{FieldError, Path},
    selector::LabelSelector,
    value::{default_to, each_mut, get, int_at, list_at, object_mut, str_at, with_mut},
};

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

/// A template whose pods never end by themselves.
fn always_restarting(template: &Value, path: &Path, what: &str) -> Vec<FieldError> {
    let mut errors = pod::validate_template(template, path);
    let at = path.child("spec");
    let policy = str_at(template, "spec.restartPolicy");
    if policy != "Always" {
        errors.push(FieldError::not_supported(&at.child("restartPolicy"), policy, &["Always"]));
    }
    if get(template, "spec.activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {what} is not Supported");
        errors.push(FieldError::forbidden(&at.child("activeDeadlineSeconds"), detail));
    }
    errors
}

/// Selector and template fit, pods restart always, numbers are not negative.
fn common(object: &Value, what: &str) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        errors.extend(object.get("spec").and_then(|s| meta::non_negative(s, field, &path)));
    }
    errors.extend(selector(object, what));
    let template = get(object, "spec.template").unwrap_or(&Value::Null);
    errors.extend(always_restarting(template, &path.child("template"), what));
    errors
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

fn selector(object: &Value, what: &str) -> Vec<FieldError> {
    let at = Path::new("spec").child("selector");
    let Some(selector) = get(object, "spec.selector") else { return vec![FieldError::required(&at, "")] };
    let mut errors = meta::label_selector(Some(selector), &at);
    if meta::selector_is_empty(Some(selector)) {
        errors.push(FieldError::invalid(
            &at,
            selector.clone(),
            format!("empty selector is invalid for {}", what.to_lowercase()),
        ));
    }
    if let Ok(parsed) = LabelSelector::from_object(Some(selector))
        && errors.is_empty()
    {
        let labels = get(object, "spec.template.metadata.labels").cloned().unwrap_or_else(|| json!({}));
        if !parsed.matches(labels.as_object()) {
            let at = Path::new("spec").child("template").child("metadata").child("labels");
            errors.push(FieldError::invalid(&at, labels, "`selector` does not match template `labels`"));
        }
    }
    errors
}

fn is_zero(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        Some(Value::String(s)) => matches!(s.as_str(), "0%" | "0"),
        _ => false,
    }
}

/// An amount or a percentage.
fn int_or_percent(value: Option<&Value>, path: &Path) -> Option<FieldError> {
    match value? {
        Value::Number(n) if n.as_i64().is_some_and(|n| n >= 0) => None,
        Value::Number(n) => {
            Some(FieldError::invalid(path, Value::Number(n.clone()), "must be greater than or equal to 0"))
        }
        Value::String(s) if s.strip_suffix('%').is_some_and(|n| n.parse::<u32>().is_ok()) => None,
        other => Some(FieldError::invalid(
            path,
            other.clone(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        )),
    }
}

/// The pair of a rolling update, which must not both be zero.
fn rolling(object: &Value, strategy: &str) -> Vec<FieldError> {
    let path = Path::new("spec").child(strategy).child("rollingUpdate");
    let Some(rolling) = get(object, &format!("spec.{strategy}.rollingUpdate")) else { return Vec::new() };
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    let mut errors: Vec<FieldError> = int_or_percent(unavailable, &path.child("maxUnavailable")).into_iter().collect();
    errors.extend(int_or_percent(surge, &path.child("maxSurge")));
    errors.extend(at_most_all(unavailable, &path.child("maxUnavailable")));
    if is_zero(unavailable) && is_zero(surge) {
        errors.push(FieldError::invalid(
            &path.child("maxUnavailable"),
            unavailable.cloned().unwrap_or_default(),
            "may not be 0 when `maxSurge` is 0",
        ));
    }
    errors
}

/// More than all of the pods can never be unavailable.
fn at_most_all(value: Option<&Value>, path: &Path) -> Option<FieldError> {
    let percent = value?.as_str()?.strip_suffix('%')?.parse::<u32>().ok()?;
    let value = value.cloned().unwrap_or_default();
    (percent > 100).then(|| FieldError::invalid(path, value, "must not be greater than 100%"))
}

fn strategy(object: &Value, field: &str, kinds: &[&str]) -> Option<FieldError> {
    get(object, &format!("spec.{field}")).and_then(|s| meta::one_of(s, "type", &Path::new("spec").child(field), kinds))
}

pub(super) fn deployment(object: &Value) -> Vec<FieldError> {
    let mut errors = common(object, "Deployment");
    errors.extend(strategy(object, "strategy", &["Recreate", "RollingUpdate"]));
    if str_at(object, "spec.strategy.type") == "Recreate" && get(object, "spec.strategy.rollingUpdate").is_some() {
        let at = Path::new("spec").child("strategy").child("rollingUpdate");
        errors.push(FieldError::forbidden(&at, "may not be specified when strategy `type` is 'Recreate'"));
    }
    errors.extend(rolling(object, "strategy"));
    let (deadline, ready) =
        (int_at(object, "spec.progressDeadlineSeconds"), int_at(object, "spec.minReadySeconds").unwrap_or(0));
    if let Some(deadline) = deadline.filter(|d| *d <= ready) {
        errors.push(FieldError::invalid(
            &Path::new("spec").child("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
    errors
}

pub(super) fn deployment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_fixed(deployment(new), new, old, &["spec.selector"])
}

pub(super) fn replica_set(object: &Value) -> Vec<FieldError> {
    common(object, "ReplicaSet")
}

pub(super) fn replica_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_fixed(replica_set(new), new, old, &["spec.selector"])
}

pub(super) fn daemon_set(object: &Value) -> Vec<FieldError> {
    let mut errors = common(object, "DaemonSet");
    errors.extend(strategy(object, "updateStrategy", &["RollingUpdate", "OnDelete"]));
    errors.extend(rolling(object, "updateStrategy"));
    errors
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
    let path = Path::new("spec");
    let mut errors = common(&with_claims_as_volumes(object), "StatefulSet");
    errors.extend(strategy(object, "updateStrategy", &["RollingUpdate", "OnDelete"]));
    errors.extend(
        object.get("spec").and_then(|s| meta::one_of(s, "podManagementPolicy", &path, &["OrderedReady", "Parallel"])),
    );
    for (i, claim) in list_at(object, "spec.volumeClaimTemplates").iter().enumerate() {
        if str_at(claim, "metadata.name").is_empty() {
            errors.push(FieldError::required(
                &path.child("volumeClaimTemplates").index(i).child("metadata").child("name"),
                "",
            ));
        }
    }
    errors
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
    let mut errors = stateful_set(new);
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
