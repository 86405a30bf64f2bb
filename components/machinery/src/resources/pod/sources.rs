//! Volume sources that pods and PersistentVolumes share (kubernetes `validateVolumeSource`, `ValidatePersistentVolumeSpec`).
//!
//! Paths and texts are upstream's even where they look odd.

use serde_json::Value;

use super::ip::host_port;
use crate::{
    field::{FieldError, Path},
    names,
    value::{bool_at, int_at, list_at, map_at, str_at},
};

const RELATIVE: &str = "must be a relative path";
const ABSOLUTE: &str = "must be an absolute path";
const PARTITIONS: &str = "must be between 1 and 255, inclusive";
const LUNS: &str = "must be between 0 and 255, inclusive";

/// Whose source it is: volumes of the cluster name the namespaces of their secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::resources) enum Owner {
    Pod,
    Cluster,
}

pub(super) fn required(source: &Value, field: &str, path: &Path) -> Option<FieldError> {
    str_at(source, field).is_empty().then(|| FieldError::required(&path.child(field), ""))
}

pub(super) fn all_required(source: &Value, fields: &[&str], path: &Path) -> Vec<FieldError> {
    fields.iter().filter_map(|field| required(source, field, path)).collect()
}

/// Checks a source of a kind that both have; others have nothing that could be wrong here.
pub(in crate::resources) fn check(kind: &str, source: &Value, owner: Owner, path: &Path) -> Vec<FieldError> {
    match kind {
        "hostPath" => host_path(source, path),
        "gcePersistentDisk" => disk(source, "pdName", path),
        "awsElasticBlockStore" => disk(source, "volumeID", path),
        "nfs" => nfs(source, path),
        "iscsi" => iscsi(source, owner, path),
        "glusterfs" => glusterfs(source, owner, path),
        "flocker" => flocker(source, path),
        "rbd" => {
            let mut errors: Vec<FieldError> = monitors(source, path).into_iter().collect();
            errors.extend(required(source, "image", path));
            errors
        }
        "cephfs" => monitors(source, path).into_iter().collect(),
        "cinder" => {
            let mut errors = all_required(source, &["volumeID"], path);
            errors.extend(secret(source, owner, path));
            errors
        }
        "quobyte" => quobyte(source, path),
        "fc" => fibre_channel(source, path),
        "flexVolume" => flex(source, path),
        "azureFile" => azure_file(source, owner, path),
        "azureDisk" => azure_disk(source, path),
        "vsphereVolume" => all_required(source, &["volumePath"], path),
        "photonPersistentDisk" => all_required(source, &["pdID"], path),
        "portworxVolume" => all_required(source, &["volumeID"], path),
        "scaleIO" => all_required(source, &["gateway", "system", "volumeName"], path),
        "storageos" => storage_os(source, owner, path),
        _ => Vec::new(),
    }
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

fn disk(source: &Value, id: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &[id], path);
    if let Some(number) = int_at(source, "partition").filter(|n| !(0..=255).contains(n)) {
        errors.push(FieldError::invalid(&path.child("partition"), number, PARTITIONS));
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

/// Whether an iSCSI name keeps to the form that its first three letters announce; `None` if they announce none.
fn initiator_form(name: &str) -> Option<bool> {
    let numbered = |rest: Option<&str>, length: usize| {
        rest.is_some_and(|rest| rest.len() == length + 1 && rest[1..].bytes().all(|c| c.is_ascii_alphanumeric()))
    };
    if let Some(rest) = name.strip_prefix("iqn") {
        Some(qualified_initiator(rest))
    } else if name.starts_with("eui") && name.is_ascii() {
        Some(numbered(name.strip_prefix("eui"), 16))
    } else if name.starts_with("naa") && name.is_ascii() {
        Some(numbered(name.strip_prefix("naa"), 32))
    } else {
        None
    }
}

/// `.YYYY-MM.` a reversed domain, `:` and a name, after `iqn`.
fn qualified_initiator(rest: &str) -> bool {
    let mut parts = rest.splitn(3, '.');
    let (first, date, named) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let dated = date.split_once('-').is_some_and(|(year, month)| {
        year.len() == 4 && month.len() == 2 && [year, month].iter().all(|n| n.bytes().all(|c| c.is_ascii_digit()))
    });
    let domain_char = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    let authority = named.split_once(':').is_some_and(|(domain, name)| {
        !domain.is_empty()
            && domain.bytes().all(domain_char)
            && !name.is_empty()
            && !name.chars().any(|c| ",;*&$|".contains(c) || c.is_ascii_whitespace())
    });
    first == Some("") && dated && authority
}

fn iscsi(source: &Value, owner: Owner, path: &Path) -> Vec<FieldError> {
    const FORM: &str = "must be valid format";
    const START: &str = "must be valid format starting with iqn, eui, or naa";
    let start = if owner == Owner::Pod { START } else { FORM };
    let mut errors = all_required(source, &["targetPortal", "iqn"], path);
    let name = str_at(source, "iqn");
    match initiator_form(name) {
        _ if name.is_empty() => {}
        None => errors.push(FieldError::invalid(&path.child("iqn"), name, start)),
        Some(false) => errors.push(FieldError::invalid(&path.child("iqn"), name, FORM)),
        Some(true) => {}
    }
    let number = int_at(source, "lun").unwrap_or(0);
    if !(0..=255).contains(&number) {
        errors.push(FieldError::invalid(&path.child("lun"), number, LUNS));
    }
    if (bool_at(source, "chapAuthDiscovery") || bool_at(source, "chapAuthSession")) && source.get("secretRef").is_none()
    {
        errors.push(FieldError::required(&path.child("secretRef"), ""));
    }
    if owner == Owner::Cluster
        && let Some(secret) = source.get("secretRef")
    {
        errors.extend(required(secret, "name", &path.child("secretRef")));
    }
    if let Some(name) = source.get("initiatorName").and_then(Value::as_str) {
        let at = path.child("initiatorname");
        match initiator_form(name) {
            None => errors.push(FieldError::invalid(&at, name, start)),
            Some(false) => errors.push(FieldError::invalid(&at, name, FORM)),
            Some(true) => {}
        }
    }
    errors
}

fn glusterfs(source: &Value, owner: Owner, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &["endpoints", "path"], path);
    if owner == Owner::Cluster
        && let Some(namespace) = source.get("endpointsNamespace").and_then(Value::as_str)
    {
        let at = path.child("endpointsNamespace");
        if namespace.is_empty() {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.push(FieldError::invalid(&at, namespace, detail));
        } else {
            errors.extend(FieldError::each_invalid(&at, namespace, names::dns1123_label(namespace)));
        }
    }
    errors
}

fn flocker(source: &Value, path: &Path) -> Vec<FieldError> {
    let (name, uuid) = (str_at(source, "datasetName"), str_at(source, "datasetUUID"));
    let mut errors = Vec::new();
    if name.is_empty() && uuid.is_empty() {
        errors.push(FieldError::required(path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(path, "resource", detail));
    }
    if name.contains('/') {
        errors.push(FieldError::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
    errors
}

fn monitors(source: &Value, path: &Path) -> Option<FieldError> {
    list_at(source, "monitors").is_empty().then(|| FieldError::required(&path.child("monitors"), ""))
}

/// The secret a source may name; one of the cluster needs a namespace.
fn secret(source: &Value, owner: Owner, path: &Path) -> Vec<FieldError> {
    let Some(reference) = source.get("secretRef") else { return Vec::new() };
    let fields: &[&str] = if owner == Owner::Pod { &["name"] } else { &["name", "namespace"] };
    all_required(reference, fields, &path.child("secretRef"))
}

fn quobyte(source: &Value, path: &Path) -> Vec<FieldError> {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = str_at(source, "registry");
    let at = path.child("registry");
    let mut errors = Vec::new();
    if registry.is_empty() {
        errors.push(FieldError::required(&at, PAIRS));
    } else if str_at(source, "tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(&path.child("tenant"), detail));
    } else {
        let bad = registry.split(',').filter(|pair| !host_port(pair));
        errors.extend(bad.map(|_| FieldError::invalid(&at, registry, PAIRS)));
    }
    errors.extend(required(source, "volume", path));
    errors
}

fn fibre_channel(source: &Value, path: &Path) -> Vec<FieldError> {
    let (targets, ids) = (list_at(source, "targetWWNs"), list_at(source, "wwids"));
    let at = path.child("targetWWNs");
    let mut errors = Vec::new();
    if targets.is_empty() && ids.is_empty() {
        errors.push(FieldError::required(&at, "must specify either targetWWNs or wwids, but not both"));
    }
    if !targets.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(FieldError::invalid(&at, targets.to_vec(), detail));
    }
    if !targets.is_empty() {
        match int_at(source, "lun") {
            None => {
                errors.push(FieldError::required(&path.child("lun"), "lun is required if targetWWNs is specified"));
            }
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.push(FieldError::invalid(&path.child("lun"), lun, LUNS));
            }
            Some(_) => {}
        }
    }
    errors
}

fn flex(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &["driver"], path);
    for key in map_at(source, "options").into_iter().flat_map(serde_json::Map::keys) {
        let namespace = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&path.child("options").key(key), key.as_str(), detail));
        }
    }
    errors
}

