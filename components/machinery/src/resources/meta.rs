//! Validation of `metadata`, the same for every kind (apimachinery `pkg/api/validation/objectmeta.go`).

use serde_json::Value;

use super::{NameRule, Resource};
use crate::{
    field::{FieldError, Path, quoted},
    names,
    value::{bool_at, get, list_at, map_at, str_at},
};

pub(super) const IMMUTABLE: &str = "field is immutable";
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Gives a new object its first status.
pub(super) fn set_status(object: &mut Value, status: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("status".into(), status);
    }
}

/// What is wrong with a name under a rule.
pub(super) fn name_problems(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::DnsSubdomain => names::dns1123_subdomain(name),
        NameRule::DnsLabel => names::dns1123_label(name),
        NameRule::Dns1035Label => names::dns1035_label(name),
        NameRule::PathSegment => names::path_segment(name),
    }
}

/// Checks `metadata` of an object to be created or written.
pub fn validate_metadata(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    let name = str_at(object, "metadata.name");
    let base = str_at(object, "metadata.generateName");
    if !base.is_empty() {
        let problems = name_problems(resource.strategy.name, &without_last_dash(base));
        errors.extend(FieldError::each_invalid(&path.child("generateName"), base, problems));
    }
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    } else {
        let problems = name_problems(resource.strategy.name, name);
        errors.extend(problems.into_iter().map(|p| FieldError::invalid(&path.child("name"), name, p)));
    }
    let namespace = str_at(object, "metadata.namespace");
    if !resource.namespaced && !namespace.is_empty() {
        errors.push(FieldError::forbidden(&path.child("namespace"), "not allowed on this type"));
    } else if resource.namespaced && namespace.is_empty() {
        errors.push(FieldError::required(&path.child("namespace"), ""));
    } else if resource.namespaced {
        let problems = names::dns1123_label(namespace);
        errors.extend(problems.into_iter().map(|p| FieldError::invalid(&path.child("namespace"), namespace, p)));
    }
    errors.extend(CONTENT.iter().flat_map(|field| content(field, object, &path)));
    errors.extend(known_finalizers(resource, object, &path));
    errors
}

/// What will be followed by something may end in a dash.
fn without_last_dash(base: &str) -> String {
    let mut rest = base.strip_suffix('-').unwrap_or_default().chars();
    match rest.next_back() {
        Some(_) => format!("{}a", rest.as_str()),
        None => base.to_owned(),
    }
}

/// Groups whose kinds take any finalizer; the others know a few without a domain.
const ANY_FINALIZER: &[&str] = &["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"];

fn known_finalizers(resource: &Resource, object: &Value, path: &Path) -> Vec<FieldError> {
    if resource.custom().is_some() || ANY_FINALIZER.contains(&resource.group) {
        return Vec::new();
    }
    let list = list_at(object, "metadata.finalizers").iter().filter_map(Value::as_str).enumerate();
    list.filter_map(|(i, name)| unknown_finalizer(name, &path.child("finalizers").index(i))).collect()
}

fn unknown_finalizer(name: &str, path: &Path) -> Option<FieldError> {
    const KNOWN: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    (!name.contains('/') && !KNOWN.contains(&name)).then(|| FieldError::invalid(path, name, detail))
}

/// One finalizer: a name that is known, or somebody's own with a domain.
pub(super) fn finalizer(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = FieldError::each_invalid(path, name, names::qualified_name(name));
    errors.extend(unknown_finalizer(name, path));
    errors
}

/// Checks `metadata` of a resource that lies within another one, at `path`; it may do without a name.
pub fn validate_embedded_metadata(object: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, problems) in
        [("name", names::path_segment as fn(&str) -> Vec<String>), ("namespace", names::dns1123_label)]
    {
        let text = str_at(&object["metadata"], field);
        if !text.is_empty() {
            errors.extend(problems(text).into_iter().map(|p| FieldError::invalid(&path.child(field), text, p)));
        }
    }
    errors.extend(CONTENT.iter().flat_map(|field| content(field, object, path)));
    errors
}

/// The parts of `metadata` that clients write freely.
const CONTENT: &[&str] = &["labels", "annotations", "ownerReferences", "finalizers"];

fn content(field: &str, object: &Value, path: &Path) -> Vec<FieldError> {
    let path = path.child(field);
    let value = object.get("metadata").and_then(|m| m.get(field));
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match field {
        "labels" => labels(value, &path),
        "annotations" => annotations(value, &path),
        "ownerReferences" => owner_references(list, &path),
        _ => finalizers(list, &path),
    }
}

fn finalizers(list: &[Value], path: &Path) -> Vec<FieldError> {
    let texts = || list.iter().filter_map(Value::as_str);
    let mut errors: Vec<FieldError> =
        texts().flat_map(|it| FieldError::each_invalid(path, it, names::qualified_name(it))).collect();
    if texts().any(|it| it == "orphan") && texts().any(|it| it == "foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, list.to_vec(), detail));
    }
    errors
}

