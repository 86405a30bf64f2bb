//! `metav1.Condition` in a status (apimachinery `ValidateConditions`).

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    value::{int_at, str_at},
};

const STATUSES: &[&str] = &["False", "True", "Unknown"];
const REASON_BYTES: usize = 1024;
const MESSAGE_BYTES: usize = 32 * 1024;
const REASON: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
const BAD_REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

static REASON_FORM: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("^{REASON}$")).ok());

/// What is wrong with the conditions of a status at `path`, in upstream's order.
pub(super) fn validate(conditions: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let (at, kind) = (path.index(i), str_at(condition, "type"));
        if conditions[..i].iter().any(|earlier| str_at(earlier, "type") == kind) {
            errors.push(FieldError::duplicate(&at.child("type"), kind));
        }
        errors.extend(one(condition, &at));
    }
    errors
}

fn one(condition: &Value, path: &Path) -> Vec<FieldError> {
    let text = |field: &str| str_at(condition, field);
    let mut errors = FieldError::each_invalid(&path.child("type"), text("type"), names::qualified_name(text("type")));
    if !STATUSES.contains(&text("status")) {
        errors.push(FieldError::not_supported(&path.child("status"), text("status"), STATUSES));
    }
    if let Some(generation) = int_at(condition, "observedGeneration").filter(|g| *g < 0) {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("observedGeneration"), generation, detail));
    }
    if text("lastTransitionTime").is_empty() {
        errors.push(FieldError::required(&path.child("lastTransitionTime"), "must be set"));
    }
    errors.extend(reason(text("reason"), &path.child("reason")));
    if text("message").len() > MESSAGE_BYTES {
        errors.push(FieldError::too_long(&path.child("message"), MESSAGE_BYTES));
    }
    errors
}

fn reason(text: &str, path: &Path) -> Vec<FieldError> {
    if text.is_empty() {
        return vec![FieldError::required(path, "must be set")];
    }
    let mut errors = Vec::new();
    if REASON_FORM.as_ref().is_some_and(|form| !form.is_match(text)) {
        errors.push(FieldError::invalid(path, text, BAD_REASON));
    }
    if text.len() > REASON_BYTES {
        errors.push(FieldError::too_long(path, REASON_BYTES));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(conditions: Value) -> Vec<String> {
        let all = conditions.as_array().cloned().unwrap_or_default();
        validate(&all, &Path::new("c")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn conditions_fail_in_upstreams_words() {
        let good =
            json!({"type": "Ready", "status": "True", "reason": "A:b", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        assert_eq!(texts(json!([good])), [""; 0]);
        assert_eq!(
            texts(json!([good, {"type": "Ready", "status": "true", "observedGeneration": -1}])),
            [
                "c[1].type: Duplicate value: \"Ready\"",
                "c[1].status: Unsupported value: \"true\": supported values: \"False\", \"True\", \"Unknown\"",
                "c[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
                "c[1].lastTransitionTime: Required value: must be set",
                "c[1].reason: Required value: must be set",
            ]
        );
        let long = json!({"type": "x", "status": "True", "reason": "a b", "lastTransitionTime": "2026-01-01T00:00:00Z",
            "message": "m".repeat(MESSAGE_BYTES + 1)});
        let found = texts(json!([long]));
        assert!(found[0].starts_with("c[0].reason: Invalid value: \"a b\": a condition reason must start with"));
        assert_eq!(found[1], "c[0].message: Too long: may not be more than 32768 bytes");
    }
}