fn azure_file(source: &Value, owner: Owner, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &["secretName", "shareName"], path);
    if owner == Owner::Cluster && source.get("secretNamespace").and_then(Value::as_str) == Some("") {
        errors.push(FieldError::required(&path.child("secretNamespace"), ""));
    }
    errors
}

fn azure_disk(source: &Value, path: &Path) -> Vec<FieldError> {
    const CACHING: &[&str] = &["None", "ReadOnly", "ReadWrite"];
    const KINDS: &[&str] = &["Dedicated", "Managed", "Shared"];
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let mut errors = all_required(source, &["diskName", "diskURI"], path);
    for (field, known) in [("cachingMode", CACHING), ("kind", KINDS)] {
        if let Some(value) = source.get(field).and_then(Value::as_str).filter(|v| !known.contains(v)) {
            errors.push(FieldError::not_supported(&path.child(field), value, known));
        }
    }
    let uri = str_at(source, "diskURI");
    let wanted = match source.get("kind").and_then(Value::as_str) {
        Some("Managed") if !uri.starts_with("/subscriptions/") => Some(MANAGED),
        Some(kind) if kind != "Managed" && !uri.starts_with("https://") => Some(BLOB),
        _ => None,
    };
    errors.extend(wanted.map(|form| FieldError::not_supported(&path.child("diskURI"), uri, &[form])));
    errors
}

