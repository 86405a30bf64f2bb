//! PersistentVolumes and claims (kubernetes `pkg/apis/core/validation`).

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names, quantity,
    resources::{meta, pod},
    value::{default_to, get, list_at, object_mut, str_at, with_mut},
};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const MODES: &[&str] = &["Block", "Filesystem"];
/// Fields of a PersistentVolume's spec that are no volume source.
const NO_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn access_modes(spec: &Value, path: &Path) -> Vec<FieldError> {
    let modes = list_at(spec, "accessModes");
    let at = path.child("accessModes");
    if modes.is_empty() {
        return vec![FieldError::required(&at, "at least 1 access mode is required")];
    }
    let mut errors: Vec<FieldError> = modes
        .iter()
        .filter_map(Value::as_str)
        .filter(|m| !ACCESS_MODES.contains(m))
        .map(|m| FieldError::not_supported(&at, m, ACCESS_MODES))
        .collect();
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        errors.push(FieldError::forbidden(&at, "may not use ReadWriteOncePod with other access modes"));
    }
    errors
}

/// A size that must be more than nothing.
fn positive(value: &Value, path: &Path) -> Option<FieldError> {
    match quantity::from_json(value) {
        Err(error) => Some(FieldError::invalid(path, value.clone(), error.to_string())),
        Ok(q) if q.sign() <= 0 => Some(FieldError::invalid(path, q.to_string(), "must be greater than zero")),
        Ok(_) => None,
    }
}

fn class_name(spec: &Value, path: &Path) -> Vec<FieldError> {
    let name = str_at(spec, "storageClassName");
    if name.is_empty() {
        return Vec::new();
    }
    names::dns1123_subdomain(name)
        .into_iter()
        .map(|p| FieldError::invalid(&path.child("storageClassName"), name, p))
        .collect()
}

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
    let mut errors = access_modes(spec, path);
    let at = path.child("resources");
    match get(spec, "resources.requests").and_then(|r| r.get("storage")) {
        None => errors.push(FieldError::required(&at.key("storage"), "")),
        Some(size) => errors.extend(positive(size, &at.key("storage"))),
    }
    errors.extend(class_name(spec, path));
    errors.extend(meta::optional_one_of(spec, "volumeMode", path, MODES));
    errors.extend(meta::label_selector(spec.get("selector"), &path.child("selector")));
    errors
}

/// Half bytes in a claim (`GetWarningsForPersistentVolumeClaimSpec`).
pub(in crate::resources) fn claim_spec_warnings(spec: &Value, path: &Path) -> Vec<String> {
    let lists = ["requests", "limits"].iter();
    let found = lists.filter_map(|list| {
        let amounts = get(spec, "resources").and_then(|r| r.get(*list));
        pod::fraction_warning(amounts, "storage", &path.child("resources").child(list))
    });
    found.collect()
}

