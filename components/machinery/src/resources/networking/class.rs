//! IngressClasses (kubernetes `pkg/apis/networking/validation`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, get, str_at, with_mut},
};

const CONTROLLER_MAX: usize = 250;
const SCOPES: &[&str] = &["Cluster", "Namespace"];

pub(super) fn defaults(class: &mut Value) {
    with_mut(class, "spec", |spec| with_mut(spec, "parameters", |p| default_to(p, "scope", "Cluster")));
}

pub(super) fn validate(class: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let at = path.child("controller");
    let controller = str_at(class, "spec.controller");
    let mut errors = Vec::new();
    if controller.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        if controller.len() > CONTROLLER_MAX {
            errors.push(FieldError::too_long(&at, CONTROLLER_MAX));
        }
        errors.extend(domain_prefixed(controller, &at));
    }
    if let Some(parameters) = get(class, "spec.parameters") {
        errors.extend(reference(parameters, &path.child("parameters")));
    }
    errors
}

fn domain_prefixed(text: &str, path: &Path) -> Vec<FieldError> {
    let Some((domain, rest)) = text.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        return vec![FieldError::invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")")];
    };
    let domain = names::dns1123_subdomain(domain).into_iter().map(|p| FieldError::invalid(path, domain, p));
    let is_path = rest.bytes().all(|c| c.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&c));
    let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
    domain.chain((!is_path).then(|| FieldError::invalid(path, rest, detail))).collect()
}

fn reference(parameters: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = typed_reference(parameters, path);
    let (scope, at) = (str_at(parameters, "scope"), path.child("namespace"));
    let namespace = parameters.get("namespace").and_then(Value::as_str);
    match (scope, namespace) {
        ("", _) => errors.push(FieldError::required(&path.child("scope"), "")),
        ("Namespace", None) => errors.push(FieldError::required(&at, "`parameters.scope` is set to 'Namespace'")),
        ("Namespace", Some(name)) => {
            errors.extend(names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at, name, p)));
        }
        ("Cluster", Some(_)) => errors.push(FieldError::forbidden(&at, "`parameters.scope` is set to 'Cluster'")),
        ("Cluster", None) => {}
        (other, _) => errors.push(FieldError::not_supported(&path.child("scope"), other, SCOPES)),
    }
    errors
}

/// `apiGroup`, `kind` and `name` of a reference to any kind.
pub(super) fn typed_reference(reference: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(group) = reference.get("apiGroup").and_then(Value::as_str) {
        let at = path.child("apiGroup");
        errors.extend(names::dns1123_subdomain(group).into_iter().map(|p| FieldError::invalid(&at, group, p)));
    }
    for field in ["kind", "name"] {
        let (value, at) = (str_at(reference, field), path.child(field));
        if value.is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        errors.extend(names::path_segment(value).into_iter().map(|p| FieldError::invalid(&at, value, p)));
    }
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::immutable(new, old, &["spec.controller"]);
    errors.extend(validate(new));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_know_their_scope() {
        let texts = |parameters: Value| {
            let mut class = json!({"spec": {"controller": "a.io/b", "parameters": parameters}});
            defaults(&mut class);
            validate(&class).iter().map(FieldError::to_string).collect::<Vec<_>>()
        };
        assert!(texts(json!({"kind": "K", "name": "n"})).is_empty());
        assert!(texts(json!({"kind": "K", "name": "n", "scope": "Namespace", "namespace": "x"})).is_empty());
        assert_eq!(
            texts(json!({"kind": "K", "name": "n", "scope": "Namespace"})),
            ["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"]
        );
        assert_eq!(texts(json!({"name": "n", "namespace": "x"})).len(), 2);
        assert_eq!(validate(&json!({"spec": {"controller": "nodomain"}})).len(), 1);
    }
}
