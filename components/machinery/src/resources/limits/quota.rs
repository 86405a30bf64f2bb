//! ResourceQuotas (kubernetes `ValidateResourceQuota`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::names;
use crate::{
    field::{FieldError, Path},
    quantity,
    resources::{meta, pod},
    structure::{self, Fields, Part},
    value::{get, list_at, map_at, str_at},
};

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Scopes that are there or not, without values.
const FLAGS: &[&str] = &["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity"];
const EXCLUSIVE: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

pub(in crate::resources) fn validate(quota: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = quota.get("spec").unwrap_or(&Value::Null);
    let mut errors = amounts(map_at(spec, "hard"), &path.child("hard"));
    errors.extend(scopes(spec, &path.child("scopes")));
    errors.extend(selector(spec, &path.child("scopeSelector")));
    errors
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    let set = |quota: &Value| -> BTreeSet<String> {
        list_at(quota, "spec.scopes").iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if set(new) != set(old) {
        let at = Path::new("spec").child("scopes");
        errors.push(match get(new, "spec.scopes") {
            Some(scopes) => FieldError::invalid(&at, scopes.clone(), meta::IMMUTABLE),
            None => FieldError::invalid_no_list(&at, meta::IMMUTABLE),
        });
    }
    errors
}

pub(in crate::resources) fn validate_status(new: &Value, _: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    ["hard", "used"]
        .into_iter()
        .flat_map(|list| amounts(get(new, &format!("status.{list}")).and_then(Value::as_object), &path.child(list)))
        .collect()
}

fn amounts(list: Option<&Map<String, Value>>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in list.into_iter().flatten() {
        let at = path.key(name);
        errors.extend(names::validate_quota(name, &at));
        match pod::amount(value, &at) {
            Err(error) => errors.push(error),
            Ok(q) if names::is_whole(name) && !q.is_integer() => {
                errors.push(FieldError::invalid(&at, q.to_string(), "must be an integer"))
            }
            Ok(_) => {}
        }
    }
    errors
}

/// Whether a scope says something about a resource; names that quotas do not know themselves may stand with any.
fn fits(scope: &str, resource: &str) -> bool {
    if !names::is_quota(resource) {
        return true;
    }
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => resource == "pods" || names::COMPUTE.contains(&resource),
        _ => true,
    }
}

fn misfits<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a String> {
    map_at(spec, "hard").into_iter().flat_map(Map::keys).filter(move |name| !fits(scope, name))
}

fn scopes(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all: Vec<&str> = list_at(spec, "scopes").iter().filter_map(Value::as_str).collect();
    let invalid = |detail: &str| FieldError::invalid(path, spec["scopes"].clone(), detail);
    for scope in &all {
        if !SCOPES.contains(scope) {
            errors.push(invalid("unsupported scope"));
        }
        errors.extend(misfits(spec, scope).map(|_| invalid("unsupported scope applied to resource")));
    }
    errors.extend(conflicts(&all).map(|()| invalid("conflicting scopes")));
    errors
}

fn conflicts<'a>(all: &'a [&'a str]) -> impl Iterator<Item = ()> + 'a {
    EXCLUSIVE.iter().filter(|pair| pair.iter().all(|s| all.contains(s))).map(|_| ())
}

fn selector(spec: &Value, path: &Path) -> Vec<FieldError> {
    const FLAG: &str = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
    let mut errors = Vec::new();
    let Some(selector) = spec.get("scopeSelector") else { return errors };
    let at = path.child("matchExpressions");
    let all = list_at(selector, "matchExpressions");
    for requirement in all {
        let (scope, operator) = (str_at(requirement, "scopeName"), str_at(requirement, "operator"));
        let values = list_at(requirement, "values");
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(&at.child("scopeName"), scope, "unsupported scope"));
        }
        errors.extend(
            misfits(spec, scope)
                .map(|_| format!("{}: unsupported scope applied to resource", structure::shown(selector, SELECTOR)))
                .map(|detail| FieldError::invalid_omitted(&at, detail)),
        );
        if FLAGS.contains(&scope) && operator != "Exists" {
            errors.push(FieldError::invalid(&at.child("operator"), operator, FLAG));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(&at.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(&at.child("values"), values.to_vec(), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(&at.child("operator"), other, "not a valid selector operator")),
        }
    }
    let names: Vec<&str> = all.iter().map(|r| str_at(r, "scopeName")).collect();
    // upstream shows the scopes that stand beside the selector
    errors.extend(conflicts(&names).map(|()| match spec.get("scopes") {
        Some(scopes) => FieldError::invalid(&at, scopes.clone(), "conflicting scopes"),
        None => FieldError::invalid_no_list(&at, "conflicting scopes"),
    }));
    errors
}

