//! Whether an applied configuration fits its kind's shape, in upstream's words.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    element,
    shape::{ListShape, MapShape, Resolved, Scalar, Shape},
};
use crate::value::go_text;

/// Everything that does not fit, as one text.
pub fn validate(object: &Value, shape: &Shape) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(object, shape, "", &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What is wrong with a plain value.
fn scalar_problem(wanted: Scalar, value: &Value) -> Option<String> {
    match (wanted, value) {
        (_, Value::Null)
        | (Scalar::String, Value::String(_))
        | (Scalar::Number, Value::Number(_))
        | (Scalar::Bool, Value::Bool(_))
        | (Scalar::Any, Value::String(_) | Value::Number(_) | Value::Bool(_)) => None,
        (Scalar::Number, _) => Some(format!("expected numeric (int or float), got {}", go_type(value))),
        (Scalar::String, plain) => {
            let shown = match plain {
                Value::Object(_) | Value::Array(_) => format!("{}{{...}}", go_type(plain)),
                other => other.to_string(),
            };
            Some(format!("expected string, got &value.valueUnstructured{{Value:{shown}}}"))
        }
        (Scalar::Bool, _) => Some(format!("expected boolean, got &{{{}}}", go_text(value))),
        (Scalar::Any, _) => Some(format!("expected any scalar, got &{{{}}}", go_text(value))),
    }
}

fn walk(value: &Value, shape: &Shape, path: &str, errors: &mut Vec<String>) {
    let mut report = |problem: String| {
        errors.push(if path.is_empty() { problem } else { format!("{path}: {problem}") });
    };
    match (shape.resolve(), value) {
        (Resolved::Scalar(wanted), value) => {
            if let Some(problem) = scalar_problem(wanted, value) {
                report(problem);
            }
        }
        (Resolved::Map { map, .. }, Value::Object(entries)) => check_map(entries, map, path, errors),
        (Resolved::List(list), Value::Array(items)) => check_list(items, list, path, errors),
        (Resolved::Map { .. }, value) if !value.is_null() => {
            report(format!("expected map, got &{{{}}}", go_text(value)))
        }
        (Resolved::List(_), value) if !value.is_null() => report(format!("expected list, got &{{{}}}", go_text(value))),
        _ => {}
    }
}

fn check_map(entries: &Map<String, Value>, shape: &MapShape, path: &str, errors: &mut Vec<String>) {
    for (key, value) in entries {
        let at = format!("{path}.{key}");
        match shape.child(key) {
            Some((inner, _)) => walk(value, inner, &at, errors),
            None => {
                errors.push(format!("{at}: field not declared in schema"));
                return;
            }
        }
    }
}

fn check_list(items: &[Value], shape: &ListShape, path: &str, errors: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let step = if shape.is_atomic() {
            format!("[{index}]")
        } else {
            let step = match shape.step(item) {
                Ok(step) => element::display(&step),
                Err(problem) => {
                    errors.push(with_path(path, &format!("element {index}: {problem}")));
                    return;
                }
            };
            if !seen.insert(step.clone()) {
                errors.push(with_path(path, &format!("duplicate entries for key {step}")));
            }
            step
        };
        walk(item, &shape.item, &format!("{path}{step}"), errors);
    }
}

fn with_path(path: &str, problem: &str) -> String {
    if path.is_empty() { problem.to_owned() } else { format!("{path}: {problem}") }
}
