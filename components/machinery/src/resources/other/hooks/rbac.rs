//! Roles and bindings (kubernetes `pkg/apis/rbac/validation`).

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, each_mut, get, list_at, str_at, with_mut},
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Rules of a Role, or (not `namespaced`) of a ClusterRole.
pub(in crate::resources) fn role(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, rule) in list_at(role, "rules").iter().enumerate() {
        let at = Path::new("rules").index(i);
        if list_at(rule, "verbs").is_empty() {
            errors.push(FieldError::required(&at.child("verbs"), "verbs must contain at least one value"));
        }
        let urls = !list_at(rule, "nonResourceURLs").is_empty();
        if urls {
            if namespaced {
                errors.push(FieldError::invalid(
                    &at.child("nonResourceURLs"),
                    rule["nonResourceURLs"].clone(),
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|f| !list_at(rule, f).is_empty()) {
                errors.push(FieldError::invalid(
                    &at.child("nonResourceURLs"),
                    rule["nonResourceURLs"].clone(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if list_at(rule, "apiGroups").is_empty() {
            errors.push(FieldError::required(
                &at.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if list_at(rule, "resources").is_empty() {
            errors
                .push(FieldError::required(&at.child("resources"), "resource rules must supply at least one resource"));
        }
    }
    if get(role, "aggregationRule").is_some_and(|rule| list_at(rule, "clusterRoleSelectors").is_empty()) {
        errors.push(FieldError::required(
            &Path::new("aggregationRule").child("clusterRoleSelectors"),
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        ));
    }
    for (i, selector) in list_at(role, "aggregationRule.clusterRoleSelectors").iter().enumerate() {
        errors.extend(meta::label_selector(
            Some(selector),
            &Path::new("aggregationRule").child("clusterRoleSelectors").index(i),
        ));
    }
    errors
}

pub(in crate::resources) fn binding_defaults(binding: &mut Value) {
    with_mut(binding, "roleRef", |role| default_to(role, "apiGroup", GROUP));
    each_mut(binding, "subjects", |subject| {
        if matches!(str_at(subject, "kind"), "User" | "Group") {
            default_to(subject, "apiGroup", GROUP);
        }
    });
}

pub(in crate::resources) fn binding(binding: &Value) -> Vec<FieldError> {
    let at = Path::new("roleRef");
    let role = binding.get("roleRef").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    if str_at(role, "apiGroup") != GROUP {
        errors.push(FieldError::not_supported(&at.child("apiGroup"), str_at(role, "apiGroup"), &[GROUP]));
    }
    let namespaced = !str_at(binding, "metadata.namespace").is_empty();
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = str_at(role, "kind");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(&at.child("kind"), kind, kinds));
    }
    let name = str_at(role, "name");
    if name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    } else {
        errors.extend(names::path_segment(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)));
    }
    for (i, who) in list_at(binding, "subjects").iter().enumerate() {
        errors.extend(subject(who, &Path::new("subjects").index(i), namespaced));
    }
    errors
}

fn subject(subject: &Value, path: &Path, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (kind, name, group) = (str_at(subject, "kind"), str_at(subject, "name"), str_at(subject, "apiGroup"));
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.extend(
                    names::dns1123_subdomain(name)
                        .into_iter()
                        .map(|p| FieldError::invalid(&path.child("name"), name, p)),
                );
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if str_at(subject, "namespace").is_empty() && !namespaced {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" if group != GROUP => {
            errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[GROUP]))
        }
        "User" | "Group" => {}
        other => {
            errors.push(FieldError::not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]))
        }
    }
    errors
}

pub(in crate::resources) fn binding_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = binding(new);
    if new.get("roleRef") != old.get("roleRef") {
        // upstream shows its own structure
        let part = |field: &str| json!(get(new, "roleRef").map(|r| str_at(r, field)).unwrap_or_default());
        let shown = format!(r#"{{"APIGroup":{},"Kind":{},"Name":{}}}"#, part("apiGroup"), part("kind"), part("name"));
        errors.push(FieldError::invalid_omitted(&Path::new("roleRef"), format!("{shown}: cannot change roleRef")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings() {
        let mut b = json!({"metadata": {}, "roleRef": {"kind": "ClusterRole", "name": "a:b"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
        binding_defaults(&mut b);
        assert!(binding(&b).is_empty(), "{:?}", binding(&b));
        let mut other = b.clone();
        other["roleRef"]["name"] = "c".into();
        assert_eq!(
            binding_update(&other, &b)[0].to_string(),
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"ClusterRole\",\"Name\":\"c\"}: cannot change roleRef"
        );
        other["roleRef"]["kind"] = "Role".into();
        assert_eq!(
            binding(&other)[0].to_string(),
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""
        );
        other["metadata"]["namespace"] = "n".into();
        assert!(binding(&other).is_empty());
        crate::value::remove(&mut b["subjects"][1], "namespace");
        assert_eq!(binding(&b).len(), 1);
    }

    #[test]
    fn rules() {
        assert!(
            role(&json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}), true).is_empty()
        );
        assert!(role(&json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}), false).is_empty());
        assert_eq!(role(&json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}), true).len(), 1);
        assert_eq!(role(&json!({"rules": [{}]}), true).len(), 3);
    }
}