pub(in crate::resources) fn claim_update(new: &Value, old: &Value) -> Vec<FieldError> {
    const DETAIL: &str =
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let mut errors = claim(new);
    let (mut after, before) =
        (new.get("spec").cloned().unwrap_or_default(), old.get("spec").cloned().unwrap_or_default());
    // binding sets the volume's name; a default class may be filled in later
    let mut may_set = vec!["volumeName"];
    if before.get("storageClassName").is_none() {
        may_set.push("storageClassName");
    }
    if let Some(map) = after.as_object_mut() {
        for field in may_set {
            if str_at(&before, field).is_empty() {
                match before.get(field) {
                    Some(value) => map.insert(field.into(), value.clone()),
                    None => map.remove(field),
                };
            }
        }
        if str_at(old, "status.phase") == "Bound" {
            for field in ["resources", "volumeAttributesClassName"] {
                match before.get(field) {
                    Some(value) => map.insert(field.into(), value.clone()),
                    None => map.remove(field),
                };
            }
        }
    }
    if after != before {
        errors.push(FieldError::forbidden(&Path::new("spec"), DETAIL));
    }
    errors.extend(no_shrinking(new, old));
    errors
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

fn source(spec: &Value) -> Vec<(&String, &Value)> {
    spec.as_object().into_iter().flatten().filter(|(k, _)| !NO_SOURCES.contains(&k.as_str())).collect()
}

pub(in crate::resources) fn volume(volume: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    let mut errors = access_modes(spec, &path);
    let at = path.child("capacity");
    match get(spec, "capacity").and_then(|c| c.get("storage")) {
        None => errors.push(FieldError::required(&at, "")),
        Some(size) => errors.extend(positive(size, &at.key("storage"))),
    }
    errors.extend(meta::optional_one_of(
        spec,
        "persistentVolumeReclaimPolicy",
        &path,
        &["Delete", "Recycle", "Retain"],
    ));
    errors.extend(meta::optional_one_of(spec, "volumeMode", &path, MODES));
    errors.extend(class_name(spec, &path));
    let sources = source(spec);
    if sources.is_empty() {
        errors.push(FieldError::required(&path, "must specify a volume type"));
    }
    errors.extend(
        sources
            .iter()
            .skip(1)
            .map(|(kind, _)| FieldError::forbidden(&path.child(kind), "may not specify more than 1 volume type")),
    );
    errors.extend(affinity(spec, &path));
    errors
}

fn affinity(spec: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("nodeAffinity");
    let mut errors = Vec::new();
    match get(spec, "nodeAffinity.required") {
        Some(required) => errors.extend(pod::node_selector(required, &at.child("required"))),
        None if spec.get("nodeAffinity").is_some() => {
            errors.push(FieldError::required(&at.child("required"), "must specify required node constraints"))
        }
        None => {}
    }
    if let Some(local) = spec.get("local") {
        if str_at(local, "path").is_empty() {
            errors.push(FieldError::required(&path.child("local").child("path"), ""));
        }
        if spec.get("nodeAffinity").is_none() {
            errors.push(FieldError::required(&at, "Local volume requires node affinity"));
        }
    }
    errors
}

pub(in crate::resources) fn volume_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = volume(new);
    let spec = |v: &Value| v.get("spec").cloned().unwrap_or_default();
    let (after, before) = (spec(new), spec(old));
    if source(&after) != source(&before) {
        errors.push(FieldError::forbidden(
            &Path::new("spec.persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        ));
    }
    if before.get("nodeAffinity").is_some() {
        errors.extend(meta::immutable(new, old, &["spec.nodeAffinity"]));
    }
    errors.extend(meta::immutable(new, old, &["spec.volumeMode"]));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_claim() -> Value {
        let mut c = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        claim_defaults(&mut c);
        c
    }

    #[test]
    fn claims() {
        assert!(claim(&new_claim()).is_empty());
        let texts: Vec<String> = claim(&json!({"spec": {}})).iter().map(FieldError::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value"
            ]
        );
        let mut bound = new_claim();
        bound["spec"]["volumeName"] = "pv".into();
        bound["spec"]["storageClassName"] = "local".into();
        assert!(claim_update(&bound, &new_claim()).is_empty());
        let mut moved = bound.clone();
        moved["spec"]["volumeName"] = "other".into();
        assert_eq!(claim_update(&moved, &bound).len(), 1);
        bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        let mut grown = bound.clone();
        grown["spec"]["resources"]["requests"]["storage"] = "2Gi".into();
        assert!(claim_update(&grown, &bound).is_empty());
        assert_eq!(
            claim_update(&bound, &{
                let mut g = grown.clone();
                g["status"]["capacity"]["storage"] = "2Gi".into();
                g
            })
            .len(),
            1
        );
    }

    #[test]
    fn volumes() {
        let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]}]}});
        let mut v = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": "/x"}, "nodeAffinity": affinity}});
        volume_defaults(&mut v);
        assert!(volume(&v).is_empty());
        let mut other = v.clone();
        other["spec"]["local"]["path"] = "/y".into();
        assert_eq!(volume_update(&other, &v).len(), 1);
        crate::value::remove(&mut other["spec"], "nodeAffinity");
        assert_eq!(volume(&other).len(), 1);
    }
}
