//! Validation of definitions (apiextensions `validation.ValidateCustomResourceDefinition`).
//!
//! Upstream keeps what all versions have in common at the top of the spec, and its errors say so: a schema that is the same in
//! every version is `spec.validation`, not `spec.versions[0].schema`.

use serde_json::Value;

use super::conversion;
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta::immutable,
    structural::{self, jsonpath, rules},
    structure::{self, Fields, Part},
    value::{bool_at, get, list_at, str_at},
};

const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
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
    let mut errors = spec(&new["spec"], Some(old));
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
    let at = path.child("versions");
    errors.extend(without_schema(versions, &at));
    let old_versions = old.map(|old| list_at(&old["spec"], "versions")).unwrap_or_default();
    let parts = Parts { versions, old: old_versions };
    for (i, version) in versions.iter().enumerate() {
        let at = at.index(i);
        let problems = names::dns1035_label(str_at(version, "name"));
        if !problems.is_empty() {
            errors.push(FieldError::invalid(&at.child("name"), str_at(version, "name"), problems.join(",")));
        }
        errors.extend(deprecation(version, &at));
        errors.extend(parts.of(version, &at));
    }
    errors.extend(version_list(versions, &path));
    let names_at = path.child("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        if str_at(&spec["names"], key).is_empty() {
            errors.push(FieldError::required(&names_at.child(key), ""));
        }
    }
    errors.extend(all_names(&spec["names"], &names_at));
    errors.extend(parts.common(&path));
    errors.extend(conversion::validate(spec, old, &path.child("conversion")));
    errors
}

fn without_schema<'a>(versions: &'a [Value], path: &'a Path) -> impl Iterator<Item = FieldError> + 'a {
    let bare = |version: &Value| get(version, "schema.openAPIV3Schema").is_none_or(Value::is_null);
    versions.iter().enumerate().filter(move |(_, version)| bare(version)).map(move |(i, _)| {
        FieldError::required(&path.index(i).child("schema").child("openAPIV3Schema"), "schemas are required")
    })
}

/// What versions are together. The first one is also the version that definitions had when they had one.
fn version_list(versions: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.child("versions");
    let mut wrong =
        |detail: &str| errors.push(FieldError::invalid_omitted(&at, format!("{}: {detail}", shown(versions))));
    let mut seen: Vec<&str> = versions.iter().map(|v| str_at(v, "name")).collect();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() < versions.len() {
        wrong("must contain unique version names");
    }
    if versions.iter().filter(|v| bool_at(v, "storage")).count() != 1 {
        wrong("must have exactly one version marked as storage version");
    }
    let first = versions.first().map(|v| str_at(v, "name")).filter(|name| !name.is_empty());
    if let Some((name, problems)) = first.map(|name| (name, names::dns1035_label(name))).filter(|(_, p)| !p.is_empty())
    {
        errors.push(FieldError::invalid(&path.child("version"), name, problems.join(",")));
    }
    errors
}

/// Upstream's structure of a version.
const VERSION: Fields = &[
    ("Name", "name", Part::Text),
    ("Served", "served", Part::Flag),
    ("Storage", "storage", Part::Flag),
    ("Deprecated", "deprecated", Part::Flag),
    ("DeprecationWarning", "deprecationWarning", Part::Any),
    ("Schema", "schema", Part::Any),
    ("Subresources", "subresources", Part::Any),
    ("AdditionalPrinterColumns", "additionalPrinterColumns", Part::Any),
    ("SelectableFields", "selectableFields", Part::Any),
];

/// Without what versions have in common: that stands above them there.
fn shown(versions: &[Value]) -> String {
    let mut own = versions.to_vec();
    for key in ["schema", "subresources", "additionalPrinterColumns", "selectableFields"] {
        if common(versions, key).is_some() {
            own.iter_mut().for_each(|version| {
                crate::value::remove(version, key);
            });
        }
    }
    structure::list_shown(&own, VERSION)
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

/// What versions have beside their names: schemas, subresources, columns and selectable fields.
struct Parts<'a> {
    versions: &'a [Value],
    /// Of the definition that is updated.
    old: &'a [Value],
}

