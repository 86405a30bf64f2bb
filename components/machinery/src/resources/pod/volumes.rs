//! Validation of a pod's volumes (kubernetes `ValidateVolumes`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{containers::field_ref_problem, resources};
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{bool_at, get, int_at, list_at, str_at},
};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const RELATIVE: &str = "must be a relative path";
const ABSOLUTE: &str = "must be an absolute path";

pub(super) fn validate(spec: &Value, pod_name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, volume) in list_at(spec, "volumes").iter().enumerate() {
        let at = path.index(i);
        let name = str_at(volume, "name");
        let mut found = sources(volume, pod_name, &at);
        if name.is_empty() {
            found.push(FieldError::required(&at.child("name"), ""));
        } else {
            found.extend(
                names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)),
            );
        }
        if !name.is_empty() && !seen.insert(name) {
            found.push(FieldError::duplicate(&at.child("name"), name));
        }
        errors.extend(found);
    }
    errors
}

/// Upstream's order: the first source that is set is checked, every other one is too many.
const KINDS: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "persistentVolumeClaim",
    "projected",
    "scaleIO",
    "storageos",
    "csi",
    "ephemeral",
    "image",
];

fn sources(volume: &Value, pod_name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let found: Vec<&str> = KINDS.iter().copied().filter(|kind| volume.get(*kind).is_some()).collect();
    if found.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    for (i, kind) in found.into_iter().enumerate() {
        let at = path.child(kind);
        if i > 0 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
            continue;
        }
        errors.extend(one_source(kind, &volume[kind], &at));
        // the claim that will be made is named after both
        let claim = format!("{pod_name}-{}", str_at(volume, "name"));
        if kind == "ephemeral" && !pod_name.is_empty() && !names::dns1123_subdomain(&claim).is_empty() {
            let detail = format!("PVC name \"{claim}\": {}", names::dns1123_subdomain(&claim).join("; "));
            errors.push(FieldError::invalid(&path.child("name"), str_at(volume, "name"), detail));
        }
    }
    errors
}

fn required(source: &Value, field: &str, path: &Path) -> Option<FieldError> {
    str_at(source, field).is_empty().then(|| FieldError::required(&path.child(field), ""))
}

fn all_required(source: &Value, fields: &[&str], path: &Path) -> Vec<FieldError> {
    fields.iter().filter_map(|field| required(source, field, path)).collect()
}

fn one_source(kind: &str, source: &Value, path: &Path) -> Vec<FieldError> {
    match kind {
        "emptyDir" => empty_dir(source, path),
        "hostPath" => host_path(source, path),
        "secret" => with_files(source, "secretName", path),
        "configMap" => with_files(source, "name", path),
        "downwardAPI" => {
            let mut errors: Vec<FieldError> = mode(source, "defaultMode", path).into_iter().collect();
            errors.extend(downward_items(source, path));
            errors
        }
        "projected" => projected(source, path),
        "persistentVolumeClaim" => all_required(source, &["claimName"], path),
        "nfs" => nfs(source, path),
        "iscsi" => iscsi(source, path),
        "csi" => csi(source, path),
        "ephemeral" => ephemeral(source, path),
        "image" => image(source, path),
        "gitRepo" => {
            let mut errors = all_required(source, &["repository"], path);
            errors.extend(below(str_at(source, "directory"), &path.child("directory")));
            errors
        }
        "glusterfs" => all_required(source, &["endpoints", "path"], path),
        "rbd" => {
            let mut errors = Vec::new();
            if list_at(source, "monitors").is_empty() {
                errors.push(FieldError::required(&path.child("monitors"), ""));
            }
            errors.extend(required(source, "image", path));
            errors
        }
        "cephfs" if list_at(source, "monitors").is_empty() => {
            vec![FieldError::required(&path.child("monitors"), "")]
        }
        "gcePersistentDisk" => {
            let mut errors = all_required(source, &["pdName"], path);
            errors.extend(partition(source, path));
            errors
        }
        "awsElasticBlockStore" => {
            let mut errors = all_required(source, &["volumeID"], path);
            errors.extend(partition(source, path));
            errors
        }
        "cinder" | "portworxVolume" => all_required(source, &["volumeID"], path),
        "flexVolume" => all_required(source, &["driver"], path),
        "azureFile" => all_required(source, &["secretName", "shareName"], path),
        "azureDisk" => all_required(source, &["diskName", "diskURI"], path),
        "vsphereVolume" => all_required(source, &["volumePath"], path),
        "photonPersistentDisk" => all_required(source, &["pdID"], path),
        "scaleIO" => all_required(source, &["gateway", "system", "volumeName"], path),
        "quobyte" => all_required(source, &["registry", "volume"], path),
        _ => Vec::new(),
    }
}

fn partition(source: &Value, path: &Path) -> Option<FieldError> {
    let number = int_at(source, "partition")?;
    (!(0..=255).contains(&number))
        .then(|| FieldError::invalid(&path.child("partition"), number, "must be between 0 and 255, inclusive"))
}

