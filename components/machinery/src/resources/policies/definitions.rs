//! Policies: defaults, and what is wrong with them outside of their expressions.

use serde_json::Value;

use super::{
    super::{admission::webhooks, conditions, meta::one_of, writing},
    matching,
};
use crate::{
    FieldError, Path,
    expressions::{Policy, type_checking},
    names,
    value::{default_absent, int_at, list_at, str_at, with_mut},
};

pub(super) fn defaults(policy: &mut Value) {
    with_mut(policy, "spec", |spec| {
        default_absent(spec, "failurePolicy", "Fail");
        with_mut(spec, "matchConstraints", matching::defaults);
    });
}

/// What upstream's controller says of a policy: whether its expressions fit the kinds it is about.
fn observe(policy: &mut Value, generation: i64) {
    let checked = type_checking(policy);
    policy["status"]["observedGeneration"] = generation.into();
    policy["status"]["typeChecking"] = checked;
}

pub(super) fn prepare_create(policy: &mut Value) {
    writing::drop_status(policy);
    observe(policy, 1);
}

pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    writing::keep_status(new, old);
    if new.get("spec") != old.get("spec") {
        observe(new, int_at(old, "metadata.generation").unwrap_or(0) + 1);
    }
}

pub(super) fn validating(policy: &Value) -> Vec<FieldError> {
    let mut errors = common(policy, None);
    errors.extend(Policy::compile(policy).1);
    errors
}

pub(super) fn mutating(policy: &Value) -> Vec<FieldError> {
    let mut errors = common(policy, Some(matching::MUTATING_OPERATIONS));
    errors.extend(Policy::compile(policy).1);
    let spec = &policy["spec"];
    errors.extend(one_of(spec, "reinvocationPolicy", &Path::new("spec"), &["IfNeeded", "Never"]));
    errors
}

fn common(policy: &Value, operations: Option<&[&str]>) -> Vec<FieldError> {
    let spec = &policy["spec"];
    let path = Path::new("spec");
    let mut errors: Vec<FieldError> =
        webhooks::known(spec, "failurePolicy", &path, &["Fail", "Ignore"]).into_iter().collect();
    if let Some(kind) = spec.get("paramKind").filter(|k| !k.is_null()) {
        errors.extend(param_kind(kind, &path.child("paramKind")));
    }
    let path = path.child("matchConstraints");
    let Some(constraints) = spec.get("matchConstraints").filter(|c| !c.is_null()) else {
        errors.push(FieldError::required(&path, ""));
        return errors;
    };
    errors.extend(matching::validate(constraints, &path));
    if list_at(constraints, "resourceRules").is_empty() {
        errors.push(FieldError::required(&path.child("resourceRules"), ""));
    }
    if let Some(operations) = operations {
        errors.extend(matching::operations(constraints, operations, &path));
    }
    errors
}

fn param_kind(kind: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |field: &str, value: &str, problems: Vec<String>, before: &str| {
        if !problems.is_empty() {
            let detail = format!("{before}{}", problems.join(","));
            errors.push(FieldError::invalid(&path.child(field), value, detail));
        }
    };
    let (version, name) = (str_at(kind, "apiVersion"), str_at(kind, "kind"));
    let parts: Vec<&str> = version.split('/').collect();
    match parts.as_slice() {
        [""] => errors.push(FieldError::required(&path.child("apiVersion"), "")),
        [group, version] => {
            if !group.is_empty() {
                wrong("apiVersion", group, names::dns1123_subdomain(group), "");
            }
            match *version {
                "" => wrong("apiVersion", str_at(kind, "apiVersion"), vec!["version must be specified".into()], ""),
                version => wrong("apiVersion", version, names::dns1035_label(version), ""),
            }
        }
        [version] => wrong("apiVersion", version, names::dns1035_label(version), ""),
        _ => wrong("apiVersion", version, vec![format!("unexpected GroupVersion string: {version}")], ""),
    }
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("kind"), ""));
    } else {
        let problems = names::dns1035_label(&name.to_lowercase());
        if !problems.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
            errors.push(FieldError::invalid(&path.child("kind"), name, detail));
        }
    }
    errors
}

