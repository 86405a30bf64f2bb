//! What Deployments, ReplicaSets, StatefulSets and DaemonSets may say (kubernetes `pkg/apis/apps/validation`), in upstream's order.

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod, storage},
    selector::LabelSelector,
    structure::{self, Fields, Part},
    value::{get, int_at, list_at, str_at},
};

const NO_FIT: &str = "`selector` does not match template `labels`";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn spec_of(object: &Value) -> (&Value, Path) {
    (object.get("spec").unwrap_or(&Value::Null), Path::new("spec"))
}

/// A template whose pods never end by themselves.
pub(super) fn always_restarting(template: &Value, path: &Path, what: &str) -> Vec<FieldError> {
    let mut errors = pod::validate_template(template, path);
    let at = path.child("spec");
    let policy = str_at(template, "spec.restartPolicy");
    if policy != "Always" {
        errors.push(FieldError::not_supported(&at.child("restartPolicy"), policy, &["Always"]));
    }
    if get(template, "spec.activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {what} is not Supported");
        errors.push(FieldError::forbidden(&at.child("activeDeadlineSeconds"), detail));
    }
    errors
}

/// A selector has to be there and to ask for something; `what` is whom upstream says it is for.
fn selector(spec: &Value, path: &Path, what: &str) -> Vec<FieldError> {
    let at = path.child("selector");
    let Some(selector) = spec.get("selector").filter(|s| !s.is_null()) else {
        return vec![FieldError::required(&at, "")];
    };
    let mut errors = meta::label_selector(Some(selector), &at);
    if meta::selector_is_empty(Some(selector)) {
        errors.push(FieldError::invalid(&at, selector.clone(), format!("empty selector is invalid for {what}")));
    }
    errors
}

/// The template's labels are selected. No selector selects nothing; an empty one everything.
fn selected(spec: &Value, path: &Path) -> Option<FieldError> {
    let at = path.child("template").child("metadata").child("labels");
    let selector = spec.get("selector").filter(|s| !s.is_null());
    let labels = get(spec, "template.metadata.labels").filter(|l| !l.is_null());
    let fits = match selector {
        None => false,
        Some(_) => LabelSelector::from_object(selector).is_ok_and(|s| s.matches(labels.and_then(Value::as_object))),
    };
    match labels {
        _ if fits => None,
        None => Some(FieldError::invalid_no_list(&at, NO_FIT)),
        Some(labels) => Some(FieldError::invalid(&at, labels.clone(), NO_FIT)),
    }
}

/// The selector's own fault where it cannot be read, or what is wrong with the template.
fn template(spec: &Value, path: &Path, kind: &str, unreadable: &str) -> Vec<FieldError> {
    let selector = spec.get("selector").filter(|s| !s.is_null());
    if let Some(given) = selector
        && LabelSelector::from_object(selector).is_err()
    {
        return vec![FieldError::invalid(&path.child("selector"), given.clone(), unreadable)];
    }
    let template = spec.get("template").unwrap_or(&Value::Null);
    let mut errors: Vec<FieldError> = selected(spec, path).into_iter().collect();
    errors.extend(always_restarting(template, &path.child("template"), kind));
    errors
}

fn none_negative(spec: &Value, fields: &[&str], path: &Path) -> Vec<FieldError> {
    fields.iter().filter_map(|field| meta::non_negative(spec, field, path)).collect()
}

/// An amount or a percentage.
pub(in crate::resources) fn int_or_percent(value: Option<&Value>, path: &Path) -> Option<FieldError> {
    match value? {
        Value::Number(n) if n.as_i64().is_some_and(|n| n >= 0) => None,
        Value::Number(n) => {
            Some(FieldError::invalid(path, Value::Number(n.clone()), "must be greater than or equal to 0"))
        }
        Value::String(text) if is_percent(text) => None,
        other => Some(FieldError::invalid(path, other.clone(), PERCENT)),
    }
}