fn empty_dir(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(limit) = get(source, "sizeLimit") {
        let at = path.child("sizeLimit");
        if resources::amount(limit, &at).is_err() {
            errors.push(FieldError::forbidden(&at, "SizeLimit field must be a valid resource quantity"));
        }
    }
    let medium = str_at(source, "medium");
    if !matches!(medium, "" | "Memory" | "HugePages") && !medium.starts_with("HugePages-") {
        errors.push(FieldError::not_supported(&path.child("medium"), medium, &["", "HugePages", "Memory"]));
    }
    errors
}

fn host_path(source: &Value, path: &Path) -> Vec<FieldError> {
    const TYPES: &[&str] =
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let target = str_at(source, "path");
    if target.is_empty() {
        return vec![FieldError::required(&path.child("path"), "")];
    }
    let mut errors: Vec<FieldError> = no_way_out(target, &path.child("path")).into_iter().collect();
    let kind = str_at(source, "type");
    if !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("type"), kind, TYPES));
    }
    errors
}

fn nfs(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &["server", "path"], path);
    let target = str_at(source, "path");
    if !target.starts_with('/') {
        errors.push(FieldError::invalid(&path.child("path"), target, ABSOLUTE));
    }
    errors
}

fn iscsi(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &["targetPortal", "iqn"], path);
    let name = str_at(source, "iqn");
    if !name.is_empty() && !["iqn.", "eui.", "naa."].iter().any(|p| name.starts_with(p)) {
        errors.push(FieldError::invalid(&path.child("iqn"), name, "must be valid format"));
    }
    let number = int_at(source, "lun").unwrap_or(0);
    if !(0..=255).contains(&number) {
        errors.push(FieldError::invalid(&path.child("lun"), number, "must be between 0 and 255, inclusive"));
    }
    if (bool_at(source, "chapAuthDiscovery") || bool_at(source, "chapAuthSession")) && source.get("secretRef").is_none()
    {
        errors.push(FieldError::required(&path.child("secretRef"), ""));
    }
    errors
}

/// The name of a CSI driver (`ValidateCSIDriverName`).
fn driver(name: &str, path: &Path) -> Vec<FieldError> {
    const MAX: usize = 63;
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > MAX {
        errors.push(FieldError::too_long(path, MAX));
    }
    errors
        .extend(names::dns1123_subdomain(&name.to_lowercase()).into_iter().map(|p| FieldError::invalid(path, name, p)));
    errors
}

fn csi(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = driver(str_at(source, "driver"), &path.child("driver"));
    if let Some(secret) = source.get("nodePublishSecretRef") {
        errors.extend(required(secret, "name", &path.child("nodePublishSecretRef")));
    }
    errors
}

fn ephemeral(source: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("volumeClaimTemplate");
    let Some(template) = source.get("volumeClaimTemplate") else { return vec![FieldError::required(&at, "")] };
    let mut errors = meta::labels(get(template, "metadata.labels"), &at.child("metadata").child("labels"));
    errors
        .extend(crate::resources::storage::claim_spec(template.get("spec").unwrap_or(&Value::Null), &at.child("spec")));
    errors
}

fn image(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &["reference"], path);
    errors.extend(meta::optional_one_of(source, "pullPolicy", path, &["Always", "IfNotPresent", "Never"]));
    errors
}

pub(super) fn mode(source: &Value, field: &str, path: &Path) -> Option<FieldError> {
    let mode = int_at(source, field)?;
    (!(0..=0o777).contains(&mode)).then(|| FieldError::invalid(&path.child(field), mode, MODE))
}

fn no_way_out(text: &str, path: &Path) -> Option<FieldError> {
    text.split('/').any(|part| part == "..").then(|| FieldError::invalid(path, text, "must not contain '..'"))
}

/// A path below something else: not absolute, no way out (`validateLocalDescendingPath`).
pub(super) fn below(text: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, RELATIVE));
    }
    errors.extend(no_way_out(text, path));
    errors
}

/// As `below`, and not hidden behind two dots (`validateLocalNonReservedPath`).
fn file(text: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = below(text, path);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
    errors
}

fn with_files(source: &Value, name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &[name], path);
    errors.extend(mode(source, "defaultMode", path));
    errors.extend(items(source, path));
    errors
}

fn items(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, item) in list_at(source, "items").iter().enumerate() {
        let at = path.child("items").index(i);
        errors.extend(required(item, "key", &at));
        errors.extend(required(item, "path", &at));
        errors.extend(file(str_at(item, "path"), &at.child("path")));
        errors.extend(mode(item, "mode", &at));
    }
    errors
}

fn downward_items(source: &Value, path: &Path) -> Vec<FieldError> {
    const FIELDS: &[&str] =
        &["metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"];
    let mut errors = Vec::new();
    for (i, item) in list_at(source, "items").iter().enumerate() {
        let at = path.child("items").index(i);
        errors.extend(required(item, "path", &at));
        errors.extend(file(str_at(item, "path"), &at.child("path")));
        match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(field), other) => {
                errors.extend(field_ref_problem(field, FIELDS, &at.child("fieldRef")));
                if other.is_some() {
                    let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                    errors.push(FieldError::invalid(&at, "resource", detail));
                }
            }
            (None, Some(resource)) => {
                for field in ["containerName", "resource"] {
                    errors.extend(required(resource, field, &at.child("resourceFieldRef")));
                }
            }
            (None, None) => errors.push(FieldError::required(&at, "one of fieldRef and resourceFieldRef is required")),
        }
        errors.extend(mode(item, "mode", &at));
    }
    errors
}

