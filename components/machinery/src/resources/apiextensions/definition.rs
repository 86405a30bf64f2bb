//! Validation of definitions (apiextensions `validation.ValidateCustomResourceDefinition`).
//!
//! Upstream keeps what all versions have in common at the top of the spec, and its errors say so: a schema that is the same in
//! every version is `spec.validation`, not `spec.versions[0].schema`.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta::immutable,
    structural::{self, jsonpath, rules},
    value::{bool_at, get, list_at, str_at},
};

const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const MAX_SELECTABLE: usize = 8;
const APPROVAL: &str = "api-approved.kubernetes.io";

pub(super) fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let wanted = format!("{}.{}", str_at(object, "spec.names.plural"), str_at(object, "spec.group"));
    let name = str_at(object, "metadata.name");
    if name != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
    }
    errors.extend(spec(&object["spec"], None));
    errors.extend(stored_versions(object));
    errors.extend(approval(object, None));
    errors.extend(unknown_fields(object, None));
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = spec(&new["spec"], Some(&old["spec"]));
    if super::is_true(old, "Established") {
        errors.extend(immutable(new, old, &["spec.scope", "spec.names.kind"]));
    }
    errors.extend(immutable(new, old, &["spec.group", "spec.names.plural"]));
    errors.extend(status(new));
    errors.extend(stored_versions(new));
    errors.extend(approval(new, Some(old)));
    errors.extend(unknown_fields(new, Some(old)));
    errors
}

pub(super) fn status(object: &Value) -> Vec<FieldError> {
    let accepted = get(object, "status.acceptedNames");
    accepted.map(|it| all_names(it, &Path::new("status").child("acceptedNames"))).unwrap_or_default()
}

/// What all of a list's members have under `key`, if they have the same.
fn common<'a>(versions: &'a [Value], key: &str) -> Option<&'a Value> {
    let first = versions.first()?.get(key).filter(|it| !it.is_null())?;
    versions.iter().all(|v| v.get(key) == Some(first)).then_some(first)
}

fn spec(spec: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = group_and_scope(spec, &path);
    let versions = list_at(spec, "versions");
    let versions_at = path.child("versions");
    for (i, version) in versions.iter().enumerate() {
        let at = versions_at.index(i);
        if get(version, "schema.openAPIV3Schema").is_none_or(Value::is_null) {
            let detail = "schemas are required";
            errors.push(FieldError::required(&at.child("schema").child("openAPIV3Schema"), detail));
        }
        let name = str_at(version, "name");
        let problems = names::dns1035_label(name);
        if !problems.is_empty() {
            errors.push(FieldError::invalid(&at.child("name"), name, problems.join(",")));
        }
        errors.extend(deprecation(version, &at));
    }
    errors.extend(parts(versions, list_at(old.unwrap_or(&Value::Null), "versions"), &path));
    let mut seen: Vec<&str> = versions.iter().map(|v| str_at(v, "name")).collect();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() < versions.len() {
        errors.push(FieldError::invalid(&versions_at, versions.to_vec(), "must contain unique version names"));
    }
    if versions.iter().filter(|v| bool_at(v, "storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&versions_at, versions.to_vec(), detail));
    }
    let names_at = path.child("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        if str_at(&spec["names"], key).is_empty() {
            errors.push(FieldError::required(&names_at.child(key), ""));
        }
    }
    errors.extend(all_names(&spec["names"], &names_at));
    errors.extend(conversion(spec, &path.child("conversion")));
    errors
}

