//! Webhook configurations (kubernetes `pkg/apis/admissionregistration`).

use serde_json::{Value, json};

use crate::{
    expressions::match_conditions,
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_absent, each_mut, int_at, list_at, str_at, with_mut},
};

const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];
/// Webhooks of v1 must say that they have no side effects, or none in a dry run.
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

pub(super) fn defaults(configuration: &mut Value, mutating: bool) {
    each_mut(configuration, "webhooks", |hook| {
        default_absent(hook, "failurePolicy", "Fail");
        default_absent(hook, "matchPolicy", "Equivalent");
        default_absent(hook, "namespaceSelector", json!({}));
        default_absent(hook, "objectSelector", json!({}));
        default_absent(hook, "timeoutSeconds", 10);
        if mutating {
            default_absent(hook, "reinvocationPolicy", "Never");
        }
        each_mut(hook, "rules", |rule| default_absent(rule, "scope", "*"));
        with_mut(hook, "clientConfig", |config| {
            with_mut(config, "service", |service| default_absent(service, "port", 443))
        });
    });
}

pub(super) fn validate(configuration: &Value, mutating: bool) -> Vec<FieldError> {
    judged(configuration, mutating, &Leniency::default())
}

/// What is wrong with hooks that were stored already does not keep them from being written.
pub(super) fn validate_update(new: &Value, old: &Value, mutating: bool) -> Vec<FieldError> {
    judged(new, mutating, &Leniency::towards(new, old))
}

/// What an update need not mend, because the old hooks have it too.
#[derive(Default)]
struct Leniency {
    conditions: bool,
    side_effects: bool,
    versions: bool,
    names: bool,
    selectors: bool,
}

impl Leniency {
    fn towards(new: &Value, old: &Value) -> Self {
        let (new, old) = (list_at(new, "webhooks"), list_at(old, "webhooks"));
        let conditions = |hook: &Value| list_at(hook, "matchConditions").to_vec();
        let at = Path::default();
        let unknown = |hook: &Value| {
            let versions = list_at(hook, "admissionReviewVersions");
            !versions.is_empty() && !recognized(versions)
        };
        let misnamed = |hook: &Value| SELECTORS.iter().any(|s| !meta::label_selector(hook.get(*s), &at).is_empty());
        Leniency {
            conditions: new.len() == old.len() && new.iter().zip(old).all(|(a, b)| conditions(a) == conditions(b)),
            side_effects: old.iter().any(|hook| side_effects(hook, NO_SIDE_EFFECTS, &at).is_some()),
            versions: old.iter().any(unknown),
            names: old.iter().enumerate().any(|(i, hook)| old[..i].iter().any(|other| other["name"] == hook["name"])),
            selectors: old.iter().any(misnamed),
        }
    }
}

fn judged(configuration: &Value, mutating: bool, leniency: &Leniency) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let hooks = list_at(configuration, "webhooks");
    for (i, item) in hooks.iter().enumerate() {
        let (at, name) = (Path::new("webhooks").index(i), str_at(item, "name"));
        errors.extend(hook(item, &at, mutating, leniency));
        let given = list_at(item, "admissionReviewVersions");
        errors.extend(versions(given, !leniency.versions, &at.child("admissionReviewVersions")));
        if !leniency.names && !name.is_empty() && hooks[..i].iter().any(|h| str_at(h, "name") == name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
    }
    errors
}

/// One of the values that are known, where it is said at all: an empty one is none.
pub(in crate::resources) fn known(object: &Value, field: &str, path: &Path, known: &[&str]) -> Option<FieldError> {
    let given = object.get(field).and_then(Value::as_str).filter(|given| !known.contains(given))?;
    Some(FieldError::not_supported(&path.child(field), given, known))
}

