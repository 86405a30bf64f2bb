//! DeviceClasses, DeviceTaintRules, and what configurations, tolerations and taints look like everywhere
//! (kubernetes `pkg/apis/resource/validation`).

use serde_json::Value;

use super::{
    names::{each, label, pool},
    selector::selectors,
};
use crate::{
    field::{FieldError, Path},
    names,
    resources::{conditions, limits::names as known, storage::driver_name},
    time,
    value::{default_to, get, list_at, str_at, with_mut},
};

const CONFIGS_MAX: usize = 32;
const PARAMETERS_MAX: usize = 10 * 1024;
const RULE_CONDITIONS_MAX: usize = 8;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];
const OPERATORS: &[&str] = &["Equal", "Exists"];

pub(super) fn class(class: &Value) -> Vec<FieldError> {
    class_spec(class, false, false)
}

/// Selectors and configurations that stay as they were are not judged anew.
pub(super) fn class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let same = |field: &str| list_at(new, field) == list_at(old, field);
    class_spec(new, same("spec.selectors"), same("spec.config"))
}

fn class_spec(class: &Value, stored_selectors: bool, stored_config: bool) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = selectors(list_at(class, "spec.selectors"), stored_selectors, &path.child("selectors"));
    errors.extend(each(list_at(class, "spec.config"), CONFIGS_MAX, &path.child("config"), |config, at| {
        configuration(config, stored_config, at)
    }));
    if let Some(name) = get(class, "spec.extendedResourceName").and_then(Value::as_str)
        && !known::is_extended(name)
    {
        let detail = "must be a valid extended resource name";
        errors.push(FieldError::invalid(&path.child("extendedResourceName"), name, detail));
    }
    errors
}

/// `opaque` parameters of a driver.
pub(super) fn configuration(config: &Value, stored: bool, path: &Path) -> Vec<FieldError> {
    let at = path.child("opaque");
    let Some(opaque) = get(config, "opaque").filter(|o| !o.is_null()) else {
        return vec![FieldError::required(&at, "")];
    };
    let mut errors = driver_name(str_at(opaque, "driver"), &at.child("driver"));
    let max = if stored { usize::MAX } else { PARAMETERS_MAX };
    errors.extend(raw_object(opaque.get("parameters"), max, &at.child("parameters")));
    errors
}

/// Somebody's own data: an object of any content. Nothing of it is shown.
pub(super) fn raw_object(data: Option<&Value>, max: usize, path: &Path) -> Option<FieldError> {
    match data {
        None | Some(Value::Null) => Some(FieldError::required(path, "")),
        Some(data) if data.to_string().len() > max => Some(FieldError::too_long(path, max)),
        Some(Value::Object(_)) => None,
        Some(_) => Some(FieldError::invalid(path, "<value omitted>", "must be a valid JSON object")),
    }
}

pub(super) fn taint_defaults(taint: &mut Value) {
    default_to(taint, "timeAdded", time::now());
}

/// `before`: the taint that was there; the effect it had may stay.
pub(super) fn taint(taint: &Value, before: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let [key, value, effect] = ["key", "value", "effect"].map(|field| str_at(taint, field));
    let mut errors = FieldError::each_invalid(&path.child("key"), key, names::qualified_name(key));
    errors.extend(FieldError::each_invalid(&path.child("value"), value, names::label_value(value)));
    if before.is_none_or(|old| str_at(old, "effect") != effect) {
        let at = path.child("effect");
        match effect {
            "" => errors.push(FieldError::required(&at, "")),
            other if !EFFECTS.contains(&other) => errors.push(FieldError::not_supported(&at, other, EFFECTS)),
            _ => {}
        }
    }
    errors
}

pub(super) fn tolerations(owner: &Value, path: &Path) -> Vec<FieldError> {
    let list = list_at(owner, "tolerations").iter().enumerate();
    list.flat_map(|(i, it)| toleration(it, &path.child("tolerations").index(i))).collect()
}

fn toleration(toleration: &Value, path: &Path) -> Vec<FieldError> {
    let [key, operator, value, effect] = ["key", "operator", "value", "effect"].map(|field| str_at(toleration, field));
    let mut errors = Vec::new();
    if !key.is_empty() {
        errors.extend(FieldError::each_invalid(&path.child("key"), key, names::qualified_name(key)));
    }
    let at = path.child("value");
    match operator {
        "Exists" if !value.is_empty() => {
            errors.push(FieldError::invalid(&at, value, "must be empty for operator `Exists`"));
        }
        "Exists" => {}
        "Equal" => errors.extend(FieldError::each_invalid(&at, value, names::label_value(value))),
        "" => errors.push(FieldError::required(&path.child("operator"), "")),
        other => errors.push(FieldError::not_supported(&path.child("operator"), other, OPERATORS)),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(FieldError::not_supported(&path.child("effect"), effect, EFFECTS));
    }
    errors
}