fn is_percent(text: &str) -> bool {
    text.strip_suffix('%').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The number in either form, nothing where it cannot be read.
fn amount(value: Option<&Value>) -> i64 {
    match value {
        // what is too large for a number is large
        Some(Value::String(text)) if is_percent(text) => text.trim_end_matches('%').parse().unwrap_or(i64::MAX),
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        other => other.and_then(Value::as_i64).unwrap_or(0),
    }
}

/// More than all of the pods can never be unavailable.
pub(in crate::resources) fn at_most_all(value: Option<&Value>, path: &Path) -> Option<FieldError> {
    let text = value?.as_str().filter(|text| is_percent(text))?;
    (amount(value) > 100).then(|| FieldError::invalid(path, text, "must not be greater than 100%"))
}

/// A strategy of a kind that is not known, shown as upstream's own structure.
fn unknown_strategy(strategy: &Value, path: &Path, known: &[&str]) -> FieldError {
    let rolling = match strategy.get("rollingUpdate").filter(|r| !r.is_null()) {
        Some(rolling) => {
            let part = |field: &str| rolling.get(field).cloned().unwrap_or(json!(0)).to_string();
            format!(r#"{{"MaxUnavailable":{},"MaxSurge":{}}}"#, part("maxUnavailable"), part("maxSurge"))
        }
        None => "null".to_owned(),
    };
    let kind = json!(str_at(strategy, "type"));
    FieldError::not_supported_shown(path, &format!(r#"{{"Type":{kind},"RollingUpdate":{rolling}}}"#), known)
}

pub(in crate::resources) fn deployment(object: &Value) -> Vec<FieldError> {
    let (spec, path) = spec_of(object);
    let mut errors = none_negative(spec, &["replicas"], &path);
    errors.extend(selector(spec, &path, "deployment"));
    // upstream judges the templates of both kinds by one rule, which names ReplicaSets
    errors.extend(template(spec, &path, "ReplicaSet", "invalid label selector"));
    errors.extend(deployment_strategy(spec, &path.child("strategy")));
    errors.extend(none_negative(spec, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], &path));
    let ready = int_at(spec, "minReadySeconds").unwrap_or(0);
    if let Some(deadline) = int_at(spec, "progressDeadlineSeconds").filter(|d| *d <= ready) {
        let detail = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid(&path.child("progressDeadlineSeconds"), deadline, detail));
    }
    errors
}

fn deployment_strategy(spec: &Value, path: &Path) -> Vec<FieldError> {
    let strategy = spec.get("strategy").unwrap_or(&Value::Null);
    let rolling = strategy.get("rollingUpdate").filter(|r| !r.is_null());
    let at = path.child("rollingUpdate");
    match (str_at(strategy, "type"), rolling) {
        ("Recreate", None) => Vec::new(),
        ("Recreate", Some(_)) => {
            vec![FieldError::forbidden(&at, "may not be specified when strategy `type` is 'Recreate'")]
        }
        ("RollingUpdate", None) => vec![FieldError::required(&at, "this should be defaulted and never be nil")],
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            let mut errors: Vec<FieldError> =
                int_or_percent(unavailable, &at.child("maxUnavailable")).into_iter().collect();
            errors.extend(int_or_percent(surge, &at.child("maxSurge")));
            if amount(unavailable) == 0 && amount(surge) == 0 {
                let shown = unavailable.cloned().unwrap_or(json!(0));
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(&at.child("maxUnavailable"), shown, detail));
            }
            errors.extend(at_most_all(unavailable, &at.child("maxUnavailable")));
            errors
        }
        _ => vec![unknown_strategy(strategy, path, &["Recreate", "RollingUpdate"])],
    }
}

pub(in crate::resources) fn replica_set(object: &Value) -> Vec<FieldError> {
    let (spec, path) = spec_of(object);
    let mut errors = none_negative(spec, &["replicas", "minReadySeconds"], &path);
    errors.extend(selector(spec, &path, "deployment"));
    errors.extend(template(spec, &path, "ReplicaSet", "invalid label selector"));
    errors
}

pub(in crate::resources) fn daemon_set(object: &Value) -> Vec<FieldError> {
    let (spec, path) = spec_of(object);
    let given = spec.get("selector").filter(|s| !s.is_null());
    let mut errors = meta::label_selector(given, &path.child("selector"));
    if LabelSelector::from_object(given).is_ok() || given.is_none() {
        errors.extend(selected(spec, &path));
    }
    if let Some(selector) = given.filter(|s| meta::selector_is_empty(Some(s))) {
        let detail = "empty selector is invalid for daemonset";
        errors.push(FieldError::invalid(&path.child("selector"), selector.clone(), detail));
    }
    let template = spec.get("template").unwrap_or(&Value::Null);
    errors.extend(always_restarting(template, &path.child("template"), "DaemonSet"));
    errors.extend(none_negative(spec, &["minReadySeconds"], &path));
    errors.extend(daemon_set_strategy(spec, &path.child("updateStrategy")));
    errors.extend(none_negative(spec, &["revisionHistoryLimit"], &path));
    errors
}

fn daemon_set_strategy(spec: &Value, path: &Path) -> Vec<FieldError> {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    let at = path.child("rollingUpdate");
    match (str_at(strategy, "type"), strategy.get("rollingUpdate").filter(|r| !r.is_null())) {
        ("OnDelete", _) => Vec::new(),
        ("RollingUpdate", None) => vec![FieldError::required(&at, "")],
        ("RollingUpdate", Some(rolling)) => {
            let both = ["maxUnavailable", "maxSurge"].map(|field| (rolling.get(field), at.child(field)));
            let mut errors: Vec<FieldError> = both.iter().filter_map(|(v, at)| int_or_percent(*v, at)).collect();
            errors.extend(both.iter().filter_map(|(v, at)| at_most_all(*v, at)));
            match (amount(both[0].0) != 0, amount(both[1].0) != 0) {
                (true, true) => {
                    let surge = both[1].0.cloned().unwrap_or_default();
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(FieldError::invalid(&both[1].1, surge, detail));
                }
                (false, false) => errors.push(FieldError::required(&both[0].1, "cannot be 0 when maxSurge is 0")),
                _ => {}
            }
            errors
        }
        _ => vec![unknown_strategy(strategy, path, &["RollingUpdate", "OnDelete"])],
    }
}