/// `status.typeChecking` names what it warns of.
pub(super) fn status(policy: &Value) -> Vec<FieldError> {
    let path = Path::new("status").child("typeChecking").child("expressionWarnings");
    let mut errors = Vec::new();
    for (i, warning) in list_at(policy, "status.typeChecking.expressionWarnings").iter().enumerate() {
        for (field, text) in [("warning", str_at(warning, "warning")), ("fieldRef", str_at(warning, "fieldRef").trim())]
        {
            if text.is_empty() {
                errors.push(FieldError::required(&path.index(i).child(field), ""));
            }
        }
    }
    let path = Path::new("status").child("conditions");
    errors.extend(conditions::validate(list_at(policy, "status.conditions"), &path));
    errors
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn example(kind: &str, spec: Value) -> Value {
        let mut policy = json!({"kind": kind, "metadata": {"name": "p.example.com"}, "spec": spec});
        defaults(&mut policy);
        policy
    }

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    fn rules() -> Value {
        json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]})
    }

    #[test]
    fn a_good_policy_gets_defaults() {
        let policy = example(
            "ValidatingAdmissionPolicy",
            json!({"matchConstraints": rules(), "validations": [{"expression": "object.spec.replicas <= 5"}]}),
        );
        assert_eq!(texts(validating(&policy)), Vec::<String>::new());
        let constraints = &policy["spec"]["matchConstraints"];
        assert_eq!(
            (&policy["spec"]["failurePolicy"], &constraints["matchPolicy"]),
            (&json!("Fail"), &json!("Equivalent"))
        );
        assert_eq!(
            (&constraints["namespaceSelector"], &constraints["resourceRules"][0]["scope"]),
            (&json!({}), &json!("*"))
        );
    }

    #[test]
    fn status_is_judged_whole() {
        let given = json!({"typeChecking": {"expressionWarnings": [{"fieldRef": " "}]}, "conditions": [{"type": "a", "status": "True", "reason": "b"}]});
        assert_eq!(
            texts(status(&json!({"status": given}))),
            [
                "status.typeChecking.expressionWarnings[0].warning: Required value",
                "status.typeChecking.expressionWarnings[0].fieldRef: Required value",
                "status.conditions[0].lastTransitionTime: Required value: must be set",
            ]
        );
    }

    #[test]
    fn texts_of_policies_are_upstreams() {
        let spec = json!({"failurePolicy": "", "matchConstraints": rules(), "variables": [{"name": "a-b", "expression": "1"}], "validations": [
            {"expression": "true", "message": " ", "reason": "Unauthorized"}, {"expression": "true", "message": "a\nb"}]});
        assert_eq!(
            texts(validating(&example("ValidatingAdmissionPolicy", spec))),
            [
                "spec.failurePolicy: Unsupported value: \"\": supported values: \"Fail\", \"Ignore\"",
                "spec.variables[0].name: Invalid value: \"a-b\": name is not a valid CEL identifier",
                "spec.validations[0].message: Invalid value: \" \": message must be non-empty if specified",
                "spec.validations[0].reason: Unsupported value: \"Unauthorized\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
                "spec.validations[1].message: Invalid value: \"a\\nb\": message must not contain line breaks",
            ]
        );
    }

    #[test]
    fn what_is_wrong_with_policies() {
        let empty = texts(validating(&example("ValidatingAdmissionPolicy", json!({}))));
        assert!(empty.contains(&"spec.matchConstraints: Required value".to_owned()), "{empty:?}");
        let spec = json!({
            "failurePolicy": "Maybe", "paramKind": {"apiVersion": "a/b/c"},
            "matchConstraints": {"resourceRules": [{"apiGroups": ["*", "a"], "apiVersions": [""], "operations": ["DELETE"], "resources": ["*", "pods"]}]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/a', value: 1}]"}}],
        });
        let found = texts(mutating(&example("MutatingAdmissionPolicy", spec)));
        for part in [
            "spec.failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
            "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            "spec.paramKind.kind: Required value",
            "if '*' is present, must not specify other API groups",
            "spec.matchConstraints.resourceRules[0].apiVersions[0]: Required value",
            "if '*' is present, must not specify other resources without subresources",
            "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
            "spec.reinvocationPolicy: Required value",
        ] {
            assert!(found.iter().any(|f| f.contains(part)), "{part}: {found:#?}");
        }
    }
}
