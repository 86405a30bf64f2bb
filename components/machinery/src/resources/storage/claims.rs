//! PersistentVolumeClaims (kubernetes `ValidatePersistentVolumeClaimSpec`, `ValidatePersistentVolumeClaimUpdate`).

use serde_json::{Value, json};

use super::volumes::{access_modes, class_name, positive};
use crate::{
    field::{FieldError, Path},
    names, quantity,
    resources::meta,
    value::{default_to, get, object_mut, str_at},
};

const MODES: &[&str] = &["Block", "Filesystem"];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(in crate::resources) fn claim_defaults(claim: &mut Value) {
    if let Some(spec) = object_mut(claim, "spec") {
        default_to(spec, "volumeMode", "Filesystem");
        object_mut(spec, "resources");
        data_sources(spec);
    }
}

/// `dataSource` and `dataSourceRef` mirror each other.
fn data_sources(spec: &mut Value) {
    let Some(map) = spec.as_object_mut() else { return };
    match (map.get("dataSource").cloned(), map.get("dataSourceRef").cloned()) {
        (Some(source), None) => map.insert("dataSourceRef".into(), source),
        (None, Some(source)) if source.get("namespace").is_none() => map.insert("dataSource".into(), source),
        _ => None,
    };
}

pub(in crate::resources) fn claim_create(claim: &mut Value) {
    meta::set_status(claim, json!({"phase": "Pending"}));
}

pub(in crate::resources) fn claim(claim: &Value) -> Vec<FieldError> {
    claim_spec(claim.get("spec").unwrap_or(&Value::Null), &Path::new("spec"))
}

/// The spec of a claim, also one that is made for a pod.
pub(in crate::resources) fn claim_spec(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let modes = access_modes(spec, path);
    if crate::value::list_at(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    errors.extend(meta::label_selector(spec.get("selector"), &path.child("selector")));
    errors.extend(modes);
    let at = path.child("resources").key("storage");
    match get(spec, "resources.requests").and_then(|r| r.get("storage")) {
        None => errors.push(FieldError::required(&at, "")),
        Some(size) => errors.extend(positive(size, &at)),
    }
    errors.extend(class_name(spec, "storageClassName", path));
    if let Some(mode) = spec.get("volumeMode").and_then(Value::as_str).filter(|mode| !MODES.contains(mode)) {
        errors.push(FieldError::not_supported(&path.child("volumeMode"), mode, MODES));
    }
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.get(field).filter(|s| !s.is_null()) {
            errors.extend(data_source(source, &path.child(field)));
        }
    }
    errors.extend(both_sources(spec, path));
    errors.extend(class_name(spec, "volumeAttributesClassName", path));
    errors
}

fn data_source(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = ["name", "kind"]
        .iter()
        .filter(|field| str_at(source, field).is_empty())
        .map(|field| FieldError::required(&path.child(field), ""))
        .collect();
    let (group, kind) = (str_at(source, "apiGroup"), str_at(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(path, kind, detail));
    }
    if !group.is_empty() {
        errors.extend(FieldError::each_invalid(&path.child("apiGroup"), group, names::dns1123_subdomain(group)));
    }
    let namespace = str_at(source, "namespace");
    if !namespace.is_empty() {
        errors.extend(FieldError::each_invalid(&path.child("namespace"), namespace, names::dns1123_label(namespace)));
    }
    errors
}

/// Upstream puts a path where the value should be, which is shown as an empty structure.
fn both_sources(spec: &Value, path: &Path) -> Option<FieldError> {
    let given = |field: &str| spec.get(field).filter(|s| !s.is_null());
    let (source, reference) = (given("dataSource")?, given("dataSourceRef")?);
    let detail = if !str_at(reference, "namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if source != reference {
        "must match dataSourceRef"
    } else {
        return None;
    };
    Some(FieldError::invalid(path, json!({}), detail))
}

/// Puts what `before` has under `field` in the place of what `after` says.
fn put_back(after: &mut Value, before: &Value, field: &str) {
    let Some(map) = after.as_object_mut() else { return };
    match before.get(field) {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.remove(field),
    };
}

