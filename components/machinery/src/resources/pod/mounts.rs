//! Where containers see volumes: as directories or as devices (kubernetes `ValidateVolumeMounts`, `ValidateVolumeDevices`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{sources, volumes::Volumes};
use crate::{
    field::{FieldError, Path},
    value::{bool_at, get, list_at, str_at},
};

const PROPAGATIONS: &[&str] = &["Bidirectional", "HostToContainer", "None"];
const RECURSIONS: &[&str] = &["Disabled", "Enabled", "IfPossible"];

pub(super) fn validate(container: &Value, volumes: &Volumes, path: &Path) -> Vec<FieldError> {
    let mut errors = mounts(container, volumes, &path.child("volumeMounts"));
    errors.extend(devices(container, volumes, &path.child("volumeDevices")));
    errors
}

/// Upstream shows some faults of a mount's fields without the mount's index.
fn mounts(container: &Value, volumes: &Volumes, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    let devices = list_at(container, "volumeDevices");
    for (i, mount) in list_at(container, "volumeMounts").iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (str_at(mount, "name"), str_at(mount, "mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        if !volumes.contains_key(name) {
            errors.push(FieldError::not_found(&at.child("name"), name));
        }
        if target.is_empty() {
            errors.push(FieldError::required(&at.child("mountPath"), ""));
        }
        if !seen.insert(target) {
            errors.push(FieldError::invalid(&at.child("mountPath"), target, "must be unique"));
        }
        if devices.iter().any(|d| str_at(d, "name") == name) {
            errors.push(FieldError::invalid(&at.child("name"), name, "must not already exist in volumeDevices"));
        }
        if devices.iter().any(|d| str_at(d, "devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&at.child("mountPath"), target, detail));
        }
        errors.extend(sub_paths(mount, volumes.get(name).copied(), path, &at));
        errors.extend(propagation(mount, container, &path.child("mountPropagation")));
        errors.extend(recursive_read_only(mount, &path.child("recursiveReadOnly")));
    }
    errors
}

fn sub_paths(mount: &Value, volume: Option<&Value>, path: &Path, at: &Path) -> Vec<FieldError> {
    let (plain, expression) = (str_at(mount, "subPath"), str_at(mount, "subPathExpr"));
    let mut errors = Vec::new();
    if volume.is_some_and(|v| v.get("image").is_some()) {
        for (field, text) in [("subPath", plain), ("subPathExpr", expression)] {
            if !text.is_empty() {
                errors.push(FieldError::invalid(&at.child(field), text, "not allowed in image volume sources"));
            }
        }
    }
    if !plain.is_empty() {
        errors.extend(sources::below(plain, &path.child("subPath")));
    }
    if !expression.is_empty() {
        if !plain.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&at.child("subPathExpr"), expression, detail));
        }
        errors.extend(sources::below(expression, &path.child("subPathExpr")));
    }
    errors
}

fn propagation(mount: &Value, container: &Value, path: &Path) -> Vec<FieldError> {
    let Some(mode) = mount.get("mountPropagation").and_then(Value::as_str) else { return Vec::new() };
    let mut errors = Vec::new();
    if !PROPAGATIONS.contains(&mode) {
        errors.push(FieldError::not_supported(path, mode, PROPAGATIONS));
    }
    if mode == "Bidirectional" && !bool_at(container, "securityContext.privileged") {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(path, detail));
    }
    errors
}

fn recursive_read_only(mount: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match mount.get("recursiveReadOnly").and_then(Value::as_str) {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !bool_at(mount, "readOnly") {
                errors.push(FieldError::forbidden(path, "may only be specified when readOnly is true"));
            }
            if get(mount, "mountPropagation").is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
        Some(other) => errors.push(FieldError::not_supported(path, other, RECURSIONS)),
    }
    errors
}

fn devices(container: &Value, volumes: &Volumes, path: &Path) -> Vec<FieldError> {
    let mounts = list_at(container, "volumeMounts");
    let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut errors = Vec::new();
    for (i, device) in list_at(container, "volumeDevices").iter().enumerate() {
        let (name_at, path_at) = (path.index(i).child("name"), path.index(i).child("devicePath"));
        let (name, target) = (str_at(device, "name"), str_at(device, "devicePath"));
        if name.is_empty() {
            errors.push(FieldError::required(&name_at, ""));
        }
        if names.contains(name) {
            errors.push(FieldError::invalid(&name_at, name, "must be unique"));
        }
        match volumes.get(name) {
            None => errors.push(FieldError::not_found(&name_at, name)),
            Some(v) if v.get("persistentVolumeClaim").is_none() && v.get("ephemeral").is_none() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&name_at, name, detail));
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.push(FieldError::required(&path_at, ""));
        }
        if paths.contains(target) {
            errors.push(FieldError::invalid(&path_at, target, "must be unique"));
        }
        if sources::no_way_out(target, &path_at).is_some() {
            errors.push(FieldError::invalid(&path_at, target, "can not contain backsteps ('..')"));
        } else {
            paths.insert(target);
        }
        if mounts.iter().any(|m| str_at(m, "name") == name) {
            errors.push(FieldError::invalid(&name_at, name, "must not already exist in volumeMounts"));
        }
        if mounts.iter().any(|m| str_at(m, "mountPath") == target) {
            errors.push(FieldError::invalid(&path_at, target, "must not already exist as a path in volumeMounts"));
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
    errors
}
