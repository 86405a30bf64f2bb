//! APIServices (kube-aggregator `pkg/apis/apiregistration`) and StorageVersionMigrations.

use serde_json::Value;

use super::{Cell, Column, NameRule, PLAIN, Resource, STATUS, Strategy, cells, columns, meta, row, writing};
use crate::{
    field::{FieldError, Path},
    names,
    value::{bool_at, get, int_at, list_at, name, str_at, with_mut},
};

const API_SERVICE: &[Column] = &[
    columns::NAME,
    columns::text("Service", 0, Cell::Of(service)),
    columns::text("Available", 0, Cell::Of(available)),
    columns::AGE,
];

fn service(object: &Value) -> Value {
    match get(object, "spec.service") {
        None => "Local".into(),
        Some(service) => format!("{}/{}", str_at(service, "namespace"), str_at(service, "name")).into(),
    }
}

fn available(object: &Value) -> Value {
    let Some(condition) = cells::condition(object, "Available") else { return "Unknown".into() };
    match str_at(condition, "status") {
        "True" => "True".into(),
        status => format!("{status} ({})", str_at(condition, "reason")).into(),
    }
}

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        categories: &["api-extensions"],
        subresources: &[STATUS],
        columns: API_SERVICE,
        strategy: Strategy {
            name: NameRule::PathSegment,
            default: service_defaults,
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: api_service,
            validate_update: |n, _| api_service(n),
            validate_status_update: |n, _| availability(n),
            ..PLAIN
        },
        ..row(
            ("apiregistration.k8s.io", "v1"),
            ("APIService", "APIServiceList"),
            ("apiservices", "apiservice"),
            "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        )
    },
    Resource {
        namespaced: false,
        subresources: &[STATUS],
        strategy: Strategy {
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: migration,
            validate_update: |n, o| meta::immutable(n, o, &["spec"]),
            validate_status_update: migration_status,
            ..PLAIN
        },
        ..row(
            ("storagemigration.k8s.io", "v1"),
            ("StorageVersionMigration", "StorageVersionMigrationList"),
            ("storageversionmigrations", "storageversionmigration"),
            "io.k8s.api.storagemigration.v1.StorageVersionMigration",
        )
    },
];

fn service_defaults(object: &mut Value) {
    with_mut(object, "spec", |spec| with_mut(spec, "service", |s| crate::value::default_to(s, "port", 443)));
}

fn api_service(object: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let (group, version) = (str_at(object, "spec.group"), str_at(object, "spec.version"));
    let mut errors = Vec::new();
    let required = format!("{version}.{group}");
    if name(object) != required {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name(object), detail));
    }
    let at = path.child("group");
    match (group, version) {
        ("", "v1") => {}
        ("", _) => {
            errors.push(FieldError::required(&at, "only v1 may have an empty group and it better be legacy kube"))
        }
        _ => errors.extend(names::dns1123_subdomain(group).into_iter().map(|p| FieldError::invalid(&at, group, p))),
    }
    let at = path.child("version");
    errors.extend(names::dns1035_label(version).into_iter().map(|p| FieldError::invalid(&at, version, p)));
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let value = int_at(object, &format!("spec.{field}")).unwrap_or(0);
        if value <= 0 || value > max {
            let detail = format!("must be positive and less than {max}");
            errors.push(FieldError::invalid(&path.child(field), value, detail));
        }
    }
    errors.extend(backend(object, &path));
    errors
}

fn backend(object: &Value, path: &Path) -> Vec<FieldError> {
    let bundle = str_at(object, "spec.caBundle");
    let insecure = bool_at(object, "spec.insecureSkipTLSVerify");
    let (bundle_at, insecure_at) = (path.child("caBundle"), path.child("insecureSkipTLSVerify"));
    let mut errors = Vec::new();
    let Some(service) = get(object, "spec.service") else {
        if !bundle.is_empty() {
            let padding = bundle.bytes().rev().take_while(|b| *b == b'=').count();
            let value = format!("{} bytes", (bundle.len() / 4 * 3).saturating_sub(padding));
            errors.push(FieldError::invalid(&bundle_at, value, "local APIServices may not have a caBundle"));
        }
        if insecure {
            errors.push(FieldError::invalid(
                &insecure_at,
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            ));
        }
        return errors;
    };
    let at = path.child("service");
    for field in ["namespace", "name"].into_iter().filter(|f| str_at(service, f).is_empty()) {
        errors.push(FieldError::required(&at.child(field), ""));
    }
    let port = int_at(service, "port").unwrap_or(0);
    let problems = names::port_number(port).into_iter();
    errors.extend(problems.map(|p| FieldError::invalid(&at.child("port"), port, format!("port is not valid: {p}"))));
    if insecure && !bundle.is_empty() {
        errors.push(FieldError::invalid(&insecure_at, true, "may not be true if caBundle is present"));
    }
    errors
}

