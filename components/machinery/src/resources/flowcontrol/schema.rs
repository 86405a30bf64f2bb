//! FlowSchemas (kubernetes `pkg/apis/flowcontrol`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names, structure,
    value::{bool_at, get, int_at, list_at, name, str_at, with_mut},
};

const PRECEDENCE_DEFAULT: i64 = 1000;
const PRECEDENCE_MAX: i64 = 10_000;
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(super) fn defaults(schema: &mut Value) {
    with_mut(schema, "spec", |spec| {
        if int_at(spec, "matchingPrecedence").unwrap_or(0) == 0 {
            spec["matchingPrecedence"] = PRECEDENCE_DEFAULT.into();
        }
    });
}

pub(super) fn validate(schema: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let at = path.child("matchingPrecedence");
    let precedence = int_at(schema, "spec.matchingPrecedence").unwrap_or(0);
    let mut errors = Vec::new();
    if precedence <= 0 {
        errors.push(FieldError::invalid(&at, precedence, "must be a positive value"));
    }
    if precedence > PRECEDENCE_MAX {
        errors.push(FieldError::invalid(&at, precedence, format!("must not be greater than {PRECEDENCE_MAX}")));
    }
    if precedence == 1 && name(schema) != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(FieldError::invalid(&at, precedence, detail));
    }
    if let Some(method) = get(schema, "spec.distinguisherMethod")
        && !matches!(str_at(method, "type"), "ByNamespace" | "ByUser")
    {
        let at = path.child("distinguisherMethod").child("type");
        let shown = structure::shown(method, super::shown::METHOD);
        errors.push(FieldError::not_supported_shown(&at, &shown, &["ByNamespace", "ByUser"]));
    }
    let (level, at) = (
        str_at(schema, "spec.priorityLevelConfiguration.name"),
        path.child("priorityLevelConfiguration").child("name"),
    );
    match level {
        "" => errors.push(FieldError::required(&at, "must reference a priority level")),
        _ => errors.extend(names::dns1123_subdomain(level).into_iter().map(|p| FieldError::invalid(&at, level, p))),
    }
    for (i, item) in list_at(schema, "spec.rules").iter().enumerate() {
        errors.extend(rule(item, &path.child("rules").index(i)));
    }
    errors.extend(super::fixed("FlowSchema", name(schema), schema));
    errors
}

