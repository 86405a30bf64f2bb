//! Environment variables, and references to fields and resources (kubernetes `ValidateEnv`, `ValidateEnvFrom`).

use serde_json::Value;

use super::{sources::file, volumes::Volumes};
use crate::{
    field::{FieldError, Path},
    names, quantity,
    value::{list_at, str_at},
};

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What a `fieldPath` can be read as at all.
const READABLE: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const TOO_MANY: &str = "may not have more than one field specified at a time";

pub(super) fn validate(container: &Value, volumes: &Volumes, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, variable) in list_at(container, "env").iter().enumerate() {
        let at = path.child("env").index(i);
        let name = str_at(variable, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else {
            errors.extend(FieldError::each_invalid(&at.child("name"), name, names::env_name(name)));
        }
        if let Some(source) = variable.get("valueFrom") {
            errors.extend(value_from(str_at(variable, "value"), source, volumes, &at.child("valueFrom")));
        }
    }
    let all = path.child("envFrom");
    for (i, source) in list_at(container, "envFrom").iter().enumerate() {
        errors.extend(env_from(source, &all.index(i), &all));
    }
    errors
}

/// `all` is the list's path, which upstream shows where it is about the whole entry.
fn env_from(source: &Value, path: &Path, all: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let prefix = str_at(source, "prefix");
    if !prefix.is_empty() {
        errors.extend(FieldError::each_invalid(&path.child("prefix"), prefix, names::env_name(prefix)));
    }
    let mut found = 0;
    for kind in ["configMapRef", "secretRef"] {
        let Some(reference) = source.get(kind) else { continue };
        found += 1;
        let at = path.child(kind).child("name");
        match str_at(reference, "name") {
            "" => errors.push(FieldError::required(&at, "")),
            name => errors.extend(FieldError::each_invalid(&at, name, names::dns1123_subdomain(name))),
        }
    }
    match found {
        0 => errors.push(FieldError::invalid(all, "", "must specify one of: `configMapRef` or `secretRef`")),
        1 => {}
        _ => errors.push(FieldError::invalid(all, "", TOO_MANY)),
    }
    errors
}

fn value_from(value: &str, source: &Value, volumes: &Volumes, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut found = 0;
    for kind in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let Some(reference) = source.get(kind) else { continue };
        found += 1;
        let at = path.child(kind);
        errors.extend(match kind {
            "fieldRef" => field_ref(reference, FIELDS, &at),
            "resourceFieldRef" => resource_ref(reference, false, &at),
            "fileKeyRef" => file_ref(reference, volumes, &at),
            _ => key_ref(reference, &at),
        });
    }
    if found == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(FieldError::invalid(path, "", detail));
    } else if !value.is_empty() {
        errors.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if found > 1 {
        errors.push(FieldError::invalid(path, "", TOO_MANY));
    }
    errors
}

fn key_ref(reference: &Value, path: &Path) -> Vec<FieldError> {
    let name = str_at(reference, "name");
    let mut errors = FieldError::each_invalid(&path.child("name"), name, names::dns1123_subdomain(name));
    let at = path.child("key");
    match str_at(reference, "key") {
        "" => errors.push(FieldError::required(&at, "")),
        key => errors.extend(FieldError::each_invalid(&at, key, names::config_key(key))),
    }
    errors
}

/// KEP-3721: a variable out of a file that an init container wrote.
fn file_ref(reference: &Value, volumes: &Volumes, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match str_at(reference, "key") {
        "" => errors.push(FieldError::required(&path.child("key"), "")),
        key => errors.extend(FieldError::each_invalid(&path.child("key"), key, names::env_name(key))),
    }
    match str_at(reference, "path") {
        "" => errors.push(FieldError::required(&path.child("path"), "")),
        text => errors.extend(file(text, &path.child("path"))),
    }
    let at = path.child("volumeName");
    match str_at(reference, "volumeName") {
        "" => errors.push(FieldError::required(&at, "")),
        name if !volumes.contains_key(name) => errors.push(FieldError::not_found(&at, name)),
        name if volumes[name].get("emptyDir").is_none() => {
            errors.push(FieldError::invalid(&at, name, "referenced volume must be of type emptyDir"));
        }
        _ => {}
    }
    errors
}

/// A `fieldRef`, to one of `supported` or to one label or annotation.
pub(super) fn field_ref(reference: &Value, supported: &[&str], path: &Path) -> Vec<FieldError> {
    let field = str_at(reference, "fieldPath");
    let version = str_at(reference, "apiVersion");
    if version.is_empty() {
        return vec![FieldError::required(&path.child("apiVersion"), "")];
    }
    let at = path.child("fieldPath");
    if field.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let unreadable = |why: String| vec![FieldError::invalid(&at, field, format!("error converting fieldPath: {why}"))];
    if version != "v1" {
        return unreadable(format!("unsupported pod version: {version}"));
    }
    match field.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        Some((map @ ("metadata.annotations" | "metadata.labels"), key)) => {
            let key = if map == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
            FieldError::each_invalid(path, &key, names::qualified_name(&key))
        }
        Some((map, _)) if READABLE.contains(&map) => {
            unreadable(format!("field label does not support subscript: {field}"))
        }
        _ if !READABLE.contains(&field) => unreadable(format!("field label not supported: {field}")),
        _ if supported.contains(&field) => Vec::new(),
        _ => vec![FieldError::not_supported(&at, field, supported)],
    }
}

/// A `resourceFieldRef`; in a volume it names the container.
pub(super) fn resource_ref(reference: &Value, in_volume: bool, path: &Path) -> Vec<FieldError> {
    let resource = str_at(reference, "resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.starts_with(prefix));
    let mut errors = Vec::new();
    if in_volume && str_at(reference, "containerName").is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.push(FieldError::not_supported(&path.child("resource"), resource, RESOURCES));
    }
    errors.extend(divisor(reference, resource, path));
    errors
}

fn divisor(reference: &Value, resource: &str, path: &Path) -> Option<FieldError> {
    const BYTES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let divisor = quantity::from_json(reference.get("divisor")?).ok().filter(|q| !q.is_zero())?.to_string();
    let (known, what): (&[&str], _) = match resource.split_once('.').map(|(_, name)| name)? {
        "cpu" => (&["1m", "1"], "cpu"),
        "memory" => (BYTES, "memory"),
        "ephemeral-storage" => (BYTES, "local ephemeral storage"),
        name if name.starts_with("hugepages-") => (BYTES, "hugepages"),
        _ => return None,
    };
    let listed = if what == "cpu" { known.join(" and ") } else { known.join(", ") };
    (!known.contains(&divisor.as_str())).then(|| {
        let detail = format!("only divisor's values {listed} are supported with the {what} resource");
        FieldError::invalid(&path.child("divisor"), resource, detail)
    })
}