pub(super) fn taint_rule_defaults(rule: &mut Value) {
    with_mut(rule, "spec", |spec| with_mut(spec, "taint", taint_defaults));
}

pub(super) fn taint_rule(rule: &Value) -> Vec<FieldError> {
    rule_spec(rule, None)
}

pub(super) fn taint_rule_update(new: &Value, old: &Value) -> Vec<FieldError> {
    rule_spec(new, get(old, "spec.taint"))
}

/// What is wrong with a name at a path.
type NameRule = fn(&str, &Path) -> Vec<FieldError>;

fn rule_spec(rule: &Value, before: Option<&Value>) -> Vec<FieldError> {
    const CHECKS: [(&str, NameRule); 3] = [("driver", driver_name), ("pool", pool), ("device", label)];
    let path = Path::new("spec");
    let at = path.child("deviceSelector");
    let chosen = |field: &str| rule.get("spec")?.get("deviceSelector")?.get(field)?.as_str();
    let mut errors: Vec<FieldError> =
        CHECKS.iter().filter_map(|(field, check)| Some(check(chosen(field)?, &at.child(field)))).flatten().collect();
    errors.extend(taint(get(rule, "spec.taint").unwrap_or(&Value::Null), before, &path.child("taint")));
    errors
}

pub(super) fn taint_rule_status(new: &Value, _: &Value) -> Vec<FieldError> {
    let at = Path::new("status").child("conditions");
    let list = list_at(new, "status.conditions");
    let mut errors = conditions::validate(list, &at);
    if list.len() > RULE_CONDITIONS_MAX {
        errors.push(FieldError::too_many(&at, list.len(), RULE_CONDITIONS_MAX));
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
    fn classes() {
        let good = json!({"spec": {"selectors": [{"cel": {"expression": "true"}}], "config": [{"opaque": {"driver": "d.io", "parameters": {}}}]}});
        assert!(class(&good).is_empty());
        let bad = json!({"spec": {"selectors": [{}, {"cel": {"expression": "1"}}],
            "config": [{}, {"opaque": {"driver": "D.io", "parameters": []}}], "extendedResourceName": "x"}});
        assert_eq!(
            texts(&class(&bad)),
            [
                "spec.selectors[0].cel: Required value",
                "spec.selectors[1].cel.expression: Invalid value: \"1\": must evaluate to bool or the unknown type, not int",
                "spec.config[0].opaque: Required value",
                "spec.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "spec.extendedResourceName: Invalid value: \"x\": must be a valid extended resource name",
            ]
        );
        let old = json!({"spec": {"selectors": [{"cel": {"expression": "1"}}]}});
        assert!(class_update(&old, &old).is_empty(), "what was stored once may stay");
    }

    #[test]
    fn taints_know_when_they_came() {
        let mut rule = json!({"spec": {"taint": {"key": "a/b", "effect": "NoSchedule"}}});
        taint_rule_defaults(&mut rule);
        assert!(taint_rule(&rule).is_empty() && rule["spec"]["taint"]["timeAdded"].is_string());
        rule["spec"]["taint"]["effect"] = "Never".into();
        assert!(taint_rule_update(&rule, &rule).is_empty(), "an effect that was there may stay");
        rule["spec"]["deviceSelector"] = json!({"driver": "", "pool": "A", "device": "a.b"});
        let found = texts(&taint_rule(&rule));
        assert_eq!(found[0], "spec.deviceSelector.driver: Required value");
        assert!(found[1].starts_with("spec.deviceSelector.pool: Invalid value: \"A\""));
        assert_eq!(found[2], "spec.deviceSelector.device: Invalid value: \"a.b\": must not contain dots");
        assert_eq!(
            found[3],
            "spec.taint.effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"None\""
        );
    }

    #[test]
    fn tolerations_fit_their_operators() {
        let of = |list: Value| texts(&tolerations(&json!({"tolerations": list}), &Path::new("r")));
        assert_eq!(of(json!([{"operator": "Equal", "key": "a", "value": "b"}, {"operator": "Exists"}])), [""; 0]);
        assert_eq!(
            of(json!([{"operator": "Exists", "value": "b"}, {}, {"operator": "Is", "effect": "x"}])),
            [
                "r.tolerations[0].value: Invalid value: \"b\": must be empty for operator `Exists`",
                "r.tolerations[1].operator: Required value",
                "r.tolerations[2].operator: Unsupported value: \"Is\": supported values: \"Equal\", \"Exists\"",
                "r.tolerations[2].effect: Unsupported value: \"x\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            ]
        );
    }
}