fn projected(source: &Value, path: &Path) -> Vec<FieldError> {
    const PARTS: &[&str] =
        &["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
    let mut errors: Vec<FieldError> = mode(source, "defaultMode", path).into_iter().collect();
    let mut paths = BTreeSet::new();
    for (i, part) in list_at(source, "sources").iter().enumerate() {
        let at = path.child("sources").index(i);
        let found: Vec<&str> = PARTS.iter().copied().filter(|kind| part.get(*kind).is_some()).collect();
        for (n, kind) in found.into_iter().enumerate() {
            let at = at.child(kind);
            if n > 0 {
                let detail = "may not specify more than 1 volume type per source";
                errors.push(FieldError::forbidden(&at, detail));
                continue;
            }
            errors.extend(projection(kind, &part[kind], &at));
            for taken in taken_paths(&part[kind]) {
                if !paths.insert(taken.to_owned()) {
                    let detail = "conflicting duplicate paths";
                    errors.push(FieldError::invalid(path, taken, detail));
                }
            }
        }
    }
    errors
}

fn taken_paths(part: &Value) -> Vec<&str> {
    let own = str_at(part, "path");
    let items = list_at(part, "items").iter().map(|item| str_at(item, "path"));
    items.chain(std::iter::once(own)).filter(|p| !p.is_empty()).collect()
}

fn projection(kind: &str, part: &Value, path: &Path) -> Vec<FieldError> {
    const TOKEN_MIN: i64 = 600;
    const TOKEN_MAX: i64 = 1 << 32;
    let mut errors = Vec::new();
    match kind {
        "secret" | "configMap" => {
            errors.extend(required(part, "name", path));
            errors.extend(items(part, path));
        }
        "downwardAPI" => errors.extend(downward_items(part, path)),
        "serviceAccountToken" => {
            let at = path.child("expirationSeconds");
            match int_at(part, "expirationSeconds") {
                Some(s) if s < TOKEN_MIN => {
                    errors.push(FieldError::invalid(&at, s, "may not specify a duration less than 10 minutes"));
                }
                Some(s) if s > TOKEN_MAX => {
                    errors.push(FieldError::invalid(&at, s, "may not specify a duration larger than 2^32 seconds"));
                }
                _ => {}
            }
            errors.extend(required(part, "path", path));
            errors.extend(file(str_at(part, "path"), &path.child("path")));
        }
        "clusterTrustBundle" => {
            errors.extend(required(part, "path", path));
            errors.extend(file(str_at(part, "path"), &path.child("path")));
            let (name, signer) = (str_at(part, "name"), str_at(part, "signerName"));
            match (name.is_empty(), signer.is_empty()) {
                (true, true) => {
                    errors.push(FieldError::required(path, "either name or signerName must be specified"));
                }
                (false, false) => {
                    let detail = "only one of name and signerName may be used";
                    errors.push(FieldError::invalid(path, part.clone(), detail));
                }
                _ => {}
            }
        }
        _ => errors.extend(pod_certificate(part, path)),
    }
    errors
}

/// KEP-4317.
fn pod_certificate(part: &Value, path: &Path) -> Vec<FieldError> {
    const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    const FILES: &[&str] = &["credentialBundlePath", "keyPath", "certificateChainPath"];
    const HOUR: i64 = 3600;
    const LONGEST: i64 = 91 * 24 * HOUR;
    let mut errors: Vec<FieldError> = required(part, "signerName", path).into_iter().collect();
    match str_at(part, "keyType") {
        "" => errors.extend(required(part, "keyType", path)),
        kind if !KEY_TYPES.contains(&kind) => {
            errors.push(FieldError::not_supported(&path.child("keyType"), kind, KEY_TYPES));
        }
        _ => {}
    }
    let at = path.child("maxExpirationSeconds");
    match int_at(part, "maxExpirationSeconds") {
        Some(s) if s < HOUR => {
            let detail = format!("if provided, maxExpirationSeconds must be greater than or equal to {HOUR}");
            errors.push(FieldError::invalid(&at, s, detail));
        }
        Some(s) if s > LONGEST => {
            let detail = format!("if provided, maxExpirationSeconds must be less than or equal to {LONGEST}");
            errors.push(FieldError::invalid(&at, s, detail));
        }
        _ => {}
    }
    let files: Vec<&str> = FILES.iter().copied().filter(|name| !str_at(part, name).is_empty()).collect();
    if files.is_empty() {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(FieldError::required(path, detail));
    }
    errors.extend(files.into_iter().flat_map(|name| file(str_at(part, name), &path.child(name))));
    errors
}
