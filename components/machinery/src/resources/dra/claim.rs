//! ResourceClaims and their templates (kubernetes `pkg/apis/resource`).

use serde_json::Value;

use super::device::{configuration, selectors};
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, each_mut, get, int_at, list_at, str_at, with_mut},
};

const REQUESTS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const CONFIGS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const RESERVED_MAX: usize = 256;
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
    let mut errors = meta::labels(get(template, "spec.metadata.labels"), &path.child("metadata").child("labels"));
    errors.extend(spec(get(template, "spec.spec").unwrap_or(&Value::Null), &path.child("spec")));
    errors
}

pub(super) fn template_update(new: &Value, old: &Value) -> Vec<FieldError> {
    meta::immutable(new, old, &["spec"])
}

fn limit(list: &[Value], path: &Path, max: usize) -> Option<FieldError> {
    (list.len() > max).then(|| FieldError::too_many(path, list.len(), max))
}

fn spec(spec: &Value, path: &Path) -> Vec<FieldError> {
    let path = path.child("devices");
    let devices = get(spec, "devices").unwrap_or(&Value::Null);
    let (requests, at) = (list_at(devices, "requests"), path.child("requests"));
    let mut errors: Vec<FieldError> = limit(requests, &at, REQUESTS_MAX).into_iter().collect();
    let mut known: Vec<String> = Vec::new();
    for (i, item) in requests.iter().enumerate() {
        let name = str_at(item, "name");
        if known.iter().any(|k| k == name) {
            errors.push(FieldError::duplicate(&at.index(i).child("name"), name));
        }
        errors.extend(request(item, &at.index(i)));
        known.push(name.to_owned());
        known.extend(list_at(item, "firstAvailable").iter().map(|sub| format!("{name}/{}", str_at(sub, "name"))));
    }
    let (constraints, at) = (list_at(devices, "constraints"), path.child("constraints"));
    errors.extend(limit(constraints, &at, CONSTRAINTS_MAX));
    for (i, item) in constraints.iter().enumerate() {
        errors.extend(references(item, &known, &at.index(i)));
        let attribute = ["matchAttribute", "distinctAttribute"].into_iter().find(|f| item.get(*f).is_some());
        match attribute {
            None => errors.push(FieldError::required(&at.index(i).child("matchAttribute"), "")),
            Some(field) => {
                let (text, at) = (str_at(item, field), at.index(i).child(field));
                if !text.contains('/') {
                    errors.push(FieldError::invalid(&at, text, "must include a domain"));
                }
            }
        }
    }
    let (configs, at) = (list_at(devices, "config"), path.child("config"));
    errors.extend(limit(configs, &at, CONFIGS_MAX));
    for (i, item) in configs.iter().enumerate() {
        errors.extend(references(item, &known, &at.index(i)));
        errors.extend(configuration(item, &at.index(i)));
    }
    errors
}

/// `requests` of a constraint or configuration name requests of the claim.
fn references(item: &Value, known: &[String], path: &Path) -> Vec<FieldError> {
    const DETAIL: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let list = list_at(item, "requests");
    let mut errors = Vec::new();
    for (i, name) in list.iter().enumerate() {
        let at = path.child("requests").index(i);
        if list[..i].contains(name) {
            errors.push(FieldError::duplicate(&at, name.clone()));
        } else if !known.iter().any(|k| name == k) {
            errors.push(FieldError::invalid(&at, name.clone(), DETAIL));
        }
    }
    errors
}

fn label(value: &Value, path: &Path) -> Vec<FieldError> {
    let (name, at) = (str_at(value, "name"), path.child("name"));
    if name.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at, name, p)).collect()
}

fn request(request: &Value, path: &Path) -> Vec<FieldError> {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    let mut errors = label(request, path);
    let alternatives = list_at(request, "firstAvailable");
    match (request.get("exactly"), alternatives.is_empty()) {
        (Some(exact), true) => errors.extend(exactly(exact, &path.child("exactly"))),
        (None, false) => {
            let at = path.child("firstAvailable");
            errors.extend(limit(alternatives, &at, ALTERNATIVES_MAX));
            for (i, item) in alternatives.iter().enumerate() {
                errors.extend(label(item, &at.index(i)));
                if alternatives[..i].iter().any(|a| str_at(a, "name") == str_at(item, "name")) {
                    errors.push(FieldError::duplicate(&at.index(i).child("name"), str_at(item, "name")));
                }
                errors.extend(exactly(item, &at.index(i)));
            }
        }
        (Some(_), false) => errors.push(FieldError::invalid(path, Value::Null, ONE)),
        (None, true) => errors.push(FieldError::required(path, ONE)),
    }
    errors
}

