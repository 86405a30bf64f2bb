//! ResourceClaims and their templates (kubernetes `pkg/apis/resource`).

use serde_json::Value;

use super::{
    device::{configuration, tolerations},
    names::{each, fully_qualified, label, set, text},
    selector::selectors,
};
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, each_mut, get, int_at, list_at, str_at, with_mut},
};

pub(super) const REQUESTS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
pub(super) const CONFIGS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const MODES: &[&str] = &["All", "ExactCount"];

/// Of a claim's spec.
pub(super) fn defaults(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    with_mut(spec, "devices", |devices| {
        each_mut(devices, "requests", |request| {
            with_mut(request, "exactly", request_defaults);
            each_mut(request, "firstAvailable", request_defaults);
        });
    });
}

fn request_defaults(request: &mut Value) {
    default_to(request, "allocationMode", "ExactCount");
    if str_at(request, "allocationMode") == "ExactCount" && int_at(request, "count").unwrap_or(0) == 0 {
        request["count"] = 1.into();
    }
    each_mut(request, "tolerations", |toleration| default_to(toleration, "operator", "Equal"));
}

pub(super) fn validate(claim: &Value) -> Vec<FieldError> {
    spec(get(claim, "spec").unwrap_or(&Value::Null), &Path::new("spec"))
}

pub(super) fn template(template: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let at = path.child("metadata");
    let mut errors = meta::annotations(get(template, "spec.metadata.annotations"), &at.child("annotations"));
    errors.extend(meta::labels(get(template, "spec.metadata.labels"), &at.child("labels")));
    errors.extend(spec(get(template, "spec.spec").unwrap_or(&Value::Null), &path.child("spec")));
    errors
}

pub(super) fn spec_stays(new: &Value, old: &Value) -> Vec<FieldError> {
    meta::immutable(new, old, &["spec"])
}

fn spec(spec: &Value, path: &Path) -> Vec<FieldError> {
    let path = path.child("devices");
    let devices = get(spec, "devices").unwrap_or(&Value::Null);
    let known = known_requests(devices);
    let mut errors =
        set(list_at(devices, "requests"), REQUESTS_MAX, &path.child("requests"), request, |it| str_at(it, "name"));
    errors.extend(each(list_at(devices, "constraints"), CONSTRAINTS_MAX, &path.child("constraints"), |it, at| {
        let mut errors = references(it, &known, at);
        errors.extend(constrained(it, at));
        errors
    }));
    errors.extend(each(list_at(devices, "config"), CONFIGS_MAX, &path.child("config"), |it, at| {
        let mut errors = references(it, &known, at);
        errors.extend(configuration(it, false, at));
        errors
    }));
    errors
}

/// What can be referred to: requests by their names, and alternatives as `request/alternative`.
pub(super) fn known_requests(devices: &Value) -> Vec<String> {
    let mut known = Vec::new();
    for request in list_at(devices, "requests") {
        let name = str_at(request, "name");
        known.push(name.to_owned());
        known.extend(list_at(request, "firstAvailable").iter().map(|sub| format!("{name}/{}", str_at(sub, "name"))));
    }
    known
}

fn constrained(constraint: &Value, path: &Path) -> Vec<FieldError> {
    const ONE: &str =
        r#"exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#;
    let attribute = |field: &'static str| Some((field, constraint.get(field)?.as_str()?));
    match attribute("matchAttribute").or_else(|| attribute("distinctAttribute")) {
        Some((field, name)) => fully_qualified(name, &path.child(field)),
        None => vec![FieldError::required(path, ONE)],
    }
}

/// `requests` of a constraint or configuration name requests of the claim.
pub(super) fn references(item: &Value, known: &[String], path: &Path) -> Vec<FieldError> {
    let check = |name: &Value, at: &Path| reference(text(name), known, at);
    set(list_at(item, "requests"), REQUESTS_MAX, &path.child("requests"), check, text)
}

pub(super) fn reference(name: &str, known: &[String], path: &Path) -> Vec<FieldError> {
    const DETAIL: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    if name.matches('/').count() > 1 {
        return vec![FieldError::invalid(path, name, DETAIL)];
    }
    let mut errors: Vec<FieldError> = name.split('/').flat_map(|segment| label(segment, path)).collect();
    if !known.iter().any(|k| name == k) {
        errors.push(FieldError::invalid(path, name, DETAIL));
    }
    errors
}

