//! What a job's status may become (kubernetes `ValidateJobUpdateStatus`).

use serde_json::Value;

use super::{is_indexed, policies::count_indexes};
use crate::{
    field::{FieldError, Path},
    resources::meta,
    time,
    value::{bool_at, get, int_at, list_at, str_at},
};

fn is_true(job: &Value, kind: &str) -> bool {
    list_at(job, "status.conditions").iter().any(|c| str_at(c, "type") == kind && str_at(c, "status") == "True")
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = numbers(new);
    if new.get("status") == old.get("status") {
        return errors;
    }
    errors.extend(conditions(new, old));
    errors.extend(times(new, old));
    errors.extend(finished(new));
    errors.extend(indexes(new));
    errors.extend(counters(new, old));
    errors
}

fn numbers(job: &Value) -> Vec<FieldError> {
    let Some(status) = job.get("status") else { return Vec::new() };
    let path = Path::new("status");
    ["active", "succeeded", "failed", "ready", "terminating"]
        .into_iter()
        .filter_map(|field| meta::non_negative(status, field, &path))
        .collect()
}

fn conditions(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = Path::new("status").child("conditions");
    let mut errors = Vec::new();
    let mut refuse = |wrong: bool, detail: &str| {
        if wrong {
            errors.push(FieldError::invalid_omitted(&at, detail));
        }
    };
    let has = |kind: &str| is_true(new, kind);
    refuse(has("Complete") && has("Failed"), "cannot set Complete=True and Failed=true conditions");
    refuse(has("Complete") && has("FailureTarget"), "cannot set Complete=True and FailureTarget=true conditions");
    let newly = |kind: &str| has(kind) && !is_true(old, kind);
    refuse(
        newly("Failed") && !has("FailureTarget"),
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        newly("Complete") && !has("SuccessCriteriaMet"),
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    refuse(has("SuccessCriteriaMet") && has("Failed"), "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    refuse(
        has("SuccessCriteriaMet") && has("FailureTarget"),
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    for kind in ["Failed", "Complete", "FailureTarget"] {
        let detail = format!("cannot disable the terminal {kind}=True condition");
        refuse(is_true(old, kind) && !has(kind), &detail);
    }
    refuse(
        is_true(old, "SuccessCriteriaMet") && !has("SuccessCriteriaMet"),
        "cannot disable the SuccessCriteriaMet=True condition",
    );
    errors
}

fn times(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = Path::new("status").child("completionTime");
    let mut errors = Vec::new();
    let completed = get(new, "status.completionTime").cloned();
    let complete = is_true(new, "Complete");
    match &completed {
        Some(time) if !complete => {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid(&at, time.clone(), detail));
        }
        None if complete => {
            errors.push(FieldError::required(&at, "completionTime is required for Complete jobs"));
        }
        _ => {}
    }
    let point = |job: &Value, field: &str| time::parse(str_at(job, &format!("status.{field}")));
    if let (Some(start), Some(end)) = (point(new, "startTime"), point(new, "completionTime"))
        && end < start
    {
        let shown = completed.clone().unwrap_or_default();
        errors.push(FieldError::invalid(&at, shown, "completionTime cannot be set before startTime"));
    }
    if let (Some(after), Some(before)) = (&completed, get(old, "status.completionTime"))
        && after != before
    {
        errors.push(FieldError::invalid(&at, after.clone(), "completionTime cannot be mutated"));
    }
    let started = get(old, "status.startTime");
    if started.is_some() && started != get(new, "status.startTime") && !bool_at(new, "spec.suspend") {
        let detail = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required(&Path::new("status").child("startTime"), detail));
    }
    errors
}

/// A finished job has no pods any more.
fn finished(job: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    if !is_true(job, "Complete") && !is_true(job, "Failed") {
        return errors;
    }
    for field in ["active", "terminating"] {
        if let Some(count) = int_at(job, &format!("status.{field}")).filter(|n| *n > 0) {
            let detail = format!("{field}>0 is invalid for finished job");
            errors.push(FieldError::invalid(&path.child(field), count, detail));
        }
    }
    if get(job, "status.startTime").is_none() {
        errors.push(FieldError::required(&path.child("startTime"), "startTime is required for finished job"));
    }
    errors
}

fn indexes(job: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    let completions = int_at(job, "spec.completions");
    for field in ["completedIndexes", "failedIndexes"] {
        let Some(text) = get(job, &format!("status.{field}")).and_then(Value::as_str) else { continue };
        if let Some(Err(why)) = completions.map(|limit| count_indexes(text, limit)) {
            errors.push(FieldError::invalid(&path.child(field), text, format!("error parsing {field}: {why}")));
        }
    }
    let completed = str_at(job, "status.completedIndexes");
    if !completed.is_empty() && !is_indexed(&job["spec"]) {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(FieldError::invalid(&path.child("completedIndexes"), completed, detail));
    }
    if let Some(failed) = get(job, "status.failedIndexes").filter(|_| get(job, "spec.backoffLimitPerIndex").is_none()) {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(FieldError::invalid(&path.child("failedIndexes"), failed.clone(), detail));
    }
    errors
}

fn counters(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    for field in ["failed", "succeeded"] {
        // an indexed job may be told to do less, and counts anew
        if field == "succeeded" && is_indexed(&new["spec"]) {
            continue;
        }
        let count = |job: &Value| int_at(job, &format!("status.{field}")).unwrap_or(0);
        if count(new) < count(old) {
            let detail = format!("cannot decrease the {field} counter");
            errors.push(FieldError::invalid(&path.child(field), count(new), detail));
        }
    }
    errors
}