fn hook(hook: &Value, path: &Path, mutating: bool, leniency: &Leniency) -> Vec<FieldError> {
    let mut errors = full_name(str_at(hook, "name"), &path.child("name"));
    for (i, item) in list_at(hook, "rules").iter().enumerate() {
        errors.extend(rule(item, &path.child("rules").index(i)));
    }
    errors.extend(known(hook, "failurePolicy", path, &["Fail", "Ignore"]));
    errors.extend(known(hook, "matchPolicy", path, &["Equivalent", "Exact"]));
    let allowed = if leniency.side_effects { SIDE_EFFECTS } else { NO_SIDE_EFFECTS };
    errors.extend(side_effects(hook, allowed, &path.child("sideEffects")));
    if let Some(seconds) = int_at(hook, "timeoutSeconds").filter(|s| !(1..=30).contains(s)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(&path.child("timeoutSeconds"), seconds, detail));
    }
    for selector in SELECTORS {
        let found = meta::label_selector(hook.get(selector), &path.child(selector));
        let tolerated = |error: &FieldError| leniency.selectors && error.field.contains(".values[");
        errors.extend(found.into_iter().filter(|error| !tolerated(error)));
    }
    if mutating {
        errors.extend(known(hook, "reinvocationPolicy", path, &["IfNeeded", "Never"]));
    }
    errors.extend(client_config(hook.get("clientConfig").unwrap_or(&Value::Null), &path.child("clientConfig")));
    if !leniency.conditions {
        errors.extend(match_conditions(list_at(hook, "matchConditions"), false, &path.child("matchConditions")).1);
    }
    errors
}

fn full_name(name: &str, path: &Path) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors: Vec<FieldError> =
        names::dns1123_subdomain(name).into_iter().map(|p| FieldError::invalid(path, name, p)).collect();
    if errors.is_empty() && name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, detail));
    }
    errors
}

fn recognized(versions: &[Value]) -> bool {
    versions.iter().any(|v| REVIEW_VERSIONS.contains(&v.as_str().unwrap_or_default()))
}

fn versions(versions: &[Value], must_be_known: bool, path: &Path) -> Vec<FieldError> {
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return vec![FieldError::required(path, format!("must specify one of {known}"))];
    }
    let mut errors = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if versions[..i].contains(version) {
            errors.push(FieldError::invalid(&path.index(i), text, "duplicate version"));
            continue;
        }
        errors.extend(names::dns1035_label(text).into_iter().map(|p| FieldError::invalid(&path.index(i), text, p)));
    }
    if must_be_known && !recognized(versions) {
        errors.push(FieldError::invalid(path, versions.to_vec(), format!("must include at least one of {known}")));
    }
    errors
}

fn side_effects(hook: &Value, allowed: &[&str], path: &Path) -> Option<FieldError> {
    match hook.get("sideEffects").and_then(Value::as_str) {
        None => Some(FieldError::required(path, format!("must specify one of {}", allowed.join(", ")))),
        Some(given) if !allowed.contains(&given) => Some(FieldError::not_supported(path, given, allowed)),
        Some(_) => None,
    }
}

/// A list that may not be empty and in which `*` stands alone.
fn some_or_all(rule: &Value, field: &str, path: &Path, what: &str) -> Vec<FieldError> {
    let (list, at) = (list_at(rule, field), path.child(field));
    if list.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    if list.len() > 1 && list.iter().any(|v| v == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        return vec![FieldError::invalid(&at, list.to_vec(), detail)];
    }
    Vec::new()
}

pub(in crate::resources) fn rule(rule: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = some_or_all(rule, "operations", path, "operations");
    for (i, operation) in list_at(rule, "operations").iter().filter_map(Value::as_str).enumerate() {
        if !OPERATIONS.contains(&operation) {
            errors.push(FieldError::not_supported(&path.child("operations").index(i), operation, OPERATIONS));
        }
    }
    errors.extend(some_or_all(rule, "apiGroups", path, "API groups"));
    errors.extend(some_or_all(rule, "apiVersions", path, "API versions"));
    for (i, _) in list_at(rule, "apiVersions").iter().enumerate().filter(|(_, v)| *v == "") {
        errors.push(FieldError::required(&path.child("apiVersions").index(i), ""));
    }
    errors.extend(resources(list_at(rule, "resources"), &path.child("resources")));
    errors.extend(known(rule, "scope", path, &["*", "Cluster", "Namespaced"]));
    errors
}