/// `with_claims` is the object with a volume for each of its claim templates. What an update (of `old`) leaves as it was is not
/// judged again where upstream became stricter.
pub(super) fn stateful_set(object: &Value, with_claims: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (spec, path) = spec_of(object);
    let kept = |field: &str| old.is_some_and(|old| get(old, "spec").and_then(|o| o.get(field)) == spec.get(field));
    let mut errors = Vec::new();
    let at = path.child("podManagementPolicy");
    match str_at(spec, "podManagementPolicy") {
        "" => errors.push(FieldError::required(&at, "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(FieldError::invalid(&at, other, "must be 'OrderedReady' or 'Parallel'")),
    }
    errors.extend(stateful_set_strategy(spec, &path.child("updateStrategy")));
    if let Some(retention) = spec.get("persistentVolumeClaimRetentionPolicy").filter(|r| !r.is_null()) {
        let at = path.child("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let policy = str_at(retention, field);
            if !["Retain", "Delete"].contains(&policy) {
                errors.push(FieldError::not_supported(&at.child(field), policy, &["Retain", "Delete"]));
            }
        }
    }
    errors.extend(none_negative(spec, &["replicas", "minReadySeconds"], &path));
    if let Some(ordinals) = spec.get("ordinals") {
        errors.extend(meta::non_negative(ordinals, "start", &path.child("ordinals")));
    }
    errors.extend(none_negative(spec, &["revisionHistoryLimit"], &path));
    let service = str_at(spec, "serviceName");
    if !service.is_empty() && old.is_none() {
        errors.extend(FieldError::each_invalid(&path.child("serviceName"), service, names::dns1123_label(service)));
    }
    let claims = if kept("volumeClaimTemplates") { &[] } else { list_at(spec, "volumeClaimTemplates") };
    for (i, claim) in claims.iter().enumerate() {
        let at = path.child("volumeClaimTemplates").index(i);
        if str_at(claim, "metadata.name").is_empty() {
            errors.push(FieldError::required(&at.child("metadata").child("name"), ""));
        }
        errors.extend(storage::claim_spec(claim.get("spec").unwrap_or(&Value::Null), &at.child("spec")));
    }
    errors.extend(selector(spec, &path, "statefulset"));
    errors.extend(template(spec_of(with_claims).0, &path, "StatefulSet", ""));
    errors
}

/// Upstream's structures of how a StatefulSet's pods are replaced.
const ROLLING: Fields = &[("Partition", "partition", Part::Number), ("MaxUnavailable", "maxUnavailable", Part::Any)];
const STRATEGY: Fields = &[("Type", "type", Part::Text), ("RollingUpdate", "rollingUpdate", Part::Maybe(ROLLING))];

fn stateful_set_strategy(spec: &Value, path: &Path) -> Vec<FieldError> {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    let at = path.child("rollingUpdate");
    match (str_at(strategy, "type"), strategy.get("rollingUpdate").filter(|r| !r.is_null())) {
        ("", _) => vec![FieldError::required(path, "")],
        ("OnDelete" | "RollingUpdate", None) => Vec::new(),
        ("OnDelete", Some(rolling)) => {
            let shown = structure::shown(rolling, ROLLING);
            let detail = format!("{shown}: only allowed for updateStrategy 'RollingUpdate'");
            vec![FieldError::invalid_omitted(&at, detail)]
        }
        ("RollingUpdate", Some(rolling)) => {
            let mut errors: Vec<FieldError> = meta::non_negative(rolling, "partition", &at).into_iter().collect();
            if let Some(unavailable) = rolling.get("maxUnavailable").filter(|u| !u.is_null()) {
                let at = at.child("maxUnavailable");
                errors.extend(int_or_percent(Some(unavailable), &at));
                if amount(Some(unavailable)) == 0 {
                    errors.push(FieldError::invalid(&at, unavailable.clone(), "cannot be 0"));
                }
                errors.extend(at_most_all(Some(unavailable), &at));
            }
            errors
        }
        _ => {
            let shown = structure::shown(strategy, STRATEGY);
            vec![FieldError::invalid_omitted(path, format!("{shown}: must be 'RollingUpdate' or 'OnDelete'"))]
        }
    }
}