fn storage_os(source: &Value, owner: Owner, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &["volumeName"], path);
    for field in ["volumeName", "volumeNamespace"] {
        let name = str_at(source, field);
        if !name.is_empty() {
            errors.extend(FieldError::each_invalid(&path.child(field), name, names::dns1123_label(name)));
        }
    }
    errors.extend(secret(source, owner, path));
    errors
}

/// The name of a CSI driver (`ValidateCSIDriverName`).
pub(in crate::resources) fn driver_name(name: &str, path: &Path) -> Vec<FieldError> {
    const MAX: usize = 63;
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if name.len() > MAX {
        errors.push(FieldError::too_long(path, MAX));
    }
    errors.extend(FieldError::each_invalid(path, name, names::dns1123_subdomain(&name.to_lowercase())));
    errors
}

pub(in crate::resources) fn no_way_out(text: &str, path: &Path) -> Option<FieldError> {
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

/// As `below`, and not hidden behind two dots (`ValidateLocalNonReservedPath`).
pub(super) fn file(text: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = below(text, path);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_have_upstreams_texts() {
        let at = Path::new("v");
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "hostPath",
                json!({"path": "/a/../b", "type": "x"}),
                &[
                    "v.path: Invalid value: \"/a/../b\": must not contain '..'",
                    "v.type: Unsupported value: \"x\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
                ],
            ),
            (
                "gcePersistentDisk",
                json!({"partition": 300}),
                &["v.pdName: Required value", "v.partition: Invalid value: 300: must be between 1 and 255, inclusive"],
            ),
            (
                "nfs",
                json!({"server": "s"}),
                &["v.path: Required value", "v.path: Invalid value: \"\": must be an absolute path"],
            ),
            ("iscsi", json!({"targetPortal": "p", "iqn": "iqn.2015-02.example.com:test"}), &[]),
            (
                "iscsi",
                json!({"targetPortal": "p", "iqn": "iqn.2015-02.example.com", "lun": 256, "initiatorName": "x"}),
                &[
                    "v.iqn: Invalid value: \"iqn.2015-02.example.com\": must be valid format",
                    "v.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                    "v.initiatorname: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa",
                ],
            ),
            (
                "fc",
                json!({"targetWWNs": ["a"], "wwids": ["b"]}),
                &[
                    "v.targetWWNs: Invalid value: [\"a\"]: targetWWNs and wwids can not be specified simultaneously",
                    "v.lun: Required value: lun is required if targetWWNs is specified",
                ],
            ),
            (
                "flexVolume",
                json!({"driver": "d", "options": {"x.k8s.io/a": "b"}}),
                &[
                    "v.options[x.k8s.io/a]: Invalid value: \"x.k8s.io/a\": kubernetes.io and k8s.io namespaces are reserved",
                ],
            ),
            (
                "azureDisk",
                json!({"diskName": "d", "diskURI": "u", "kind": "Managed"}),
                &[
                    "v.diskURI: Unsupported value: \"u\": supported values: \"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}\"",
                ],
            ),
            (
                "quobyte",
                json!({"registry": "a:1,b", "volume": "v"}),
                &[
                    "v.registry: Invalid value: \"a:1,b\": must be a host:port pair or multiple pairs separated by commas",
                ],
            ),
        ];
        for (kind, source, wanted) in cases {
            let got: Vec<String> = check(kind, source, Owner::Pod, &at).iter().map(FieldError::to_string).collect();
            assert_eq!(&got, wanted, "{kind}");
        }
    }
}