/// `*` and `*/*` stand alone, and nobody names twice what a wildcard covers.
fn resources(list: &[Value], path: &Path) -> Vec<FieldError> {
    if list.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    let (mut all_of, mut any_with) = (Vec::new(), Vec::new());
    // upstream looks at the last one only
    let mut ends_with_name = false;
    for (i, text) in list.iter().filter_map(Value::as_str).enumerate() {
        let at = path.index(i);
        if text.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let Some((resource, subresource)) = text.split_once('/') else {
            ends_with_name = text != "*";
            continue;
        };
        if all_of.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(FieldError::invalid(&at, text, detail));
        }
        if any_with.contains(&subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {text}");
            errors.push(FieldError::invalid(&at, text, detail));
        }
        if subresource == "*" {
            all_of.push(resource);
        }
        if resource == "*" {
            any_with.push(subresource);
        }
    }
    let has = |wanted: &str| list.iter().any(|v| v == wanted);
    if list.len() > 1 && has("*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, list.to_vec(), detail));
    }
    if has("*") && ends_with_name {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, list.to_vec(), detail));
    }
    errors
}

fn client_config(config: &Value, path: &Path) -> Vec<FieldError> {
    match (config.get("url").and_then(Value::as_str), config.get("service")) {
        (Some(text), None) => url(text, &path.child("url")),
        (None, Some(it)) => service(it, &path.child("service")),
        _ => vec![FieldError::required(path, "exactly one of url or service is required")],
    }
}