/// Upstream judges the whole claim twice, and what is found is told twice.
pub(in crate::resources) fn claim_update(new: &Value, old: &Value) -> Vec<FieldError> {
    const DETAIL: &str =
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let mut errors = claim(new);
    errors.extend(claim(new));
    let spec = |claim: &Value| claim.get("spec").cloned().unwrap_or_default();
    let (mut after, before) = (spec(new), spec(old));
    if str_at(&before, "volumeName").is_empty() {
        put_back(&mut after, &before, "volumeName");
    }
    if class_from_annotation(new, old) {
        put_back(&mut after, &before, "storageClassName");
    } else {
        errors.extend(annotation_stays(new, old));
        if class_from_nothing(new, old) {
            put_back(&mut after, &before, "storageClassName");
        }
    }
    if str_at(new, "status.phase") == "Bound" {
        put_back(&mut after, &before, "volumeAttributesClassName");
        if let Some(requests) = after.get_mut("resources").and_then(|r| r.get_mut("requests")) {
            let old_requests = get(&before, "resources.requests").unwrap_or(&Value::Null);
            put_back(requests, old_requests, "storage");
        }
    }
    if after != before {
        errors.push(FieldError::forbidden(&Path::new("spec"), DETAIL));
    }
    errors.extend(no_shrinking(new, old));
    let mode = |claim: &Value| get(claim, "spec.volumeMode").cloned().unwrap_or_default();
    if mode(new) != mode(old) {
        errors.push(FieldError::invalid(&Path::new("volumeMode"), mode(new), "field is immutable"));
    }
    errors.extend(attributes_stay(new, old));
    errors
}

fn beta_class(claim: &Value) -> Option<&str> {
    get(claim, "metadata.annotations")?.get(BETA_CLASS)?.as_str()
}

fn class(claim: &Value) -> Option<&str> {
    get(claim, "spec.storageClassName")?.as_str()
}

/// What the annotation said may be said by the field.
fn class_from_annotation(new: &Value, old: &Value) -> bool {
    let said = beta_class(old);
    said.is_some() && class(old).is_none() && class(new) == said && beta_class(new).is_none_or(|it| Some(it) == said)
}

/// A default class may be filled in later.
fn class_from_nothing(new: &Value, old: &Value) -> bool {
    class(old).is_none() && class(new).is_some_and(|it| beta_class(old).is_none_or(|said| said == it))
}

fn annotation_stays(new: &Value, old: &Value) -> Option<FieldError> {
    let [after, before] = [new, old].map(|claim| beta_class(claim).unwrap_or_default());
    let at = Path::new("metadata").child("annotations").child(BETA_CLASS);
    (after != before).then(|| FieldError::invalid(&at, after, "field is immutable"))
}

/// Attributes that a volume once got are changed, but not taken away.
fn attributes_stay(new: &Value, old: &Value) -> Option<FieldError> {
    let attributes = |claim: &Value| get(claim, "spec.volumeAttributesClassName").cloned();
    let applied = get(old, "status.currentVolumeAttributesClassName").is_some_and(|name| !name.is_null());
    if !applied || attributes(new) == attributes(old) {
        return None;
    }
    let detail = match attributes(new) {
        None => "update from non-nil value to nil is forbidden",
        Some(name) if name.as_str() == Some("") => "update from non-nil value to an empty string is forbidden",
        Some(_) => return None,
    };
    Some(FieldError::forbidden(&Path::new("spec").child("volumeAttributesClassName"), detail))
}

fn no_shrinking(new: &Value, old: &Value) -> Option<FieldError> {
    let size =
        |claim: &Value| get(claim, "spec.resources.requests").and_then(|r| quantity::from_json(r.get("storage")?).ok());
    let held = get(old, "status.capacity").and_then(|c| quantity::from_json(c.get("storage")?).ok());
    let (after, before) = (size(new)?, size(old)?);
    let at = Path::new("spec").child("resources").child("requests").child("storage");
    (after < before && held.is_none_or(|h| after <= h))
        .then(|| FieldError::forbidden(&at, "field can not be less than status.capacity"))
}