fn request(request: &Value, path: &Path) -> Vec<FieldError> {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    let mut errors = label(str_at(request, "name"), &path.child("name"));
    let alternatives = list_at(request, "firstAvailable");
    match (request.get("exactly").filter(|e| !e.is_null()), alternatives.is_empty()) {
        (Some(exact), true) => errors.extend(exactly(exact, &path.child("exactly"))),
        (None, false) => errors.extend(set(
            alternatives,
            ALTERNATIVES_MAX,
            &path.child("firstAvailable"),
            |it, at| {
                let mut errors = label(str_at(it, "name"), &at.child("name"));
                errors.extend(exactly(it, at));
                errors
            },
            |it| str_at(it, "name"),
        )),
        (Some(_), false) => {
            errors.push(FieldError::invalid(path, Value::Null, format!("{ONE}, but multiple fields are set")));
        }
        (None, true) => errors.push(FieldError::required(path, ONE)),
    }
    errors
}

fn exactly(request: &Value, path: &Path) -> Vec<FieldError> {
    let (class, at) = (str_at(request, "deviceClassName"), path.child("deviceClassName"));
    let mut errors = match class {
        "" => vec![FieldError::required(&at, "")],
        _ => FieldError::each_invalid(&at, class, names::dns1123_subdomain(class)),
    };
    errors.extend(selectors(list_at(request, "selectors"), false, &path.child("selectors")));
    let (mode, count) = (str_at(request, "allocationMode"), int_at(request, "count").unwrap_or(0));
    match mode {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.push(FieldError::invalid(&path.child("count"), count, detail));
        }
        "ExactCount" if count <= 0 => {
            errors.push(FieldError::invalid(&path.child("count"), count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => errors.push(FieldError::not_supported(&path.child("allocationMode"), other, MODES)),
    }
    errors.extend(tolerations(request, path));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(request: Value) -> Value {
        let mut claim = json!({"spec": {"devices": {"requests": [request]}}});
        defaults(claim.get_mut("spec"));
        claim
    }

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn requests() {
        let good = claim(json!({"name": "r", "exactly": {"deviceClassName": "c"}}));
        assert_eq!(good["spec"]["devices"]["requests"][0]["exactly"]["count"], 1);
        assert!(validate(&good).is_empty());
        assert_eq!(
            texts(&validate(&claim(json!({"name": "r"})))),
            ["spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"]
        );
        let both = json!({"name": "r", "exactly": {"deviceClassName": "c"}, "firstAvailable": [{"name": "a", "deviceClassName": "c"}]});
        assert_eq!(
            texts(&validate(&claim(both))),
            [
                "spec.devices.requests[0]: Invalid value: \"null\": exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
            ]
        );
        assert_eq!(spec_stays(&claim(json!({"name": "s"})), &good).len(), 1);
    }

    #[test]
    fn lists_are_judged_item_by_item_then_as_sets() {
        let exact = json!({"deviceClassName": "c"});
        let mut twice = claim(json!({"name": "r", "exactly": exact}));
        let again = json!({"name": "r", "exactly": {"deviceClassName": "", "allocationMode": "Some", "tolerations": [{"operator": "Is"}]}});
        twice["spec"]["devices"]["requests"] = json!([twice["spec"]["devices"]["requests"][0], again]);
        assert_eq!(
            texts(&validate(&twice)),
            [
                "spec.devices.requests[1].exactly.deviceClassName: Required value",
                "spec.devices.requests[1].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
                "spec.devices.requests[1].exactly.tolerations[0].operator: Unsupported value: \"Is\": supported values: \"Equal\", \"Exists\"",
                "spec.devices.requests[1]: Duplicate value: \"r\"",
            ]
        );
        let many: Vec<Value> = (0..33).map(|_| json!({})).collect();
        assert_eq!(
            texts(&validate(&json!({"spec": {"devices": {"requests": many}}}))),
            ["spec.devices.requests: Too many: 33: must have at most 32 items"]
        );
    }

    #[test]
    fn references_name_requests() {
        let mut wrong = claim(
            json!({"name": "r", "firstAvailable": [{"name": "a", "deviceClassName": "c", "allocationMode": "All", "count": 2}]}),
        );
        wrong["spec"]["devices"]["constraints"] =
            json!([{"requests": ["x", "r/a", "r", "r"], "matchAttribute": "a"}, {"requests": ["a/b/c"]}]);
        assert_eq!(
            texts(&validate(&wrong)),
            [
                "spec.devices.requests[0].firstAvailable[0].count: Invalid value: 2: must not be specified when allocationMode is 'All'",
                "spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].requests[3]: Duplicate value: \"r\"",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"a\": a fully qualified name must be a domain and a name separated by a slash",
                "spec.devices.constraints[1].requests[0]: Invalid value: \"a/b/c\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            ]
        );
    }

    #[test]
    fn templates_have_metadata_of_their_own() {
        let it = json!({"spec": {"metadata": {"labels": {"a": "-"}, "annotations": {"-": ""}}, "spec": {}}});
        let found = texts(&template(&it));
        assert!(found[0].starts_with("spec.metadata.annotations: Invalid value: \"-\""));
        assert!(found[1].starts_with("spec.metadata.labels: Invalid value: \"-\"") && found.len() == 2);
    }
}
