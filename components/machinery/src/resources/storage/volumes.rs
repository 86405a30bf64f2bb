//! PersistentVolumes (kubernetes `ValidatePersistentVolumeSpec`, `ValidatePersistentVolumeUpdate`).

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names, quantity,
    resources::{
        meta,
        pod::{self, sources},
    },
    value::{default_to, get, list_at, map_at, object_mut, str_at, with_mut},
};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const MODES: &[&str] = &["Block", "Filesystem"];
/// Kinds of sources in the order in which upstream visits them, with the path it gives to what is within.
const SOURCES: [(&str, &str); 22] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephfs"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];
const CSI_SECRETS: [&str; 5] = [
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
    "nodeStageSecretRef",
];

/// What is wrong with a name.
type NameRule = fn(&str) -> Vec<String>;

/// How the parts of a reference to a secret are named.
const SECRET_PARTS: [(&str, NameRule); 2] = [("name", names::dns1123_subdomain), ("namespace", names::dns1123_label)];

/// Modes that upstream knows, of which one wants to be alone.
pub(super) fn access_modes(spec: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("accessModes");
    let modes: Vec<&str> = list_at(spec, "accessModes").iter().filter_map(Value::as_str).collect();
    let unknown = modes.iter().filter(|mode| !ACCESS_MODES.contains(mode));
    let mut errors: Vec<FieldError> = unknown.map(|m| FieldError::not_supported(&at, *m, ACCESS_MODES)).collect();
    let known = |alone: bool| modes.iter().any(|m| ACCESS_MODES.contains(m) && (*m == "ReadWriteOncePod") == alone);
    if known(true) && known(false) {
        errors.push(FieldError::forbidden(&at, "may not use ReadWriteOncePod with other access modes"));
    }
    errors
}

/// A size that must be more than nothing.
pub(super) fn positive(value: &Value, path: &Path) -> Option<FieldError> {
    match quantity::from_json(value) {
        Err(error) => Some(FieldError::invalid(path, value.clone(), error.to_string())),
        Ok(q) if q.sign() <= 0 => Some(FieldError::invalid(path, q.to_string(), "must be greater than zero")),
        Ok(_) => None,
    }
}

pub(super) fn class_name(spec: &Value, field: &str, path: &Path) -> Vec<FieldError> {
    match str_at(spec, field) {
        "" => Vec::new(),
        name => FieldError::each_invalid(&path.child(field), name, names::dns1123_subdomain(name)),
    }
}

pub(in crate::resources) fn volume_defaults(volume: &mut Value) {
    let Some(spec) = object_mut(volume, "spec") else { return };
    default_to(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_to(spec, "volumeMode", "Filesystem");
    with_mut(spec, "hostPath", |path| {
        if let Some(map) = path.as_object_mut() {
            map.entry("type").or_insert_with(|| "".into());
        }
    });
}

pub(in crate::resources) fn volume_create(volume: &mut Value) {
    meta::set_status(volume, json!({"phase": "Pending"}));
}

fn source(spec: &Value) -> Vec<(&'static str, &'static str, &Value)> {
    let given = SOURCES.iter().filter_map(|(kind, path)| Some((*kind, *path, spec.get(*kind)?)));
    given.filter(|(_, _, source)| !source.is_null()).collect()
}

pub(in crate::resources) fn volume(volume: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    let mut errors = modes(spec, &path);
    errors.extend(capacity(spec, &path.child("capacity")));
    let policies = &["Delete", "Recycle", "Retain"];
    errors.extend(meta::optional_one_of(spec, "persistentVolumeReclaimPolicy", &path, policies));
    errors.extend(affinity(spec, &path.child("nodeAffinity")));
    errors.extend(one_source(spec, &path));
    if is_root(str_at(spec, "hostPath.path")) && str_at(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), detail));
    }
    errors.extend(class_name(spec, "storageClassName", &path));
    if let Some(mode) = spec.get("volumeMode").and_then(Value::as_str).filter(|mode| !MODES.contains(mode)) {
        errors.push(FieldError::not_supported(&path.child("volumeMode"), mode, MODES));
    }
    errors.extend(attributes(spec, &path));
    errors
}

fn modes(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if list_at(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), ""));
    }
    errors.extend(access_modes(spec, path));
    errors
}

/// The spec of a volume that stands in the attachment itself: one of a CSI driver, and little else.
pub(super) fn inline_volume(spec: &Value, path: &Path) -> Vec<FieldError> {
    const WHERE: &str = "in the context of inline volumes";
    let given = |field: &str| spec.get(field).is_some_and(|v| !v.is_null());
    let other = |field: &str, usual: &str| !matches!(str_at(spec, field), text if text.is_empty() || text == usual);
    let refused = |wrong: bool, field: &str, detail: &str| {
        wrong.then(|| FieldError::forbidden(&path.child(field), format!("{detail} {WHERE}")))
    };
    let no = "may not be specified";
    let mut errors = Vec::new();
    errors.extend(refused(given("claimRef"), "claimRef", no));
    errors.extend(refused(map_at(spec, "capacity").is_some_and(|c| !c.is_empty()), "capacity", no));
    if !given("csi") {
        errors.push(FieldError::required(&path.child("csi"), format!("has to be specified {WHERE}")));
    }
    errors.extend(modes(spec, path));
    let policy = "persistentVolumeReclaimPolicy";
    errors.extend(refused(other(policy, "Retain"), policy, "may only be Retain"));
    errors.extend(refused(given("nodeAffinity"), "nodeAffinity", no));
    errors.extend(one_source(spec, path));
    errors.extend(refused(!str_at(spec, "storageClassName").is_empty(), "storageClassName", no));
    let block = "may not specify volumeMode other than Filesystem";
    errors.extend(refused(other("volumeMode", "Filesystem"), "volumeMode", block));
    errors
}