/// Where a webhook is called (`ValidateWebhookURL`).
pub(in crate::resources) fn url(text: &str, path: &Path) -> Vec<FieldError> {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (before, query) = before.split_once('?').unwrap_or((before, ""));
    let authority = if scheme.is_empty() { "" } else { before.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut errors = Vec::new();
    let mut wrong = |value: &str, detail: String| errors.push(FieldError::invalid(path, value, detail));
    if scheme != "https" {
        wrong(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        wrong(host, format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        wrong(user, "user information is not permitted in the URL".into());
    }
    if !fragment.is_empty() {
        wrong(fragment, "fragments are not permitted in the URL".into());
    }
    if !query.is_empty() {
        wrong(query, "query parameters are not permitted in the URL".into());
    }
    errors
}

/// Which service is called (`ValidateWebhookService`).
pub(in crate::resources) fn service(service: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["name", "namespace"].into_iter().filter(|f| str_at(service, f).is_empty()) {
        errors.push(FieldError::required(&path.child(field), format!("service {field} is required")));
    }
    let port = int_at(service, "port").unwrap_or(0);
    let problems = names::port_number(port).into_iter();
    errors.extend(problems.map(|p| FieldError::invalid(&path.child("port"), port, format!("port is not valid: {p}"))));
    errors.extend(url_path(str_at(service, "path"), &path.child("path")));
    errors
}

fn url_path(text: &str, path: &Path) -> Vec<FieldError> {
    let invalid = |detail: String| FieldError::invalid(path, text, detail);
    match text {
        "" | "/" => return Vec::new(),
        "//" => return vec![invalid("segment[0] may not be empty".into())],
        _ => {}
    }
    let mut errors = Vec::new();
    if !text.starts_with('/') {
        errors.push(invalid("must start with a '/'".into()));
    }
    // upstream goes on behind the first character, whatever it is
    let rest = text.split_at_checked(1).map_or("", |(_, rest)| rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (i, segment) in rest.split('/').enumerate() {
        if segment.is_empty() {
            errors.push(invalid(format!("segment[{i}] may not be empty")));
        } else {
            errors.extend(names::dns1123_subdomain(segment).into_iter().map(|p| invalid(format!("segment[{i}]: {p}"))));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hook: Value) -> Vec<String> {
        let mut configuration = json!({"webhooks": [hook]});
        defaults(&mut configuration, true);
        validate(&configuration, true).iter().map(FieldError::to_string).collect()
    }

    fn good() -> Value {
        json!({"name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"service": {"namespace": "n", "name": "s", "path": "/p"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods", "pods/*"]}]})
    }

    #[test]
    fn hooks() {
        assert_eq!(check(good()), Vec::<String>::new());
        assert_eq!(
            check(json!({"name": "a.b", "clientConfig": {}})),
            [
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ]
        );
        let mut hook = good();
        hook["timeoutSeconds"] = 31.into();
        hook["sideEffects"] = "Some".into();
        hook["matchConditions"] = json!([{"name": "x", "expression": "true"}, {"name": "x", "expression": " "}]);
        assert_eq!(
            check(hook),
            [
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                "webhooks[0].matchConditions[1].expression: Required value",
                "webhooks[0].matchConditions[1].name: Duplicate value: \"x\"",
            ]
        );
    }

    #[test]
    fn rules_and_destinations() {
        let mut hook = good();
        hook["rules"] = json!([{"operations": ["*", "CREATE"], "apiGroups": ["*"], "apiVersions": [""], "resources": ["pods/*", "pods/x", "*/*"]}]);
        hook["clientConfig"] = json!({"url": "http://u@h/p?q#f"});
        assert_eq!(
            check(hook),
            [
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
                "webhooks[0].rules[0].apiVersions[0]: Required value",
                "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/x\": if 'pods/*' is present, must not specify pods/x",
                "webhooks[0].rules[0].resources: Invalid value: [\"pods/*\",\"pods/x\",\"*/*\"]: if '*/*' is present, must not specify other resources",
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "webhooks[0].clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
                "webhooks[0].clientConfig.url: Invalid value: \"f\": fragments are not permitted in the URL",
                "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
            ]
        );
        assert!(url("https://h:8443/p", &Path::new("u")).is_empty());
        assert_eq!(url_path("/a//b", &Path::new("p")).len(), 1);
    }
    #[test]
    fn wildcards_are_judged_as_upstream_judges_them() {
        let of = |list: Value| {
            let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": list, "scope": ""});
            super::rule(&rule, &Path::new("r")).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        const SCOPE: &str = "r.scope: Unsupported value: \"\": supported values: \"*\", \"Cluster\", \"Namespaced\"";
        assert_eq!(of(json!(["pods", "*"])), [SCOPE]);
        assert_eq!(
            of(json!(["*", "pods"])),
            [
                "r.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
                SCOPE
            ]
        );
        assert_eq!(
            of(json!(["*/*", "pods/*"]))[0],
            "r.resources[1]: Invalid value: \"pods/*\": if '*/*' is present, must not specify pods/*"
        );
    }

    #[test]
    fn empty_texts_are_no_values() {
        let mut hook = good();
        hook["failurePolicy"] = "".into();
        hook["reinvocationPolicy"] = "".into();
        assert_eq!(
            check(hook),
            [
                "webhooks[0].failurePolicy: Unsupported value: \"\": supported values: \"Fail\", \"Ignore\"",
                "webhooks[0].reinvocationPolicy: Unsupported value: \"\": supported values: \"IfNeeded\", \"Never\"",
            ]
        );
    }

    #[test]
    fn hooks_of_old_stay_as_they_are() {
        let named = |patch: Value| {
            let mut hook = good();
            crate::patch::merge_patch(&mut hook, &patch);
            hook
        };
        let of = |hooks: &[Value]| {
            let mut configuration = json!({"webhooks": hooks});
            defaults(&mut configuration, true);
            configuration
        };
        for (patch, text) in [
            (json!({"sideEffects": "Some"}), "webhooks[0].sideEffects"),
            (json!({"admissionReviewVersions": ["v2"]}), "webhooks[0].admissionReviewVersions"),
            (
                json!({"matchConditions": [{"name": "a", "expression": "nothing"}]}),
                "webhooks[0].matchConditions[0].expression",
            ),
            (
                json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["a b"]}]}}),
                "webhooks[0].objectSelector.matchExpressions[0].values[0]",
            ),
        ] {
            let odd = of(&[named(patch)]);
            let fields: Vec<String> =
                validate_update(&odd, &of(&[good()]), true).into_iter().map(|e| e.field).collect();
            assert_eq!(fields, [text]);
            assert_eq!(validate_update(&odd, &odd, true), []);
        }
        let twice = of(&[good(), good()]);
        assert_eq!(validate_update(&twice, &of(&[good()]), true).len(), 1);
        assert_eq!(validate_update(&twice, &twice, true), []);
    }

    #[test]
    fn paths_are_read_to_their_end() {
        let found: Vec<String> = url_path("a/B", &Path::new("p")).iter().map(ToString::to_string).collect();
        assert_eq!(found[0], "p: Invalid value: \"a/B\": must start with a '/'");
        assert_eq!(found[1], "p: Invalid value: \"a/B\": segment[0] may not be empty");
        assert!(found[2].starts_with("p: Invalid value: \"a/B\": segment[1]: a lowercase RFC 1123 subdomain"));
    }
}
