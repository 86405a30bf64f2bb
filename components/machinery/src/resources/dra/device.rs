//! DeviceClasses, DeviceTaintRules, and what selectors, configurations, tolerations and taints look like everywhere
//! (kubernetes `pkg/apis/resource/validation`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names, time,
    value::{default_to, get, list_at, str_at, with_mut},
};

const SELECTORS_MAX: usize = 32;
const EXPRESSION_MAX: usize = 10 * 1024;
const CONFIGS_MAX: usize = 32;
const PARAMETERS_MAX: usize = 10 * 1024;
const DRIVER_MAX: usize = 63;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

pub(super) fn class(class: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = selectors(list_at(class, "spec.selectors"), &path.child("selectors"));
    let configs = list_at(class, "spec.config");
    if configs.len() > CONFIGS_MAX {
        errors.push(FieldError::too_many(&path.child("config"), configs.len(), CONFIGS_MAX));
    }
    for (i, config) in configs.iter().enumerate() {
        errors.extend(configuration(config, &path.child("config").index(i)));
    }
    let extended = str_at(class, "spec.extendedResourceName");
    if !extended.is_empty() {
        let at = path.child("extendedResourceName");
        errors.extend(names::qualified_name(extended).into_iter().map(|p| FieldError::invalid(&at, extended, p)));
        if !extended.contains('/') {
            errors.push(FieldError::invalid(&at, extended, "must be a valid extended resource name"));
        }
    }
    errors
}

pub(super) fn selectors(selectors: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if selectors.len() > SELECTORS_MAX {
        errors.push(FieldError::too_many(path, selectors.len(), SELECTORS_MAX));
    }
    for (i, selector) in selectors.iter().enumerate() {
        let at = path.index(i);
        let Some(cel) = get(selector, "cel") else {
            errors.push(FieldError::required(&at.child("cel"), ""));
            continue;
        };
        let (expression, at) = (str_at(cel, "expression"), at.child("cel").child("expression"));
        if expression.trim().is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if expression.len() > EXPRESSION_MAX {
            errors.push(FieldError::too_long(&at, EXPRESSION_MAX));
        }
    }
    errors
}

/// `opaque` parameters of a driver.
pub(super) fn configuration(config: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("opaque");
    let Some(opaque) = get(config, "opaque") else {
        return vec![FieldError::required(&at, "")];
    };
    let mut errors = driver_name(str_at(opaque, "driver"), &at.child("driver"));
    match get(opaque, "parameters") {
        None | Some(Value::Null) => errors.push(FieldError::required(&at.child("parameters"), "")),
        Some(parameters) if !parameters.is_object() => {
            errors.push(FieldError::invalid(
                &at.child("parameters"),
                "<value omitted>",
                "parameters must be a valid JSON object",
            ));
        }
        Some(parameters) if parameters.to_string().len() > PARAMETERS_MAX => {
            errors.push(FieldError::too_long(&at.child("parameters"), PARAMETERS_MAX));
        }
        Some(_) => {}
    }
    errors
}

pub(super) fn driver_name(name: &str, path: &Path) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > DRIVER_MAX {
        errors.push(FieldError::too_long(path, DRIVER_MAX));
    }
    errors.extend(names::dns1123_subdomain(name).into_iter().map(|p| FieldError::invalid(path, name, p)));
    errors
}

pub(super) fn taint_defaults(taint: &mut Value) {
    default_to(taint, "timeAdded", time::now());
}

pub(super) fn taint(taint: &Value, path: &Path) -> Vec<FieldError> {
    let (key, value, effect) = (str_at(taint, "key"), str_at(taint, "value"), str_at(taint, "effect"));
    let mut errors: Vec<FieldError> =
        names::qualified_name(key).into_iter().map(|p| FieldError::invalid(&path.child("key"), key, p)).collect();
    errors.extend(names::label_value(value).into_iter().map(|p| FieldError::invalid(&path.child("value"), value, p)));
    match effect {
        "" => errors.push(FieldError::required(&path.child("effect"), "")),
        other if !EFFECTS.contains(&other) => {
            errors.push(FieldError::not_supported(&path.child("effect"), other, EFFECTS));
        }
        _ => {}
    }
    errors
}

pub(super) fn taint_rule_defaults(rule: &mut Value) {
    with_mut(rule, "spec", |spec| with_mut(spec, "taint", taint_defaults));
}

pub(super) fn taint_rule(rule: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = taint(get(rule, "spec.taint").unwrap_or(&Value::Null), &path.child("taint"));
    let at = path.child("deviceSelector");
    let driver = str_at(rule, "spec.deviceSelector.driver");
    if !driver.is_empty() {
        errors.extend(driver_name(driver, &at.child("driver")));
    }
    let device = str_at(rule, "spec.deviceSelector.device");
    if !device.is_empty() {
        errors.extend(
            names::dns1123_label(device).into_iter().map(|p| FieldError::invalid(&at.child("device"), device, p)),
        );
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let good = json!({"spec": {"selectors": [{"cel": {"expression": "true"}}], "config": [{"opaque": {"driver": "d.io", "parameters": {}}}]}});
        assert!(class(&good).is_empty());
        let bad = json!({"spec": {"selectors": [{}, {"cel": {"expression": ""}}], "config": [{}], "extendedResourceName": "x"}});
        let texts: Vec<String> = class(&bad).iter().map(FieldError::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.selectors[0].cel: Required value",
                "spec.selectors[1].cel.expression: Required value",
                "spec.config[0].opaque: Required value",
                "spec.extendedResourceName: Invalid value: \"x\": must be a valid extended resource name",
            ]
        );
    }

    #[test]
    fn taints_know_when_they_came() {
        let mut rule = json!({"spec": {"taint": {"key": "a/b", "effect": "NoSchedule"}}});
        taint_rule_defaults(&mut rule);
        assert!(taint_rule(&rule).is_empty() && rule["spec"]["taint"]["timeAdded"].is_string());
        rule["spec"]["taint"]["effect"] = "Never".into();
        assert_eq!(taint_rule(&rule).len(), 1);
    }
}