type Check = fn(&Value, &Value, &Path) -> Vec<FieldError>;
const CHECKS: [(&str, Check); 3] =
    [("subresources", scale), ("additionalPrinterColumns", printer_columns), ("selectableFields", selectable_fields)];

impl Parts<'_> {
    /// What one version has for itself.
    fn of(&self, version: &Value, path: &Path) -> Vec<FieldError> {
        let own = |key: &str| common(self.versions, key).is_none();
        let mut errors = Vec::new();
        if own("schema") {
            errors.extend(self.schema(version, has_status(version), &path.child("schema")));
        }
        for (key, check) in CHECKS.iter().filter(|(key, _)| own(key)) {
            let part = version.get(key).filter(|it| !it.is_null());
            errors.extend(part.into_iter().flat_map(|part| check(part, version, &path.child(key))));
        }
        errors
    }

    /// What all of them have in common; upstream names it where it stood when definitions had one version.
    fn common(&self, path: &Path) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let Some(first) = self.versions.first() else { return errors };
        if common(self.versions, "schema").is_some() {
            errors.extend(self.schema(first, self.versions.iter().any(has_status), &path.child("validation")));
        }
        for (key, check) in CHECKS {
            errors.extend(common(self.versions, key).into_iter().flat_map(|p| check(p, first, &path.child(key))));
        }
        errors
    }

    fn schema(&self, version: &Value, with_status: bool, path: &Path) -> Vec<FieldError> {
        let Some(written) = get(version, "schema.openAPIV3Schema").filter(|s| s.is_object()) else { return Vec::new() };
        let (parsed, path) = (structural::parse(written), path.child("openAPIV3Schema"));
        let errors = structural::check_nodes(written, &parsed, with_status, &path);
        if !errors.is_empty() {
            return errors;
        }
        let before = self.old.iter().find(|v| v["name"] == version["name"]);
        let before = before.and_then(|v| get(v, "schema.openAPIV3Schema")).map(structural::parse);
        rules::check(&parsed, &path, before.as_ref())
    }
}

