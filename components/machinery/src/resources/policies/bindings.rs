//! Bindings of policies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::matching;
use crate::{
    FieldError, Path, names,
    value::{list_at, str_at, with_mut},
};

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

pub(super) fn defaults(binding: &mut Value) {
    with_mut(binding, "spec", |spec| with_mut(spec, "matchResources", matching::defaults));
}

pub(super) fn validating(binding: &Value) -> Vec<FieldError> {
    // upstream's own spelling
    let mut errors = common(binding, "matchResouces");
    errors.extend(actions(list_at(binding, "spec.validationActions"), &Path::new("spec").child("validationActions")));
    errors
}

pub(super) fn mutating(binding: &Value) -> Vec<FieldError> {
    let mut errors = common(binding, "matchResources");
    let resources = &binding["spec"]["matchResources"];
    let path = Path::new("spec").child("matchResources");
    errors.extend(matching::operations(resources, matching::MUTATING_OPERATIONS, &path));
    errors
}

/// `resources_name` is how upstream calls the field that says what a binding is about.
fn common(binding: &Value, resources_name: &str) -> Vec<FieldError> {
    let spec = &binding["spec"];
    let path = Path::new("spec");
    let at = path.child("policyName");
    let mut errors = match str_at(spec, "policyName") {
        "" => vec![FieldError::required(&at, "")],
        name => names::dns1123_subdomain(name).into_iter().map(|p| FieldError::invalid(&at, name, p)).collect(),
    };
    errors.extend(matching::param_ref(spec, &path));
    if let Some(resources) = spec.get("matchResources").filter(|r| !r.is_null()) {
        errors.extend(matching::validate(resources, &path.child(resources_name)));
    }
    errors
}

fn actions(list: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, action) in list.iter().filter_map(Value::as_str).enumerate() {
        if !ACTIONS.contains(&action) {
            errors.push(FieldError::not_supported(&path.index(i), action, ACTIONS));
        }
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(&path.index(i), action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, list.to_vec(), detail));
    }
    if seen.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_with_bindings() {
        let texts = |errors: Vec<FieldError>| errors.iter().map(FieldError::to_string).collect::<Vec<_>>();
        let good = json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Audit"]}});
        assert_eq!(texts(validating(&good)), Vec::<String>::new());
        let bad = json!({"spec": {
            "validationActions": ["Deny", "Warn", "Warn", "Shout"],
            "paramRef": {"name": "a/b", "selector": {}, "parameterNotFoundAction": "Perhaps"},
            "matchResources": {"matchPolicy": "Near", "namespaceSelector": {}, "objectSelector": {}},
        }});
        let found = texts(validating(&bad));
        for part in [
            "spec.policyName: Required value",
            "spec.paramRef.name: Invalid value: \"a/b\": may not contain '/'",
            "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
            "spec.paramRef.parameterNotFoundAction: Unsupported value: \"Perhaps\": supported values: \"Deny\", \"Allow\"",
            "spec.matchResouces.matchPolicy: Unsupported value: \"Near\": supported values: \"Equivalent\", \"Exact\"",
            "spec.validationActions[2]: Duplicate value: \"Warn\"",
            "spec.validationActions[3]: Unsupported value: \"Shout\"",
            "must not contain both Deny and Warn",
        ] {
            assert!(found.iter().any(|f| f.contains(part)), "{part}: {found:#?}");
        }
        let deletes =
            json!({"spec": {"policyName": "p", "matchResources": {"resourceRules": [{"operations": ["DELETE"]}]}}});
        assert!(texts(mutating(&deletes)).iter().any(|f| f.contains("Unsupported value: \"DELETE\"")));
    }
}