fn group_and_scope(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = str_at(spec, "group");
    let group_at = path.child("group");
    let problems = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&group_at, ""));
    } else if !problems.is_empty() {
        errors.push(FieldError::invalid(&group_at, group, problems.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(&group_at, group, "should be a domain with at least one dot"));
    }
    match str_at(spec, "scope") {
        "" => errors.push(FieldError::required(&path.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"])),
    }
    errors
}

/// Schemas, subresources, columns and selectable fields, at the top where versions have them in common.
fn parts(versions: &[Value], old: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let per_version = |i: usize| path.child("versions").index(i);
    let has_status = |v: &Value| get(v, "subresources.status").is_some_and(|s| !s.is_null());
    let old_schema = |version: &Value| {
        let before = old.iter().find(|v| v["name"] == version["name"]);
        before.and_then(|v| get(v, "schema.openAPIV3Schema")).map(structural::parse)
    };
    let schema_of = |version: &Value, at: &Path, status: bool| -> Vec<FieldError> {
        let Some(written) = get(version, "schema.openAPIV3Schema").filter(|s| s.is_object()) else { return Vec::new() };
        let (parsed, at) = (structural::parse(written), at.child("openAPIV3Schema"));
        let errors = structural::check_nodes(written, &parsed, status, &at);
        match errors.is_empty() {
            true => rules::check(&parsed, &at, old_schema(version).as_ref()),
            false => errors,
        }
    };
    match (common(versions, "schema"), versions.first()) {
        (Some(_), Some(first)) => {
            errors.extend(schema_of(first, &path.child("validation"), versions.iter().any(has_status)));
        }
        _ => {
            for (i, version) in versions.iter().enumerate() {
                errors.extend(schema_of(version, &per_version(i).child("schema"), has_status(version)));
            }
        }
    }
    type Check = fn(&Value, &Value, &Path) -> Vec<FieldError>;
    let checks: [(&str, Check); 3] = [
        ("subresources", scale),
        ("additionalPrinterColumns", printer_columns),
        ("selectableFields", selectable_fields),
    ];
    for (key, check) in checks {
        match (common(versions, key), versions.first()) {
            (Some(part), Some(first)) => errors.extend(check(part, first, &path.child(key))),
            _ => {
                for (i, version) in versions.iter().enumerate() {
                    let part = version.get(key).filter(|it| !it.is_null());
                    errors.extend(part.into_iter().flat_map(|part| check(part, version, &per_version(i).child(key))));
                }
            }
        }
    }
    errors
}

fn deprecation(version: &Value, path: &Path) -> Vec<FieldError> {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return Vec::new() };
    let mut problems = Vec::new();
    if !bool_at(version, "deprecated") {
        problems.push("can only be set for deprecated versions".to_owned());
    } else {
        if warning.len() > 256 {
            problems.push("must be <= 256 characters long".to_owned());
        }
        if warning.is_empty() {
            problems.push("must not be an empty string".to_owned());
        }
        if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            problems.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    }
    problems.into_iter().map(|p| FieldError::invalid(&path.child("deprecationWarning"), warning, p)).collect()
}

fn scale(subresources: &Value, _: &Value, path: &Path) -> Vec<FieldError> {
    let Some(scale) = subresources.get("scale").filter(|it| it.is_object()) else { return Vec::new() };
    let mut errors = Vec::new();
    let at = |key: &str| path.child(&format!("scale.{key}"));
    for (key, prefix) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let text = str_at(scale, key);
        if text.is_empty() {
            errors.push(FieldError::required(&at(key), ""));
        } else if !text.starts_with('.') {
            errors.push(FieldError::invalid(&at(key), text, "must be a simple json path starting with ."));
        } else if !text.starts_with(&format!("{prefix}.")) {
            errors.push(FieldError::invalid(&at(key), text, format!("should be a json path under {prefix}")));
        }
    }
    let selector = str_at(scale, "labelSelectorPath");
    if !selector.is_empty() && !selector.starts_with('.') {
        let detail = "must be a simple json path starting with .";
        errors.push(FieldError::invalid(&at("labelSelectorPath"), selector, detail));
    } else if !selector.is_empty() && !selector.starts_with(".spec.") && !selector.starts_with(".status.") {
        let detail = "should be a json path under either .spec or .status";
        errors.push(FieldError::invalid(&at("labelSelectorPath"), selector, detail));
    }
    errors
}

