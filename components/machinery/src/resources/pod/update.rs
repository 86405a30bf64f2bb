//! What of a pod may change (kubernetes `ValidatePodUpdate`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    value::{int_at, list_at},
};

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(in crate::resources) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = super::validate(new);
    for list in ["containers", "initContainers"] {
        let (after, before) =
            (list_at(new, &format!("spec.{list}")).len(), list_at(old, &format!("spec.{list}")).len());
        if after != before {
            errors.push(FieldError::forbidden(&path.child(list), "pod updates may not add or remove containers"));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    errors.extend(deadline(new, old, &path));
    errors.extend(tolerations(new, old, &path));
    errors.extend(gates(new, old, &path));
    let spec = |pod: &Value| pod.get("spec").cloned().unwrap_or_default();
    let (mut masked, before) = (spec(new), spec(old));
    mask(&mut masked, &before);
    if masked != before {
        errors.push(FieldError::forbidden(&path, format!("{MUTABLE}\n{}", difference(&masked, &before))));
    }
    errors
}

/// Gives `new` the old values of every field that may change, so that what still differs may not.
fn mask(new: &mut Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        let images: Vec<Option<&Value>> = list_at(old, list).iter().map(|c| c.get("image")).collect();
        let containers = new.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, image) in containers.zip(images) {
            restore(container, "image", image);
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(new, field, old.get(field));
    }
    // a pod that waits at its gates may still be given tighter node selectors
    if !list_at(old, "schedulingGates").is_empty() {
        for field in ["nodeSelector", "affinity"] {
            restore(new, field, old.get(field));
        }
    }
    if int_at(old, "terminationGracePeriodSeconds").is_some_and(|s| s < 0)
        && int_at(new, "terminationGracePeriodSeconds") == Some(1)
    {
        restore(new, "terminationGracePeriodSeconds", old.get("terminationGracePeriodSeconds"));
    }
}

fn restore(object: &mut Value, field: &str, old: Option<&Value>) {
    let Some(map) = object.as_object_mut() else { return };
    match old {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.remove(field),
    };
}

/// The first-level fields that differ, for the message.
fn difference(new: &Value, old: &Value) -> String {
    let empty = serde_json::Map::new();
    let (new, old) = (new.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    let mut keys: Vec<&String> = new.keys().chain(old.keys()).filter(|k| new.get(*k) != old.get(*k)).collect();
    keys.sort();
    keys.dedup();
    keys.iter().map(|k| format!("{k} differs")).collect::<Vec<_>>().join(", ")
}

fn deadline(new: &Value, old: &Value, path: &Path) -> Option<FieldError> {
    let at = path.child("activeDeadlineSeconds");
    match (int_at(new, "spec.activeDeadlineSeconds"), int_at(old, "spec.activeDeadlineSeconds")) {
        (None, Some(_)) => {
            Some(FieldError::invalid(&at, Value::Null, "must not update from a positive integer to nil value"))
        }
        (Some(after), Some(before)) if after > before => {
            Some(FieldError::invalid(&at, after, format!("must be less than or equal to previous value {before}")))
        }
        _ => None,
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path) -> Option<FieldError> {
    let after = list_at(new, "spec.tolerations");
    let without_seconds = |t: &Value| {
        let mut t = t.clone();
        crate::value::remove(&mut t, "tolerationSeconds");
        t
    };
    let kept =
        list_at(old, "spec.tolerations").iter().all(|o| after.iter().any(|n| without_seconds(n) == without_seconds(o)));
    (!kept).then(|| {
        FieldError::forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        )
    })
}

fn gates(new: &Value, old: &Value, path: &Path) -> Option<FieldError> {
    let before = list_at(old, "spec.schedulingGates");
    let added = list_at(new, "spec.schedulingGates").iter().any(|g| !before.contains(g));
    added.then(|| {
        FieldError::forbidden(&path.child("schedulingGates"), "only deletion is allowed, but found new scheduling gate")
    })
}