/// What an update may not change in `metadata`.
pub fn validate_metadata_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    if get(old, "metadata.deletionTimestamp").is_some() {
        let before = list_at(old, "metadata.finalizers");
        let mut added: Vec<String> = list_at(new, "metadata.finalizers")
            .iter()
            .filter(|f| !before.contains(f))
            .map(|f| quoted(f.as_str().unwrap_or_default()))
            .collect();
        added.sort();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), detail));
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let at = |o: &Value| o.get("metadata").and_then(|m| m.get(field)).filter(|v| !v.is_null()).cloned();
        let (after, before) = (at(new), at(old));
        if after != before {
            // the texts have no null
            let unset = if matches!(field, "name" | "namespace" | "uid") { "".into() } else { Value::Null };
            errors.push(FieldError::invalid(&path.child(field), after.unwrap_or(unset), IMMUTABLE));
        }
    }
    // what was stored under older rules may stay
    let changed = |field: &&&str| {
        let at = |o: &'_ Value| o.get("metadata").and_then(|m| m.get(**field)).cloned();
        at(new) != at(old)
    };
    errors.extend(CONTENT.iter().filter(changed).flat_map(|field| content(field, new, &path)));
    errors
}

pub(super) fn labels(labels: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        errors.extend(names::qualified_name(key).into_iter().map(|p| FieldError::invalid(path, key.as_str(), p)));
        let value = value.as_str().unwrap_or_default();
        errors.extend(names::label_value(value).into_iter().map(|p| FieldError::invalid(path, value, p)));
    }
    errors
}

pub(super) fn annotations(annotations: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        // annotation keys are compared in lower case
        errors.extend(
            names::qualified_name(&key.to_lowercase()).into_iter().map(|p| FieldError::invalid(path, key.as_str(), p)),
        );
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_MAX));
    }
    errors
}

/// Upstream shows the list's path for every fault.
fn owner_references(owners: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for owner in owners {
        let version = str_at(owner, "apiVersion");
        if version.is_empty() || version.ends_with('/') || version.matches('/').count() > 1 {
            errors.push(FieldError::invalid(&path.child("apiVersion"), version, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if str_at(owner, field).is_empty() {
                errors.push(FieldError::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if version == "v1" && str_at(owner, "kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, owner.clone(), detail));
        }
        if bool_at(owner, "controller") {
            let this = format!("{}/{}", str_at(owner, "kind"), str_at(owner, "name"));
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.push(FieldError::invalid(path, owners.to_vec(), detail));
            } else {
                controller = Some(this);
            }
        }
    }
    errors
}

/// A `metav1.LabelSelector`.
pub(super) fn label_selector(selector: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let Some(selector) = selector.filter(|s| !s.is_null()) else { return Vec::new() };
    let mut errors = labels(selector.get("matchLabels"), &path.child("matchLabels"));
    for (i, expression) in list_at(selector, "matchExpressions").iter().enumerate() {
        let at = path.child("matchExpressions").index(i);
        let values = list_at(expression, "values");
        match str_at(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(
                    &at.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                ));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if values.is_empty() => {}
            "Exists" | "DoesNotExist" => {
                errors.push(FieldError::forbidden(
                    &at.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
            other => errors.push(FieldError::invalid(&at.child("operator"), other, "not a valid selector operator")),
        }
        let key = str_at(expression, "key");
        errors.extend(FieldError::each_invalid(&at.child("key"), key, names::qualified_name(key)));
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            errors.extend(FieldError::each_invalid(&at.child("values").index(j), value, names::label_value(value)));
        }
    }
    errors
}

/// Whether a selector asks for nothing in particular.
pub(super) fn selector_is_empty(selector: Option<&Value>) -> bool {
    selector.is_none_or(|s| {
        map_at(s, "matchLabels").is_none_or(serde_json::Map::is_empty) && list_at(s, "matchExpressions").is_empty()
    })
}

/// An error for each field that differs and may not.
pub(super) fn immutable(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in fields {
        let at = |o: &Value| get(o, field).cloned().unwrap_or_default();
        if at(new) != at(old) {
            errors.push(FieldError::invalid(&Path::new(field), at(new), IMMUTABLE));
        }
    }
    errors
}

/// One of the values upstream knows; an empty one is required.
pub(super) fn one_of(object: &Value, field: &str, path: &Path, supported: &[&str]) -> Option<FieldError> {
    let value = str_at(object, field);
    let path = path.child(field);
    if value.is_empty() {
        Some(FieldError::required(&path, ""))
    } else if supported.contains(&value) {
        None
    } else {
        Some(FieldError::not_supported(&path, value, supported))
    }
}

/// As `one_of`, but absent is fine.
pub(super) fn optional_one_of(object: &Value, field: &str, path: &Path, supported: &[&str]) -> Option<FieldError> {
    if str_at(object, field).is_empty() { None } else { one_of(object, field, path, supported) }
}

/// An integer that must not be negative, if there.
pub(super) fn non_negative(object: &Value, field: &str, path: &Path) -> Option<FieldError> {
    let value = object.get(field).and_then(Value::as_i64)?;
    (value < 0).then(|| FieldError::invalid(&path.child(field), value, "must be greater than or equal to 0"))
}