fn availability(object: &Value) -> Vec<FieldError> {
    const KNOWN: &[&str] = &["True", "False", "Unknown"];
    let path = Path::new("status").child("conditions");
    let given = list_at(object, "status.conditions").iter().map(|c| str_at(c, "status")).enumerate();
    given
        .filter(|(_, status)| !KNOWN.contains(status))
        .map(|(i, status)| FieldError::not_supported(&path.index(i).child("status"), status, KNOWN))
        .collect()
}

fn conditions(object: &Value) -> Vec<FieldError> {
    let path = Path::new("status").child("conditions");
    list_at(object, "status.conditions")
        .iter()
        .enumerate()
        .filter_map(|(i, c)| meta::one_of(c, "status", &path.index(i), &["False", "True", "Unknown"]))
        .collect()
}

fn migration(object: &Value) -> Vec<FieldError> {
    let at = Path::new("spec").child("resource").child("resource");
    match str_at(object, "spec.resource.resource") {
        "" => vec![FieldError::required(&at, "resource is required")],
        _ => Vec::new(),
    }
}

/// One way to be at a time, and an end that lasts.
fn migration_status(new: &Value, old: &Value) -> Vec<FieldError> {
    const STATES: &[&str] = &["Running", "Succeeded", "Failed"];
    let at = Path::new("status").child("conditions");
    let is = |object: &Value, kind: &&&str| cells::condition_true(object, kind);
    let mut errors = conditions(new);
    let now: Vec<&&str> = STATES.iter().filter(|k| is(new, k)).collect();
    if now.len() > 1 {
        let detail = "only one of Running, Succeeded or Failed may be true";
        errors.push(FieldError::invalid(&at, list_at(new, "status.conditions").to_vec(), detail));
    }
    for kind in ["Succeeded", "Failed"] {
        if cells::condition_true(old, kind) && !cells::condition_true(new, kind) {
            let detail = format!("{kind} condition cannot be set to false once it is true");
            errors.push(FieldError::invalid(&at, list_at(new, "status.conditions").to_vec(), detail));
        }
    }
    let (before, after) = (str_at(old, "status.resourceVersion"), str_at(new, "status.resourceVersion"));
    let at = Path::new("status").child("resourceVersion");
    if !before.is_empty() && before != after {
        errors.push(FieldError::invalid(&at, after, meta::IMMUTABLE));
    } else if !after.is_empty() && after.parse::<u64>().is_err() {
        errors.push(FieldError::invalid(&at, after, "must be a valid resource version"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn names_follow_group_and_version() {
        let of = |name: &str, spec: Value| {
            let mut object = json!({"metadata": {"name": name}, "spec": spec});
            service_defaults(&mut object);
            texts(&api_service(&object))
        };
        let spec = json!({"group": "a.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "n", "name": "s"}});
        assert_eq!(of("v1.a.io", spec.clone()), Vec::<String>::new());
        assert!(of("x", spec)[0].ends_with("must be `spec.version+\".\"+spec.group`: \"v1.a.io\""));
        assert!(of("v1.", json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})).is_empty());
        assert_eq!(
            of("v1.", json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1, "insecureSkipTLSVerify": true})).len(),
            1
        );
    }

    #[test]
    fn conditions_are_of_three_kinds() {
        let object = json!({"status": {"conditions": [{"type": "Available", "status": "True"}, {"type": "x"}]}});
        assert_eq!(
            texts(&availability(&object)),
            [
                "status.conditions[1].status: Unsupported value: \"\": supported values: \"True\", \"False\", \"Unknown\""
            ]
        );
        let local = json!({"metadata": {"name": "v1."}, "spec": {
            "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "caBundle": "eA=="}});
        assert_eq!(
            texts(&api_service(&local)),
            ["spec.caBundle: Invalid value: \"1 bytes\": local APIServices may not have a caBundle"]
        );
    }

    #[test]
    fn migrations_end_once() {
        let with =
            |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True"}], "resourceVersion": "5"}});
        assert!(migration_status(&with("Running"), &json!({})).is_empty());
        assert_eq!(migration_status(&with("Running"), &with("Succeeded")).len(), 1);
        assert_eq!(texts(&migration(&json!({}))), ["spec.resource.resource: Required value: resource is required"]);
    }
}
