//! Validation of a pod's volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{containers::relative_path, resources};
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{get, int_at, list_at, str_at},
};

pub(super) fn validate(volumes: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        let name = str_at(volume, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else {
            errors.extend(
                names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)),
            );
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
        }
        errors.extend(sources(volume, &at));
    }
    errors
}

fn sources(volume: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kinds: Vec<(&String, &Value)> =
        volume.as_object().into_iter().flatten().filter(|(k, _)| *k != "name").collect();
    if kinds.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    for (i, (kind, source)) in kinds.into_iter().enumerate() {
        let at = path.child(kind);
        if i > 0 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
            continue;
        }
        errors.extend(source_errors(kind, source, &at));
    }
    errors
}

fn required(source: &Value, field: &str, path: &Path) -> Option<FieldError> {
    str_at(source, field).is_empty().then(|| FieldError::required(&path.child(field), ""))
}

fn source_errors(kind: &str, source: &Value, path: &Path) -> Vec<FieldError> {
    const HOST_TYPES: &[&str] =
        &["BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let mut errors = Vec::new();
    match kind {
        "emptyDir" => {
            if let Some(limit) = get(source, "sizeLimit") {
                errors.extend(resources::amount(limit, &path.child("sizeLimit")).err());
            }
        }
        "hostPath" => {
            let target = str_at(source, "path");
            errors.extend(required(source, "path", path));
            if target.split('/').any(|part| part == "..") {
                errors.push(FieldError::invalid(&path.child("path"), target, "must not contain '..'"));
            }
            errors.extend(meta::optional_one_of(source, "type", path, HOST_TYPES));
        }
        "configMap" => {
            errors.extend(required(source, "name", path));
            errors.extend(files(source, path));
        }
        "secret" => {
            errors.extend(required(source, "secretName", path));
            errors.extend(files(source, path));
        }
        "downwardAPI" => errors.extend(mode(source, "defaultMode", path)),
        "persistentVolumeClaim" => errors.extend(required(source, "claimName", path)),
        "nfs" => {
            errors.extend(required(source, "server", path));
            errors.extend(required(source, "path", path));
            if !str_at(source, "path").is_empty() && !str_at(source, "path").starts_with('/') {
                errors.push(FieldError::invalid(
                    &path.child("path"),
                    str_at(source, "path"),
                    "must be an absolute path",
                ));
            }
        }
        "csi" => errors.extend(required(source, "driver", path)),
        "projected" => errors.extend(projected(source, path)),
        "ephemeral" if get(source, "volumeClaimTemplate").is_none() => {
            errors.push(FieldError::required(&path.child("volumeClaimTemplate"), ""));
        }
        _ => {}
    }
    errors
}

fn mode(source: &Value, field: &str, path: &Path) -> Option<FieldError> {
    let mode = int_at(source, field)?;
    let detail = "must be a number between 0 and 0777 (octal), both inclusive";
    (!(0..=0o777).contains(&mode)).then(|| FieldError::invalid(&path.child(field), mode, detail))
}

/// Mode and items of a source of files.
fn files(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = mode(source, "defaultMode", path).into_iter().collect();
    for (i, item) in list_at(source, "items").iter().enumerate() {
        let at = path.child("items").index(i);
        errors.extend(required(item, "key", &at));
        errors.extend(required(item, "path", &at));
        errors.extend(relative_path(str_at(item, "path"), &at.child("path")));
        errors.extend(mode(item, "mode", &at));
    }
    errors
}

fn projected(source: &Value, path: &Path) -> Vec<FieldError> {
    const TOKEN_MIN: i64 = 600;
    let mut errors: Vec<FieldError> = mode(source, "defaultMode", path).into_iter().collect();
    for (i, part) in list_at(source, "sources").iter().enumerate() {
        let at = path.child("sources").index(i);
        for kind in ["configMap", "secret"] {
            if let Some(inner) = part.get(kind) {
                errors.extend(required(inner, "name", &at.child(kind)));
                errors.extend(files(inner, &at.child(kind)));
            }
        }
        if let Some(token) = part.get("serviceAccountToken") {
            let at = at.child("serviceAccountToken");
            errors.extend(required(token, "path", &at));
            if let Some(seconds) = int_at(token, "expirationSeconds").filter(|s| *s < TOKEN_MIN) {
                errors.push(FieldError::invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                ));
            }
        }
    }
    errors
}