/// Whether a path, made plain, is the root.
fn is_root(path: &str) -> bool {
    let mut depth = 0usize;
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        depth = if part == ".." { depth.saturating_sub(1) } else { depth + 1 };
    }
    path.starts_with('/') && depth == 0
}

fn capacity(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let amounts = map_at(spec, "capacity").filter(|c| !c.is_empty());
    if amounts.is_none() {
        errors.push(FieldError::required(path, ""));
    }
    match amounts {
        None => errors.push(FieldError::not_supported_shown(path, "null", &["storage"])),
        Some(amounts) if amounts.len() > 1 || !amounts.contains_key("storage") => {
            errors.push(FieldError::not_supported(path, amounts.clone(), &["storage"]));
        }
        Some(_) => {}
    }
    errors.extend(amounts.into_iter().flatten().filter_map(|(name, size)| positive(size, &path.key(name))));
    errors
}

fn affinity(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(affinity) = spec.get("nodeAffinity").filter(|a| !a.is_null()) else { return Vec::new() };
    match affinity.get("required").filter(|r| !r.is_null()) {
        Some(required) => pod::node_selector(required, &path.child("required")),
        None => vec![FieldError::required(&path.child("required"), "must specify required node constraints")],
    }
}

fn one_source(spec: &Value, path: &Path) -> Vec<FieldError> {
    let given = source(spec);
    let Some((kind, within, first)) = given.first() else {
        return vec![FieldError::required(path, "must specify a volume type")];
    };
    let at = path.child(within);
    let mut errors = match *kind {
        "local" => local(first, spec, path),
        "csi" => csi(first, &at),
        _ => sources::check(kind, first, sources::Owner::Cluster, &at),
    };
    let others = given.iter().skip(1);
    errors.extend(
        others.map(|(kind, ..)| FieldError::forbidden(&path.child(kind), "may not specify more than 1 volume type")),
    );
    errors
}

fn local(source: &Value, spec: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("local").child("path");
    let mut errors = Vec::new();
    match str_at(source, "path") {
        "" => errors.push(FieldError::required(&at, "")),
        target => errors.extend(sources::no_way_out(target, &at)),
    }
    if get(spec, "nodeAffinity.required").is_none() {
        errors.push(FieldError::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
    }
    errors
}

fn csi(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = sources::driver_name(str_at(source, "driver"), &path.child("driver"));
    if str_at(source, "volumeHandle").is_empty() {
        errors.push(FieldError::required(&path.child("volumeHandle"), ""));
    }
    for field in CSI_SECRETS {
        let Some(secret) = source.get(field).filter(|s| !s.is_null()) else { continue };
        let at = path.child(field);
        for (part, rule) in SECRET_PARTS {
            let (text, at) = (str_at(secret, part), at.child(part));
            match text {
                "" => errors.push(FieldError::required(&at, "")),
                _ => errors.extend(FieldError::each_invalid(&at, text, rule(text))),
            }
        }
    }
    errors
}

fn attributes(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(class) = spec.get("volumeAttributesClassName").and_then(Value::as_str) else { return Vec::new() };
    let mut errors = if class.is_empty() {
        vec![FieldError::required(&path.child("volumeAttributesClassName"), "an empty string is disallowed")]
    } else {
        class_name(spec, "volumeAttributesClassName", path)
    };
    if spec.get("csi").is_none() {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.push(FieldError::required(&path.child("csi"), detail));
    }
    errors
}

/// Upstream judges the whole volume twice, and what is found is told twice.
pub(in crate::resources) fn volume_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = volume(new);
    errors.extend(volume(new));
    let spec = |v: &Value| v.get("spec").cloned().unwrap_or_default();
    let (mut after, before) = (spec(new), spec(old));
    let spec_path = Path::new("spec");
    // a driver may learn of the secret it expands with
    if let Some(csi) = after.get_mut("csi")
        && get(&before, "csi").is_some_and(|old| old.get("controllerExpandSecretRef").is_none())
    {
        crate::value::remove(csi, "controllerExpandSecretRef");
    }
    if source(&after) != source(&before) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden(&spec_path.child("persistentvolumesource"), detail));
    }
    let part = |spec: &Value, field: &str| spec.get(field).cloned().unwrap_or_default();
    if part(&after, "volumeMode") != part(&before, "volumeMode") {
        let mode = part(&after, "volumeMode");
        errors.push(FieldError::invalid(&Path::new("volumeMode"), mode, "field is immutable"));
    }
    let affinity = part(&after, "nodeAffinity");
    if before.get("nodeAffinity").is_some() && affinity != part(&before, "nodeAffinity") {
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.push(FieldError::invalid(&Path::new("nodeAffinity"), affinity, detail));
    }
    let field = "volumeAttributesClassName";
    if after.get(field).is_none() && before.get(field).is_some() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(&spec_path.child(field), detail));
    }
    errors
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
