//! podFailurePolicy, successPolicy and podReplacementPolicy of a job.

use std::collections::BTreeSet;

use serde_json::Value;

use super::is_indexed;
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{int_at, list_at, str_at},
};

const RULES_MAX: usize = 20;
const CONDITIONS_MAX: usize = 20;
const CODES_MAX: usize = 255;
const INDEXES_MAX: usize = 64 * 1024;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];

/// `["a" "b"]`, as Go prints a list of strings with %q.
fn quoted(values: &[&str]) -> String {
    let list: Vec<String> = values.iter().map(|v| format!("\"{v}\"")).collect();
    format!("[{}]", list.join(" "))
}

fn choice(object: &Value, field: &str, path: &Path, values: &[&str]) -> Option<FieldError> {
    let value = str_at(object, field);
    let at = path.child(field);
    if value.is_empty() {
        return Some(FieldError::required(&at, format!("valid values: {}", quoted(values))));
    }
    (!values.contains(&value)).then(|| FieldError::not_supported(&at, value, values))
}

pub(super) fn replacement(spec: &Value, path: &Path) -> Option<FieldError> {
    let supported: &[&str] =
        if spec.get("podFailurePolicy").is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    meta::optional_one_of(spec, "podReplacementPolicy", path, supported)
}

pub(super) fn failure(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(policy) = spec.get("podFailurePolicy") else { return Vec::new() };
    let rules = list_at(policy, "rules");
    let at = path.child("rules");
    let mut errors = Vec::new();
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(&at, rules.len(), RULES_MAX));
    }
    let containers: BTreeSet<&str> = ["template.spec.containers", "template.spec.initContainers"]
        .iter()
        .flat_map(|list| list_at(spec, list))
        .map(|c| str_at(c, "name"))
        .collect();
    for (i, rule) in rules.iter().enumerate() {
        errors.extend(failure_rule(spec, rule, &at.index(i), &containers));
    }
    errors
}

fn failure_rule(spec: &Value, rule: &Value, path: &Path, containers: &BTreeSet<&str>) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = choice(rule, "action", path, ACTIONS).into_iter().collect();
    if str_at(rule, "action") == "FailIndex" && spec.get("backoffLimitPerIndex").is_none() {
        let detail = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(&path.child("action"), "FailIndex", detail));
    }
    let (codes, conditions) = (rule.get("onExitCodes"), list_at(rule, "onPodConditions"));
    if let Some(codes) = codes {
        errors.extend(exit_codes(codes, &path.child("onExitCodes"), containers));
    }
    if !conditions.is_empty() {
        errors.extend(pod_conditions(conditions, &path.child("onPodConditions")));
    }
    match (codes.is_some(), conditions.is_empty()) {
        (true, false) => errors.push(FieldError::invalid_omitted(
            path,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        )),
        (false, true) => errors
            .push(FieldError::invalid_omitted(path, "specifying one of OnExitCodes and OnPodConditions is required")),
        _ => {}
    }
    errors
}

fn pod_conditions(patterns: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if patterns.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, patterns.len(), CONDITIONS_MAX));
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = path.index(i);
        let kind = str_at(pattern, "type");
        errors.extend(names::qualified_name(kind).into_iter().map(|p| FieldError::invalid(&at.child("type"), kind, p)));
        errors.extend(choice(pattern, "status", &at, &["False", "True", "Unknown"]));
    }
    errors
}

fn exit_codes(rule: &Value, path: &Path, containers: &BTreeSet<&str>) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = choice(rule, "operator", path, &["In", "NotIn"]).into_iter().collect();
    if let Some(name) = rule.get("containerName").and_then(Value::as_str).filter(|n| !containers.contains(n)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, detail));
    }
    let at = path.child("values");
    let values = list_at(rule, "values");
    if values.is_empty() {
        errors.push(FieldError::invalid(&at, values.to_vec(), "at least one value is required"));
    } else if values.len() > CODES_MAX {
        errors.push(FieldError::too_many(&at, values.len(), CODES_MAX));
    }
    let codes: Vec<i64> = values.iter().map(|v| v.as_i64().unwrap_or(0)).collect();
    let mut seen = BTreeSet::new();
    for (i, code) in codes.iter().enumerate() {
        if *code == 0 && str_at(rule, "operator") == "In" {
            errors.push(FieldError::invalid(&at.index(i), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(code) {
            errors.push(FieldError::duplicate(&at.index(i), *code));
        }
    }
    if !codes.is_sorted() {
        errors.push(FieldError::invalid(&at, values.to_vec(), "must be ordered"));
    }
    errors
}

pub(super) fn success(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(policy) = spec.get("successPolicy") else { return Vec::new() };
    if !is_indexed(spec) {
        return vec![FieldError::invalid(path, policy.clone(), "requires indexed completion mode")];
    }
    let rules = list_at(policy, "rules");
    let at = path.child("rules");
    let mut errors = Vec::new();
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&at, detail));
    }
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(&at, rules.len(), RULES_MAX));
    }
    let completions = int_at(spec, "completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        errors.extend(success_rule(rule, completions, &at.index(i)));
    }
    errors
}

fn success_rule(rule: &Value, completions: i64, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let indexes = rule.get("succeededIndexes").and_then(Value::as_str);
    let count = int_at(rule, "succeededCount");
    if indexes.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let mut total = 0;
    if let Some(text) = indexes {
        let at = path.child("succeededIndexes");
        if text.len() > INDEXES_MAX {
            errors.push(FieldError::too_long(&at, INDEXES_MAX));
        }
        match count_indexes(text, completions) {
            Ok(count) => total = count,
            Err(why) => {
                errors.push(FieldError::invalid(&at, text, format!("error parsing succeededIndexes: {why}")));
            }
        }
    }
    if let Some(count) = count {
        let at = path.child("succeededCount");
        errors.extend(meta::non_negative(rule, "succeededCount", path));
        if count > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(FieldError::invalid(&at, count, detail));
        }
        if indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(FieldError::invalid(&at, count, detail));
        }
    }
    errors
}

/// How many indexes a list such as `0,2-4` names; they must ascend and lie below `completions`.
pub(super) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let number = |t: &str| t.parse::<i64>().map_err(|_| format!("cannot convert string to integer for index: \"{t}\""));
    let (mut total, mut last) = (0, None);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let ends: Vec<&str> = interval.split('-').collect();
        let (first, end) = match ends.as_slice() {
            [one] => (number(one)?, number(one)?),
            [first, end] => (number(first)?, number(end)?),
            _ => {
                return Err(format!(
                    "the fragment \"{interval}\" violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        if first >= completions {
            return Err(format!("too large index: \"{}\"", ends[0]));
        }
        if let [_, text] = ends.as_slice() {
            if end >= completions {
                return Err(format!("too large index: \"{text}\""));
            }
            if first >= end {
                return Err(format!("non-increasing order, previous: {first}, current: {end}"));
            }
        }
        if let Some(last) = last.filter(|l| *l >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}