fn printer_columns(columns: &Value, _: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, column) in columns.as_array().into_iter().flatten().enumerate() {
        let at = path.index(i);
        if str_at(column, "name").is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        match str_at(column, "type") {
            "" => {
                errors.push(FieldError::required(&at.child("type"), format!("must be one of {COLUMN_TYPES}")));
            }
            kind if COLUMN_TYPES.split(',').any(|it| it == kind) => {}
            kind => {
                errors.push(FieldError::invalid(&at.child("type"), kind, format!("must be one of {COLUMN_TYPES}")));
            }
        }
        let format = str_at(column, "format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(&at.child("format"), format, detail));
        }
        match str_at(column, "jsonPath") {
            "" => errors.push(FieldError::required(&at.child("JSONPath"), "")),
            text if !text.starts_with('.') => {
                let detail = "must be a simple json path starting with .";
                errors.push(FieldError::invalid(&at.child("JSONPath"), text, detail));
            }
            _ => {}
        }
    }
    errors
}

fn selectable_fields(fields: &Value, version: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(written) = get(version, "schema.openAPIV3Schema") else { return errors };
    let schema = structural::parse(written);
    let mut seen = Vec::new();
    for (i, field) in fields.as_array().into_iter().flatten().enumerate() {
        let at = path.index(i).child("jsonPath");
        let text = str_at(field, "jsonPath");
        if text.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let (found, node) = match jsonpath::field(&schema, text, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(&at, text, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.as_str() == "metadata" || found.as_str().starts_with("metadata.") {
            errors.push(FieldError::invalid(&at, text, "must not point to fields in metadata"));
        }
        if !matches!(node.kind.as_str(), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&at, text, detail));
        }
        match seen.contains(&found) {
            true => errors.push(FieldError::duplicate(&at, text)),
            false => seen.push(found),
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(path, seen.len(), MAX_SELECTABLE));
    }
    errors
}

fn all_names(given: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["plural", "singular", "kind", "listKind"] {
        let name = str_at(given, key);
        let is_kind = key.to_lowercase().ends_with("kind");
        let problems = names::dns1035_label(&if is_kind { name.to_lowercase() } else { name.to_owned() });
        if !name.is_empty() && !problems.is_empty() {
            let mixed = if is_kind { "may have mixed case, but should otherwise match: " } else { "" };
            errors.push(FieldError::invalid(&path.child(key), name, format!("{mixed}{}", problems.join(","))));
        }
    }
    let kind = str_at(given, "kind");
    if !kind.is_empty() && kind == str_at(given, "listKind") {
        errors.push(FieldError::invalid(&path.child("listKind"), kind, "kind and listKind may not be the same"));
    }
    for key in ["shortNames", "categories"] {
        for (i, name) in list_at(given, key).iter().filter_map(Value::as_str).enumerate() {
            let problems = names::dns1035_label(name);
            if !problems.is_empty() {
                errors.push(FieldError::invalid(&path.child(key).index(i), name, problems.join(",")));
            }
        }
    }
    errors
}

fn conversion(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let conversion = &spec["conversion"];
    let webhook = conversion.get("webhook").filter(|it| it.is_object());
    let (config_at, versions_at) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let config = webhook.and_then(|it| it.get("clientConfig")).filter(|it| it.is_object());
    let versions = webhook.map(|it| list_at(it, "conversionReviewVersions")).unwrap_or_default();
    match str_at(conversion, "strategy") {
        "" => errors.push(FieldError::required(&path.child("strategy"), "")),
        "Webhook" => {
            match config {
                None => errors.push(FieldError::required(&config_at, "required when strategy is set to Webhook")),
                Some(config) => errors.extend(client_config(config, &config_at)),
            }
            errors.extend(review_versions(versions, &versions_at));
        }
        strategy => {
            if strategy != "None" {
                let at = path.child("strategy");
                errors.push(FieldError::not_supported(&at, strategy, &["None", "Webhook"]));
            }
            let detail = "should not be set when strategy is not set to Webhook";
            errors.extend(config.map(|_| FieldError::forbidden(&config_at, detail)));
            errors.extend((!versions.is_empty()).then(|| FieldError::forbidden(&versions_at, detail)));
        }
    }
    errors
}

