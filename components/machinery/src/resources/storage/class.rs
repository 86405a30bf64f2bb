//! StorageClasses and VolumeAttributesClasses (kubernetes `pkg/apis/storage/validation`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, list_at, map_at, str_at},
};

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_SIZE: usize = 256 * 1024;

pub(in crate::resources) fn defaults(class: &mut Value) {
    default_to(class, "reclaimPolicy", "Delete");
    default_to(class, "volumeBindingMode", "Immediate");
}

/// Name of a provisioner or driver.
fn provisioner(object: &Value, field: &str) -> Vec<FieldError> {
    let (at, name) = (Path::new(field), str_at(object, field));
    if name.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let lower = name.to_lowercase();
    FieldError::each_invalid(&at, &lower, names::qualified_name(&lower))
}

fn parameters(class: &Value, required: bool) -> Vec<FieldError> {
    let at = Path::new("parameters");
    let Some(all) = map_at(class, "parameters").filter(|m| !m.is_empty()) else {
        return required
            .then(|| FieldError::required(&at, "must contain at least one key/value pair"))
            .into_iter()
            .collect();
    };
    if all.len() > PARAMETERS_MAX {
        return vec![FieldError::too_long(&at, PARAMETERS_MAX)];
    }
    let mut errors = Vec::new();
    if all.contains_key("") {
        errors.push(FieldError::invalid(&at, "", "field can not be empty."));
    }
    let size: usize = all.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if size > PARAMETERS_SIZE {
        errors.push(FieldError::too_long(&at, PARAMETERS_SIZE));
    }
    errors
}

pub(in crate::resources) fn validate(class: &Value) -> Vec<FieldError> {
    let root = Path::default();
    let mut errors = provisioner(class, "provisioner");
    errors.extend(parameters(class, false));
    errors.extend(meta::optional_one_of(class, "reclaimPolicy", &root, &["Delete", "Retain"]));
    errors.extend(meta::one_of(class, "volumeBindingMode", &root, &["Immediate", "WaitForFirstConsumer"]));
    errors.extend(topologies(class));
    errors
}

fn topologies(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let terms = list_at(class, "allowedTopologies");
    for (i, term) in terms.iter().enumerate() {
        let at = Path::new("allowedTopologies").index(i).child("matchLabelExpressions");
        let expressions = list_at(term, "matchLabelExpressions");
        let mut keys = Vec::new();
        for (j, expression) in expressions.iter().enumerate() {
            let (at, key, values) = (at.index(j), str_at(expression, "key"), list_at(expression, "values"));
            if values.is_empty() {
                errors.push(FieldError::required(&at.child("values"), ""));
            }
            for (k, value) in values.iter().enumerate().filter(|(k, v)| values[..*k].contains(v)) {
                errors.push(FieldError::duplicate(&at.child("values").index(k), value.clone()));
            }
            let problems = names::qualified_name(key).into_iter();
            errors.extend(problems.map(|p| FieldError::invalid(&at.child("key"), key, p)));
            if keys.contains(&key) {
                errors.push(FieldError::duplicate(&at.child("key"), key));
            }
            keys.push(key);
        }
        if terms[..i].iter().any(|t| list_at(t, "matchLabelExpressions") == expressions) {
            errors.push(FieldError::duplicate(&at, ""));
        }
    }
    errors
}

/// What nobody may change, told as a prohibition.
fn fixed(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    fields
        .iter()
        .filter(|field| new.get(**field) != old.get(**field))
        .map(|field| FieldError::forbidden(&Path::new(field), format!("updates to {field} are forbidden.")))
        .collect()
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    errors.extend(fixed(new, old, &["parameters", "provisioner", "reclaimPolicy"]));
    errors.extend(meta::immutable(new, old, &["volumeBindingMode"]));
    errors
}

pub(in crate::resources) fn attributes(class: &Value) -> Vec<FieldError> {
    let mut errors = provisioner(class, "driverName");
    errors.extend(parameters(class, true));
    errors
}

pub(in crate::resources) fn attributes_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = attributes(new);
    errors.extend(fixed(new, old, &["driverName", "parameters"]));
    errors.extend(attributes(new));
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
        let mut class = json!({"provisioner": "x.io/y", "parameters": {"a": "b"}});
        defaults(&mut class);
        assert!(validate(&class).is_empty());
        let mut other = class.clone();
        other["parameters"]["a"] = "c".into();
        other["volumeBindingMode"] = "WaitForFirstConsumer".into();
        assert_eq!(
            texts(&validate_update(&other, &class)),
            [
                "parameters: Forbidden: updates to parameters are forbidden.",
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable"
            ]
        );
        other["provisioner"] = "".into();
        let fields: Vec<String> = validate_update(&other, &class).into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["provisioner", "parameters", "provisioner", "volumeBindingMode"]);
        class["allowedTopologies"] =
            json!([{"matchLabelExpressions": [{"key": "a", "values": []}, {"key": "a", "values": ["b", "b"]}]}]);
        assert_eq!(validate(&class).len(), 3);
    }

    #[test]
    fn attribute_classes_need_parameters() {
        assert_eq!(
            texts(&attributes(&json!({"driverName": "d"}))),
            ["parameters: Required value: must contain at least one key/value pair"]
        );
        let class = json!({"driverName": "d", "parameters": {"a": "b"}});
        assert_eq!(
            texts(&attributes_update(&json!({"driverName": "e", "parameters": {"a": "b"}}), &class)),
            ["driverName: Forbidden: updates to driverName are forbidden."]
        );
        assert!(texts(&attributes(&json!({"driverName": "A b", "parameters": {"a": "b"}})))[0].contains("\"a b\""));
    }
}
