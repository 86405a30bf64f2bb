//! `MatchResources`: which requests a policy or binding is about.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::meta::{label_selector, one_of, optional_one_of};
use crate::{
    FieldError, Path, names,
    value::{default_to, each_mut, list_at, object_mut, str_at},
};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// What is deleted cannot be changed.
pub(super) const MUTATING_OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];

pub(super) fn defaults(resources: &mut Value) {
    default_to(resources, "matchPolicy", "Equivalent");
    for selector in ["namespaceSelector", "objectSelector"] {
        object_mut(resources, selector);
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        each_mut(resources, rules, |rule| default_to(rule, "scope", "*"));
    }
}

pub(super) fn validate(resources: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        one_of(resources, "matchPolicy", path, &["Equivalent", "Exact"]).into_iter().collect();
    for selector in ["namespaceSelector", "objectSelector"] {
        match resources.get(selector).filter(|s| !s.is_null()) {
            None => errors.push(FieldError::required(&path.child(selector), "")),
            found => errors.extend(label_selector(found, &path.child(selector))),
        }
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for (i, rule) in list_at(resources, rules).iter().enumerate() {
            errors.extend(named_rule(rule, &path.child(rules).index(i)));
        }
    }
    errors
}

/// Operations that are not among those allowed here.
pub(super) fn operations(resources: &Value, allowed: &[&str], path: &Path) -> Vec<FieldError> {
    let path = path.child("resourceRules").child("operations");
    let given = list_at(resources, "resourceRules").iter().flat_map(|rule| list_at(rule, "operations"));
    given
        .filter_map(Value::as_str)
        .filter(|operation| !allowed.contains(operation))
        .map(|operation| FieldError::not_supported(&path, operation, allowed))
        .collect()
}

fn named_rule(rule: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, name) in list_at(rule, "resourceNames").iter().filter_map(Value::as_str).enumerate() {
        let at = path.child("resourceNames").index(i);
        errors.extend(names::path_segment(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
    }
    errors.extend(rule_with_operations(rule, path));
    errors
}

/// `RuleWithOperations`, as webhooks have it too.
pub(in crate::resources) fn rule_with_operations(rule: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let list = |field: &str| list_at(rule, field);
    let wildcard = |list: &[Value]| list.len() > 1 && list.iter().any(|v| v == "*");
    for (field, others) in [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")]
    {
        let at = path.child(field);
        if list(field).is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        if wildcard(list(field)) {
            let detail = format!("if '*' is present, must not specify other {others}");
            errors.push(FieldError::invalid(&at, list(field).to_vec(), detail));
        }
        for (i, text) in list(field).iter().filter_map(Value::as_str).enumerate() {
            match field {
                "operations" if !OPERATIONS.contains(&text) => {
                    errors.push(FieldError::not_supported(&at.index(i), text, OPERATIONS));
                }
                "apiVersions" if text.is_empty() => errors.push(FieldError::required(&at.index(i), "")),
                _ => {}
            }
        }
    }
    errors.extend(resources(list("resources"), &path.child("resources")));
    errors.extend(optional_one_of(rule, "scope", path, &["*", "Cluster", "Namespaced"]));
    errors
}

fn resources(list: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if list.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    // x/* and */x that came before
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let (mut all, mut any, mut plain) = (false, false, false);
    for (i, text) in list.iter().filter_map(Value::as_str).enumerate() {
        let at = path.index(i);
        if text.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        all |= text == "*/*";
        any |= text == "*";
        let Some((resource, subresource)) = text.split_once('/') else {
            plain |= text != "*";
            continue;
        };
        for (known, pattern) in [
            (whole.contains(resource), format!("{resource}/*")),
            (everywhere.contains(subresource), format!("*/{subresource}")),
        ] {
            if known {
                let detail = format!("if '{pattern}' is present, must not specify {text}");
                errors.push(FieldError::invalid(&at, text, detail));
            }
        }
        if subresource == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(subresource);
        }
    }
    if list.len() > 1 && all {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, list.to_vec(), detail));
    }
    if any && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, list.to_vec(), detail));
    }
    errors
}

/// `paramRef` of bindings.
pub(super) fn param_ref(binding: &Value, path: &Path) -> Vec<FieldError> {
    let Some(reference) = binding.get("paramRef").filter(|r| !r.is_null()) else { return Vec::new() };
    let path = path.child("paramRef");
    let mut errors = Vec::new();
    let name = str_at(reference, "name");
    let selector = reference.get("selector").filter(|s| !s.is_null());
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    if !name.is_empty() {
        let at = path.child("name");
        errors.extend(names::path_segment(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
        if selector.is_some() {
            errors.push(FieldError::forbidden(&at, EXCLUSIVE));
        }
    }
    if selector.is_some() {
        errors.extend(label_selector(selector, &path.child("selector")));
        if !name.is_empty() {
            errors.push(FieldError::forbidden(&path.child("selector"), EXCLUSIVE));
        }
    }
    if name.is_empty() && selector.is_none() {
        errors.push(FieldError::required(&path, "one of name or selector must be specified"));
    }
    errors.extend(one_of(reference, "parameterNotFoundAction", &path, &["Allow", "Deny"]));
    errors
}