fn rule(rule: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let subjects = list_at(rule, "subjects");
    if subjects.is_empty() {
        errors.push(FieldError::required(&path.child("subjects"), "subjects must contain at least one value"));
    }
    for (i, item) in subjects.iter().enumerate() {
        errors.extend(subject(item, &path.child("subjects").index(i)));
    }
    let (resources, urls) = (list_at(rule, "resourceRules"), list_at(rule, "nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, detail));
    }
    for (i, item) in resources.iter().enumerate() {
        errors.extend(resource_rule(item, &path.child("resourceRules").index(i)));
    }
    for (i, item) in urls.iter().enumerate() {
        errors.extend(url_rule(item, &path.child("nonResourceRules").index(i)));
    }
    errors
}

/// Kind, and the field that goes with it.
const SUBJECTS: &[(&str, &str)] = &[("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn subject(subject: &Value, path: &Path) -> Vec<FieldError> {
    let kind = str_at(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(k, _)| *k == kind) else {
        return vec![FieldError::not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"])];
    };
    let mut errors = match subject.get(*own) {
        None => {
            vec![FieldError::required(&path.child(own), format!("{own} is required when subject kind is '{kind}'"))]
        }
        Some(who) => subject_name(kind, who, &path.child(own)),
    };
    for (other, field) in SUBJECTS.iter().filter(|(k, field)| *k != kind && subject.get(*field).is_some()) {
        let detail = format!("{field} is forbidden when subject kind is not '{other}'");
        errors.push(FieldError::forbidden(&path.child(field), detail));
    }
    errors
}

fn subject_name(kind: &str, who: &Value, path: &Path) -> Vec<FieldError> {
    let (name, namespace) = (str_at(who, "name"), str_at(who, "namespace"));
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    if kind != "ServiceAccount" {
        return errors;
    }
    if !name.is_empty() && name != "*" {
        errors.extend(
            names::dns1123_subdomain(name).into_iter().map(|p| FieldError::invalid(&path.child("name"), name, p)),
        );
    }
    let at = path.child("namespace");
    match namespace {
        "" => errors.push(FieldError::required(&at, "must specify namespace for service account")),
        _ => errors.extend(names::dns1123_label(namespace).into_iter().map(|p| FieldError::invalid(&at, namespace, p))),
    }
    errors
}

/// A list that may not be empty, and in which `*` stands alone.
fn some_or_all(rule: &Value, field: &str, path: &Path, missing: &str, what: &str) -> Vec<FieldError> {
    let list = list_at(rule, field);
    let at = path.child(field);
    if list.is_empty() {
        return vec![FieldError::required(&at, missing)];
    }
    if list.len() > 1 && list.iter().any(|v| v == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        return vec![FieldError::invalid(&at, list.to_vec(), detail)];
    }
    Vec::new()
}

fn verbs(rule: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = some_or_all(rule, "verbs", path, "verbs must contain at least one value", "verbs");
    let list = list_at(rule, "verbs");
    let all = list.iter().any(|v| v == "*");
    if !all && list.iter().any(|v| !VERBS.contains(&v.as_str().unwrap_or_default())) {
        errors.push(FieldError::not_supported(&path.child("verbs"), list.to_vec(), VERBS));
    }
    errors
}

fn resource_rule(rule: &Value, path: &Path) -> Vec<FieldError> {
    const NAMESPACE: &str = "each member of this list must be '*' or a DNS-1123 label; ";
    let mut errors = verbs(rule, path);
    errors.extend(some_or_all(
        rule,
        "apiGroups",
        path,
        "resource rules must supply at least one api group",
        "api groups",
    ));
    errors.extend(some_or_all(
        rule,
        "resources",
        path,
        "resource rules must supply at least one resource",
        "resources",
    ));
    let (namespaces, at) = (list_at(rule, "namespaces"), path.child("namespaces"));
    if !namespaces.is_empty() || !bool_at(rule, "clusterScope") {
        let missing = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.extend(some_or_all(rule, "namespaces", path, missing, "namespaces"));
    }
    if !namespaces.iter().any(|n| n == "*") {
        for (i, name) in namespaces.iter().filter_map(Value::as_str).enumerate() {
            let problems = names::dns1123_label(name).into_iter();
            errors.extend(problems.map(|p| FieldError::invalid(&at.index(i), name, format!("{NAMESPACE}{p}"))));
        }
    }
    errors
}

fn url_rule(rule: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = verbs(rule, path);
    let missing = "nonResourceURLs must contain at least one value";
    errors.extend(some_or_all(rule, "nonResourceURLs", path, missing, "non-resource URLs"));
    let urls = list_at(rule, "nonResourceURLs");
    if !urls.iter().any(|u| u == "*") {
        for (i, url) in urls.iter().filter_map(Value::as_str).enumerate() {
            let at = path.child("nonResourceURLs").index(i);
            errors.extend(url_problem(url).map(|detail| FieldError::invalid(&at, url, detail)));
        }
    }
    errors
}

fn url_problem(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    Some(match url {
        "" => "must not be empty",
        "/" => return None,
        _ if !url.starts_with('/') => "must start with slash",
        _ if url.contains(' ') => "must not contain white-space",
        _ if url.contains("//") => "must not contain double slash",
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, spec: Value) -> Vec<String> {
        let mut schema = json!({"metadata": {"name": name}, "spec": spec});
        defaults(&mut schema);
        validate(&schema).iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn schemas() {
        let rule = json!({"subjects": [{"kind": "User", "user": {"name": "*"}}], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/a/*"]}]});
        let spec = |rule: Value| json!({"priorityLevelConfiguration": {"name": "a"}, "rules": [rule]});
        assert_eq!(check("a", spec(rule.clone())), Vec::<String>::new());
        assert_eq!(
            check("a", spec(json!({}))),
            [
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ]
        );
        let bad = json!({"subjects": [{"kind": "User", "group": {"name": "g"}}], "resourceRules": [{"verbs": ["run"], "apiGroups": ["*", ""], "resources": ["*"]}]});
        assert_eq!(
            check("a", spec(bad)),
            [
                "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"run\"]: supported values: \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
                "spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"\"]: if '*' is present, must not specify other api groups",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
            ]
        );
        let two = json!({"subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": "*"}, "user": {"name": "u"}, "group": {"name": "g"}}], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
        let mut strange = spec(two);
        strange["distinguisherMethod"] = json!({"type": "ByColour"});
        assert_eq!(
            check("a", strange),
            [
                r#"spec.distinguisherMethod.type: Unsupported value: {"Type":"ByColour"}: supported values: "ByNamespace", "ByUser""#,
                "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            ]
        );
        assert!(check("catch-all", spec(rule))[0].ends_with("spec of 'catch-all' must equal the fixed value"));
        assert_eq!(check("a", json!({"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": "a"}})).len(), 1);
        assert_eq!(url_problem("/a*"), Some("wildcard can only do suffix matching"));
    }
}