fn has_status(version: &Value) -> bool {
    get(version, "subresources.status").is_some_and(|s| !s.is_null())
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
        let hidden = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
        if let Some((at, _)) = warning.char_indices().find(|(_, c)| hidden(*c)) {
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
    errors.extend(labels(given, "shortNames", path));
    let kind = str_at(given, "kind");
    if !kind.is_empty() && kind == str_at(given, "listKind") {
        errors.push(FieldError::invalid(&path.child("listKind"), kind, "kind and listKind may not be the same"));
    }
    errors.extend(labels(given, "categories", path));
    errors
}

fn labels(given: &Value, key: &str, path: &Path) -> Vec<FieldError> {
    let list = list_at(given, key).iter().filter_map(Value::as_str).enumerate();
    let judged = list.map(|(i, name)| (i, name, names::dns1035_label(name))).filter(|(_, _, p)| !p.is_empty());
    judged.map(|(i, name, problems)| FieldError::invalid(&path.child(key).index(i), name, problems.join(","))).collect()
}

fn stored_versions(object: &Value) -> Vec<FieldError> {
    let path = Path::new("status").child("storedVersions");
    let stored = list_at(object, "status.storedVersions");
    let versions = list_at(object, "spec.versions");
    if stored.is_empty() {
        return vec![FieldError::invalid_no_list(&path, "must have at least one stored version")];
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

/// What a definition says of its consent.
#[derive(PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Given,
    Invalid,
}

fn approval_of(object: &Value) -> (Approval, &str) {
    let text = object["metadata"]["annotations"].get(APPROVAL).and_then(Value::as_str).unwrap_or_default();
    let is_url = text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    let state = match text {
        "" => Approval::Missing,
        _ if text.starts_with("unapproved") => Approval::Bypassed,
        _ if is_url => Approval::Given,
        _ => Approval::Invalid,
    };
    (state, text)
}

/// Groups of the Kubernetes community need its consent, or the word that it was not asked. What was so before may stay.
fn approval(new: &Value, old: Option<&Value>) -> Option<FieldError> {
    const WHERE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let group = str_at(new, "spec.group");
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|it| group == *it || group.ends_with(&format!(".{it}")));
    let (state, given) = approval_of(new);
    if !protected || old.is_some_and(|old| approval_of(old).0 == state) {
        return None;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVAL);
    let must = format!("protected groups must have approval annotation {APPROVAL:?}");
    match state {
        Approval::Missing => Some(FieldError::required(&path, format!("{must}, {WHERE}"))),
        Approval::Invalid => {
            let detail = format!("{must} with either a URL or a reason starting with \"unapproved\", {WHERE}");
            Some(FieldError::invalid(&path, given, detail))
        }
        Approval::Bypassed | Approval::Given => None,
    }
}

fn unknown_fields(new: &Value, old: Option<&Value>) -> Option<FieldError> {
    let before = old.is_some_and(|old| bool_at(old, "spec.preserveUnknownFields"));
    let detail =
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    (!before && bool_at(new, "spec.preserveUnknownFields"))
        .then(|| FieldError::invalid(&Path::new("spec").child("preserveUnknownFields"), true, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(patch: Value) -> Value {
        let version =
            json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
        let mut object = json!({"metadata": {"name": "as.b.io"}, "status": {"storedVersions": ["v1"]},
            "spec": {"group": "b.io", "scope": "Cluster", "versions": [version], "conversion": {"strategy": "None"},
                "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"}}});
        crate::patch::merge_patch(&mut object, &patch);
        object
    }

    fn texts(object: &Value) -> Vec<String> {
        validate(object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn causes_stand_in_upstreams_order() {
        assert_eq!(texts(&definition(json!({}))), [""; 0]);
        let version = json!({"name": "V1", "served": true, "storage": false, "deprecationWarning": "x",
            "schema": {"openAPIV3Schema": {"type": "object", "nullable": true}}, "subresources": {"scale": {"specReplicasPath": "x"}}});
        let names = json!({"kind": "B", "listKind": "B", "shortNames": ["C"], "categories": ["D"]});
        let odd = definition(json!({
            "spec": {"scope": null, "versions": [version], "names": names, "conversion": {"strategy": "Some"}},
            "status": null,
        }));
        let found: Vec<String> = validate(&odd).into_iter().map(|e| e.field).collect();
        assert_eq!(
            found,
            [
                "spec.scope",
                "spec.versions[0].name",
                "spec.versions[0].deprecationWarning",
                "spec.versions",
                "spec.version",
                "spec.names.shortNames[0]",
                "spec.names.listKind",
                "spec.names.categories[0]",
                "spec.validation.openAPIV3Schema.nullable",
                "spec.subresources.scale.specReplicasPath",
                "spec.subresources.scale.statusReplicasPath",
                "spec.conversion.strategy",
                "status.storedVersions",
            ]
        );
        let all = texts(&odd);
        assert_eq!(
            all[3],
            concat!(
                r#"spec.versions: Invalid value: [{"Name":"V1","Served":true,"Storage":false,"Deprecated":false,"#,
                r#""DeprecationWarning":"x","Schema":null,"Subresources":null,"AdditionalPrinterColumns":null,"#,
                r#""SelectableFields":null}]: must have exactly one version marked as storage version"#
            )
        );
        assert_eq!(all[12], "status.storedVersions: Invalid value: null: must have at least one stored version");
    }

    #[test]
    fn consent_that_was_not_right_may_stay_so() {
        let with = |text: &str| {
            definition(
                json!({"metadata": {"name": "as.x.k8s.io", "annotations": {APPROVAL: text}}, "spec": {"group": "x.k8s.io"}}),
            )
        };
        assert_eq!(validate(&with("unapproved, for a test")), []);
        assert_eq!(validate(&with("https://a.b/c")), []);
        assert!(texts(&with("maybe"))[0].contains("with either a URL or a reason starting with \"unapproved\""));
        assert_eq!(validate_update(&with("perhaps"), &with("maybe")), []);
        assert_eq!(validate_update(&with("perhaps"), &with("https://a.b/c")).len(), 1);
    }
}