fn client_config(config: &Value, path: &Path) -> Vec<FieldError> {
    let url = config.get("url").and_then(Value::as_str);
    let service = config.get("service").filter(|it| it.is_object());
    let mut errors = Vec::new();
    match (url, service) {
        (Some(url), None) => {
            let at = path.child("url");
            let rest = url.strip_prefix("https://");
            if rest.is_none() {
                let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
                let detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                errors.push(FieldError::invalid(&at, scheme, detail));
            }
            let host = rest.unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
            if rest.is_some() && host.is_empty() {
                let detail = "host must be specified; desired format: https://host[/path]";
                errors.push(FieldError::invalid(&at, "", detail));
            }
            for (sign, what) in [('@', "user information"), ('#', "fragments"), ('?', "query parameters")] {
                let there = if sign == '@' { host.contains(sign) } else { url.contains(sign) };
                if there {
                    errors.push(FieldError::invalid(&at, url, format!("{what} are not permitted in the URL")));
                }
            }
        }
        (None, Some(service)) => {
            let at = path.child("service");
            for key in ["name", "namespace"] {
                if str_at(service, key).is_empty() {
                    errors.push(FieldError::required(&at.child(key), format!("service {key} is required")));
                }
            }
            let port = service.get("port").and_then(Value::as_i64).unwrap_or(443);
            let problems = names::port_number(port);
            if !problems.is_empty() {
                let detail = format!("port is not valid: {}", problems.join(","));
                errors.push(FieldError::invalid(&at.child("port"), port, detail));
            }
            let text = str_at(service, "path");
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(FieldError::invalid(&at.child("path"), text, "must start with a '/'"));
            }
        }
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
    errors
}

fn review_versions(versions: &[Value], path: &Path) -> Vec<FieldError> {
    if versions.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if versions[..i].contains(version) {
            errors.push(FieldError::invalid(&path.index(i), text, "duplicate version"));
            continue;
        }
        errors.extend(names::dns1035_label(text).into_iter().map(|p| FieldError::invalid(&path.index(i), text, p)));
    }
    if !versions.iter().any(|v| REVIEW_VERSIONS.iter().any(|known| v == known)) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::invalid(path, versions.to_vec(), detail));
    }
    errors
}

fn stored_versions(object: &Value) -> Vec<FieldError> {
    let path = Path::new("status").child("storedVersions");
    let stored = list_at(object, "status.storedVersions");
    let versions = list_at(object, "spec.versions");
    if stored.is_empty() {
        return vec![FieldError::invalid(&path, stored.to_vec(), "must have at least one stored version")];
    }
    let mut errors = Vec::new();
    for version in versions.iter().filter(|v| bool_at(v, "storage") && !stored.contains(&v["name"])) {
        let detail = format!("must have the storage version {}", str_at(version, "name"));
        errors.push(FieldError::invalid(&path, stored.to_vec(), detail));
    }
    for (i, name) in stored.iter().enumerate().filter(|(_, name)| !versions.iter().any(|v| v["name"] == **name)) {
        let text = name.as_str().unwrap_or_default();
        let detail = format!(
            "missing from spec.versions; {text} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {text} and removes {text} from status.storedVersions"
        );
        errors.push(FieldError::invalid(&path.index(i), text, detail));
    }
    errors
}

/// Groups of the Kubernetes community need its consent, or the word that it was not asked.
fn approval(new: &Value, old: Option<&Value>) -> Option<FieldError> {
    const WHERE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let group = str_at(new, "spec.group");
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|it| group == *it || group.ends_with(&format!(".{it}")));
    let given = |object: &Value| -> String {
        let annotations = &object["metadata"]["annotations"];
        annotations.get(APPROVAL).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let given_now = given(new);
    let good = given_now.starts_with("unapproved")
        || given_now.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    if !protected || good || old.is_some_and(|old| given(old) == given_now) {
        return None;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVAL);
    Some(match given_now.is_empty() {
        true => {
            FieldError::required(&path, format!("protected groups must have approval annotation {APPROVAL:?}, {WHERE}"))
        }
        false => FieldError::invalid(
            &path,
            given_now,
            format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \"unapproved\", {WHERE}"
            ),
        ),
    })
}

fn unknown_fields(new: &Value, old: Option<&Value>) -> Option<FieldError> {
    let before = old.is_some_and(|old| bool_at(old, "spec.preserveUnknownFields"));
    let detail =
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    (!before && bool_at(new, "spec.preserveUnknownFields"))
        .then(|| FieldError::invalid(&Path::new("spec").child("preserveUnknownFields"), true, detail))
}
