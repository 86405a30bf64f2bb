//! `MatchResources`: which requests a policy or binding is about.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{
    admission::webhooks,
    meta::{label_selector, one_of},
};
use crate::{
    FieldError, Path, names,
    value::{default_absent, each_mut, list_at, object_mut, str_at},
};

/// What is deleted cannot be changed.
pub(super) const MUTATING_OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];

pub(super) fn defaults(resources: &mut Value) {
    default_absent(resources, "matchPolicy", "Equivalent");
    for selector in ["namespaceSelector", "objectSelector"] {
        object_mut(resources, selector);
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        each_mut(resources, rules, |rule| default_absent(rule, "scope", "*"));
    }
}

pub(super) fn validate(resources: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        webhooks::known(resources, "matchPolicy", path, &["Equivalent", "Exact"]).into_iter().collect();
    if resources.get("matchPolicy").is_none() {
        errors.push(FieldError::required(&path.child("matchPolicy"), ""));
    }
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
    errors.extend(webhooks::rule(rule, path));
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
    errors.extend(one_of(reference, "parameterNotFoundAction", &path, &["Deny", "Allow"]));
    errors
}
