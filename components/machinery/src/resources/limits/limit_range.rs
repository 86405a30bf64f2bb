//! LimitRanges (kubernetes `SetDefaults_LimitRangeItem`, `ValidateLimitRange`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::names as resource_names;
use crate::{
    field::{FieldError, Path},
    names,
    quantity::{self, Quantity},
    value::{each_mut, list_at, map_at, object_mut, str_at, with_mut},
};

const TYPES: &[&str] = &["Pod", "Container", "PersistentVolumeClaim"];

/// For containers: limits from the maximum, requests from the limits or the minimum.
pub(in crate::resources) fn defaults(range: &mut Value) {
    with_mut(range, "spec", |spec| {
        each_mut(spec, "limits", |item| {
            if str_at(item, "type") == "Container" {
                for (into, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
                    fill(item, into, from);
                }
            }
        });
    });
}

fn fill(item: &mut Value, into: &str, from: &str) {
    let Some(source) = map_at(item, from).filter(|m| !m.is_empty()).cloned() else { return };
    let Some(target) = object_mut(item, into).and_then(Value::as_object_mut) else { return };
    for (name, quantity) in source {
        target.entry(name).or_insert(quantity);
    }
}

pub(in crate::resources) fn validate(range: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, item) in list_at(range, "spec.limits").iter().enumerate() {
        let at = Path::new("spec").child("limits").index(i);
        let kind = str_at(item, "type");
        errors.extend(type_name(kind, &at.child("type")));
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&at.child("type"), kind));
        }
        errors.extend(resources(item, kind, &at));
        errors.extend(amounts(item, &at));
    }
    errors
}

fn type_name(kind: &str, path: &Path) -> Vec<FieldError> {
    let errors: Vec<FieldError> =
        names::qualified_name(kind).into_iter().map(|p| FieldError::invalid(path, kind, p)).collect();
    if errors.is_empty() && !kind.contains('/') && !TYPES.contains(&kind) {
        return vec![FieldError::invalid(path, kind, "must be a standard limit type or fully qualified")];
    }
    errors
}

/// The names, and which lists a type may have.
fn resources(item: &Value, kind: &str, path: &Path) -> Vec<FieldError> {
    let check =
        if matches!(kind, "Pod" | "Container") { resource_names::validate_container } else { resource_names::validate };
    let mut errors = Vec::new();
    let named = |list: &str| -> Vec<FieldError> {
        let keys = map_at(item, list).into_iter().flat_map(Map::keys);
        keys.flat_map(|name| check(name, &path.child(list).key(name))).collect()
    };
    errors.extend(named("max"));
    errors.extend(named("min"));
    for list in ["default", "defaultRequest"] {
        if kind != "Pod" {
            errors.extend(named(list));
        } else if map_at(item, list).is_some_and(|m| !m.is_empty()) {
            errors.push(FieldError::forbidden(&path.child(list), "may not be specified when `type` is 'Pod'"));
        }
    }
    let storage = |list: &str| map_at(item, list).is_some_and(|m| m.contains_key("storage"));
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&path.child("limits"), detail));
    }
    errors.extend(named("maxLimitRequestRatio"));
    errors
}

/// How the amounts of each resource stand to each other.
fn amounts(item: &Value, path: &Path) -> Vec<FieldError> {
    const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let names: BTreeSet<&String> = LISTS.iter().filter_map(|list| map_at(item, list)).flat_map(Map::keys).collect();
    names.into_iter().flat_map(|name| one_resource(item, name, path)).collect()
}

fn one_resource(item: &Value, name: &str, path: &Path) -> Vec<FieldError> {
    let amount = |list: &str| -> Option<Quantity> { quantity::from_json(map_at(item, list)?.get(name)?).ok() };
    let (min, max) = (amount("min"), amount("max"));
    let (limit, request, ratio) = (amount("default"), amount("defaultRequest"), amount("maxLimitRequestRatio"));
    let mut errors = Vec::new();
    let mut exceeds =
        |low: Option<Quantity>, high: Option<Quantity>, words: [&str; 2], list: &str, shown: Option<Quantity>| {
            if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
                && low > high
            {
                let detail = format!("{} value {low} is greater than {} value {high}", words[0], words[1]);
                errors.push(FieldError::invalid(&path.child(list).key(name), shown.to_string(), detail));
            }
        };
    exceeds(min, max, ["min", "max"], "min", min);
    exceeds(min, request, ["min", "default request"], "defaultRequest", request);
    exceeds(request, max, ["default request", "max"], "defaultRequest", request);
    exceeds(request, limit, ["default request", "default limit"], "defaultRequest", request);
    exceeds(min, limit, ["min", "default"], "default", min);
    exceeds(limit, max, ["default", "max"], "default", max);
    if let Some(ratio) = ratio {
        let at = path.child("maxLimitRequestRatio").key(name);
        if ratio < Quantity::from_int(1, quantity::Format::DecimalSi) {
            errors.push(FieldError::invalid(&at, ratio.to_string(), format!("ratio {ratio} is less than 1")));
        }
        if let (Some(min), Some(max)) = (min, max) {
            let bound = quotient(max, min);
            if quotient(ratio, Quantity::from_int(1, quantity::Format::DecimalSi)) > bound {
                let detail = format!("ratio {ratio} is greater than max/min = {bound:.6}");
                errors.push(FieldError::invalid(&at, ratio.to_string(), detail));
            }
        }
    }
    if let (Some(limit), Some(request)) = (limit, request)
        && !resource_names::may_be_overcommitted(name)
        && limit != request
    {
        let detail = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
        errors.push(FieldError::invalid(&path.child("defaultRequest").key(name), request.to_string(), detail));
    }
    errors
}

#[allow(clippy::cast_precision_loss)]
fn quotient(a: Quantity, b: Quantity) -> f64 {
    a.milli_value() as f64 / b.milli_value() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(item: Value) -> Vec<String> {
        validate(&json!({"spec": {"limits": [item]}})).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn containers_get_defaults() {
        let mut range = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "2"}}]}});
        defaults(&mut range);
        let items = &range["spec"]["limits"];
        assert_eq!(items[0]["default"], json!({"cpu": "2"}));
        assert_eq!(items[0]["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
        assert_eq!(items[1].get("default"), None);
    }

    #[test]
    fn faults_have_upstreams_texts() {
        assert_eq!(texts(json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}})), Vec::<String>::new());
        for (item, wanted) in [
            (
                json!({"type": "X"}),
                "spec.limits[0].type: Invalid value: \"X\": must be a standard limit type or fully qualified",
            ),
            (
                json!({"type": "Pod", "default": {"cpu": "1"}}),
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                json!({"type": "PersistentVolumeClaim", "max": {"cpu": "1"}}),
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ),
            (
                json!({"type": "Pod", "min": {"cpu": "3"}, "max": {"cpu": "2"}}),
                "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
            ),
            (
                json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}),
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1",
            ),
            (
                json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ),
        ] {
            assert_eq!(texts(item), [wanted]);
        }
    }
}
