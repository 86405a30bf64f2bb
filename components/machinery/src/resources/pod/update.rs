//! What of a pod may change (kubernetes `ValidatePodUpdate`).

use serde_json::Value;

use super::{annotations, scheduling};
use crate::{
    field::{FieldError, Path},
    value::{get, int_at, list_at, map_at, str_at},
};

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(in crate::resources) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = super::validate(new);
    errors.extend(annotations::validate_update(new, old, &Path::new("metadata").child("annotations")));
    for list in ["containers", "initContainers"] {
        let at = path.child(list);
        let (after, before) = (list_at(new, &format!("spec.{list}")), list_at(old, &format!("spec.{list}")));
        if after.len() != before.len() {
            errors.push(FieldError::forbidden(&at, "pod updates may not add or remove containers"));
            return errors;
        }
        for (i, container) in after.iter().enumerate() {
            let at = at.index(i);
            if str_at(container, "image").is_empty() {
                errors.push(FieldError::required(&at.child("image"), ""));
            }
            errors.extend(super::containers::padded_image(container, &at));
        }
    }
    if let Some((error, last)) = deadline(new, old, &path) {
        errors.push(error);
        if last {
            return errors;
        }
    }
    errors.extend(tolerations(new, old, &path));
    errors.extend(gates(new, old, &path));
    let spec = |pod: &Value| pod.get("spec").cloned().unwrap_or_default();
    let (mut masked, before) = (spec(new), spec(old));
    mask(&mut masked, &before);
    // a pod that waits at its gates may still be given tighter node selectors
    if !list_at(&before, "schedulingGates").is_empty() {
        errors.extend(node_selector(&masked, &before, &path));
        errors.extend(node_affinity(&masked, &before, &path));
        mask_placement(&mut masked, &before);
    }
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
    if int_at(old, "terminationGracePeriodSeconds").is_some_and(|s| s < 0)
        && int_at(new, "terminationGracePeriodSeconds") == Some(1)
    {
        restore(new, "terminationGracePeriodSeconds", old.get("terminationGracePeriodSeconds"));
    }
}

fn mask_placement(new: &mut Value, old: &Value) {
    restore(new, "nodeSelector", old.get("nodeSelector"));
    let before = get(old, "affinity.nodeAffinity");
    if get(new, "affinity.nodeAffinity") == before {
        return;
    }
    let others = ["podAffinity", "podAntiAffinity"].iter().any(|kind| get(new, &format!("affinity.{kind}")).is_some());
    if before.is_none() && old.get("affinity").is_none() && !others {
        crate::value::remove(new, "affinity");
    } else if let Some(affinity) = crate::value::object_mut(new, "affinity") {
        restore(affinity, "nodeAffinity", before);
    }
}

fn restore(object: &mut Value, field: &str, old: Option<&Value>) {
    let Some(map) = object.as_object_mut() else { return };
    match old {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.remove(field),
    };
}

fn node_selector(new: &Value, old: &Value, path: &Path) -> Option<FieldError> {
    let after = map_at(new, "nodeSelector");
    let kept = map_at(old, "nodeSelector")
        .into_iter()
        .flatten()
        .all(|(key, value)| after.is_some_and(|labels| labels.get(key) == Some(value)));
    (!kept).then(|| {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        let value = after.cloned().map(Value::Object).unwrap_or_default();
        FieldError::invalid(&path.child("nodeSelector"), value, detail)
    })
}

/// Each required term may only become narrower.
fn node_affinity(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    const TERMS: &str = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let (after, before) = (list_at(new, TERMS), list_at(old, TERMS));
    let at = TERMS.split('.').fold(path.clone(), |at, step| at.child(step));
    if before.is_empty() {
        return Vec::new();
    }
    if before.len() != after.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return vec![FieldError::invalid(&at, after.to_vec(), detail)];
    }
    let pairs = after.iter().zip(before).enumerate();
    pairs
        .filter(|(_, (after, before))| !only_additions(after, before))
        .map(|(i, (after, _))| {
            let detail = "only additions are allowed (no mutations or deletions)";
            FieldError::invalid(&at.index(i), after.clone(), detail)
        })
        .collect()
}

fn only_additions(new: &Value, old: &Value) -> bool {
    const LISTS: [&str; 2] = ["matchExpressions", "matchFields"];
    let was_empty = LISTS.iter().all(|list| list_at(old, list).is_empty());
    if was_empty && LISTS.iter().any(|list| !list_at(new, list).is_empty()) {
        return false;
    }
    LISTS.iter().all(|list| list_at(new, list).starts_with(list_at(old, list)))
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

/// The fault, and whether nothing more is looked at.
fn deadline(new: &Value, old: &Value, path: &Path) -> Option<(FieldError, bool)> {
    let at = path.child("activeDeadlineSeconds");
    let before = int_at(old, "spec.activeDeadlineSeconds");
    match int_at(new, "spec.activeDeadlineSeconds") {
        None if before.is_some() => {
            let detail = "must not update from a positive integer to nil value";
            Some((FieldError::invalid(&at, Value::Null, detail), false))
        }
        Some(after) if !(0..=i64::from(i32::MAX)).contains(&after) => {
            Some((FieldError::invalid(&at, after, "must be between 0 and 2147483647, inclusive"), true))
        }
        Some(after) if before.is_some_and(|before| after > before) => {
            Some((FieldError::invalid(&at, after, "must be less than or equal to previous value"), true))
        }
        _ => None,
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("tolerations");
    let after = list_at(new, "spec.tolerations");
    let without_seconds = |t: &Value| {
        let mut t = t.clone();
        crate::value::remove(&mut t, "tolerationSeconds");
        t
    };
    let kept =
        list_at(old, "spec.tolerations").iter().all(|o| after.iter().any(|n| without_seconds(n) == without_seconds(o)));
    if !kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return vec![FieldError::forbidden(&at, detail)];
    }
    scheduling::tolerations(after, &at)
}

fn gates(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let before: Vec<&str> = list_at(old, "spec.schedulingGates").iter().map(|g| str_at(g, "name")).collect();
    let after = list_at(new, "spec.schedulingGates").iter().map(|g| str_at(g, "name")).enumerate();
    after
        .filter(|(_, gate)| !before.contains(gate))
        .map(|(i, gate)| {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{gate}'");
            FieldError::forbidden(&path.child("schedulingGates").index(i).child("name"), detail)
        })
        .collect()
}