/// Upstream's structure of a selector of scopes.
const SELECTOR: Fields = &[("MatchExpressions", "matchExpressions", Part::Each(REQUIREMENT))];
const REQUIREMENT: Fields =
    &[("ScopeName", "scopeName", Part::Text), ("Operator", "operator", Part::Text), ("Values", "values", Part::Any)];

/// The texts of the columns Request and Limit: `used/hard` of each resource.
pub(in crate::resources) fn request_and_limit(quota: &Value) -> [String; 2] {
    let zero = Value::from("0");
    let shown = |value: &Value| quantity::from_json(value).map(|q| q.to_string()).unwrap_or_default();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in get(quota, "status.hard").and_then(Value::as_object).into_iter().flatten() {
        let used = get(quota, "status.used").and_then(|u| u.get(name)).unwrap_or(&zero);
        let text = format!("{name}: {}/{}", shown(used), shown(hard));
        if name.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
    }
    [requests.join(", "), limits.join(", ")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_have_upstreams_texts() {
        let texts = |spec: Value| validate(&json!({"spec": spec})).iter().map(ToString::to_string).collect::<Vec<_>>();
        let good = json!({
            "hard": {"pods": "3", "count/deployments.apps": "2", "requests.cpu": "1500m", "requests.example.com/gpu": "1",
                     "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"},
        });
        assert_eq!(texts(good), Vec::<String>::new());
        let scoped = json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
        assert_eq!(texts(scoped), Vec::<String>::new());
        for (spec, wanted) in [
            (json!({"hard": {"pods": "1500m"}}), "spec.hard[pods]: Invalid value: \"1500m\": must be an integer"),
            (
                json!({"hard": {"pods": "-1"}}),
                "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"hard": {"storage": "1"}}),
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
            ),
            (
                json!({"hard": {"secrets": "1"}, "scopes": ["Terminating"]}),
                "spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource",
            ),
            (
                json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
        ] {
            assert_eq!(texts(spec), [wanted]);
        }
        let scope = |name: &str| json!({"scopeName": name, "operator": "Exists"});
        assert_eq!(
            texts(
                json!({"hard": {"secrets": "1"}, "scopeSelector": {"matchExpressions": [scope("BestEffort"), scope("NotBestEffort")]}})
            )[1..],
            [
                concat!(
                    r#"spec.scopeSelector.matchExpressions: Invalid value: {"MatchExpressions":[{"ScopeName":"BestEffort","Operator":"Exists","Values":null},"#,
                    r#"{"ScopeName":"NotBestEffort","Operator":"Exists","Values":null}]}: unsupported scope applied to resource"#
                ),
                "spec.scopeSelector.matchExpressions: Invalid value: null: conflicting scopes",
            ]
        );
        let without = validate_update(&json!({"spec": {}}), &json!({"spec": {"scopes": ["BestEffort"]}}));
        assert_eq!(without[0].to_string(), "spec.scopes: Invalid value: null: field is immutable");
        let changed = validate_update(&json!({"spec": {"scopes": ["BestEffort"]}}), &json!({"spec": {}}));
        assert_eq!(changed[0].to_string(), "spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable");
    }

    #[test]
    fn columns_show_used_of_hard() {
        let quota =
            json!({"status": {"hard": {"limits.cpu": "2", "pods": "5", "requests.cpu": "1"}, "used": {"pods": "3"}}});
        assert_eq!(request_and_limit(&quota), ["pods: 3/5, requests.cpu: 0/1", "limits.cpu: 0/2"]);
    }
}