fn exactly(request: &Value, path: &Path) -> Vec<FieldError> {
    let class = str_at(request, "deviceClassName");
    let at = path.child("deviceClassName");
    let mut errors: Vec<FieldError> = match class {
        "" => vec![FieldError::required(&at, "")],
        _ => names::dns1123_subdomain(class).into_iter().map(|p| FieldError::invalid(&at, class, p)).collect(),
    };
    errors.extend(selectors(list_at(request, "selectors"), &path.child("selectors")));
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
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    meta::immutable(new, old, &["spec"])
}

pub(super) fn validate_status_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let (allocated, before) = (get(new, "status.allocation"), get(old, "status.allocation"));
    let (reserved, at) = (list_at(new, "status.reservedFor"), path.child("reservedFor"));
    let mut errors: Vec<FieldError> = limit(reserved, &at, RESERVED_MAX).into_iter().collect();
    for (i, consumer) in reserved.iter().enumerate() {
        let at = at.index(i);
        for field in ["resource", "name", "uid"].into_iter().filter(|f| str_at(consumer, f).is_empty()) {
            errors.push(FieldError::required(&at.child(field), ""));
        }
        if reserved[..i].iter().any(|r| str_at(r, "uid") == str_at(consumer, "uid")) {
            errors.push(FieldError::duplicate(&at.child("uid"), str_at(consumer, "uid")));
        }
    }
    if let Some(allocation) = allocated {
        let devices = list_at(new, "spec.devices.requests");
        for (i, result) in list_at(allocation, "devices.results").iter().enumerate() {
            let at = path.child("allocation").child("devices").child("results").index(i);
            let request = str_at(result, "request").split('/').next().unwrap_or_default();
            if !devices.iter().any(|d| str_at(d, "name") == request) {
                let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
                errors.push(FieldError::invalid(&at.child("request"), str_at(result, "request"), detail));
            }
            for field in ["driver", "pool", "device"].into_iter().filter(|f| str_at(result, f).is_empty()) {
                errors.push(FieldError::required(&at.child(field), ""));
            }
        }
    }
    if !reserved.is_empty() {
        let newly = reserved.iter().any(|r| !list_at(old, "status.reservedFor").contains(r));
        if allocated.is_none() {
            errors.push(FieldError::forbidden(&at, "may not be specified when `allocated` is not set"));
        } else if newly && get(new, "metadata.deletionTimestamp").is_some() {
            let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(FieldError::forbidden(&at, detail));
        }
    }
    if let (Some(after), Some(before)) = (allocated, before)
        && after != before
    {
        errors.push(FieldError::invalid(&path.child("allocation"), after.clone(), meta::IMMUTABLE));
    }
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
        let mut wrong = claim(
            json!({"name": "r", "firstAvailable": [{"name": "a", "deviceClassName": "c", "allocationMode": "All", "count": 2}]}),
        );
        wrong["spec"]["devices"]["constraints"] = json!([{"requests": ["x"], "matchAttribute": "a"}]);
        assert_eq!(
            texts(&validate(&wrong)),
            [
                "spec.devices.requests[0].firstAvailable[0].count: Invalid value: 2: must not be specified when allocationMode is 'All'",
                "spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"a\": must include a domain",
            ]
        );
    }

    #[test]
    fn allocations_stay() {
        let free = claim(json!({"name": "r", "exactly": {"deviceClassName": "c"}}));
        let mut reserved = free.clone();
        reserved["status"] = json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}]});
        assert_eq!(
            texts(&validate_status_update(&reserved, &free)),
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
        );
        reserved["status"]["allocation"] =
            json!({"devices": {"results": [{"request": "r", "driver": "d", "pool": "p", "device": "x"}]}});
        assert!(validate_status_update(&reserved, &free).is_empty());
        let mut moved = reserved.clone();
        moved["status"]["allocation"]["devices"]["results"][0]["device"] = "y".into();
        assert_eq!(validate_status_update(&moved, &reserved).len(), 1);
        assert_eq!(validate_update(&claim(json!({"name": "s"})), &free).len(), 1);
    }
}
