//! Field selectors: `a=b,c!=d` over the fields a resource offers.

use serde_json::Value;

use super::SelectorError;
use crate::{resources::Resource, value};

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    pub negated: bool,
    pub value: String,
}

/// `a=b,c!=d`; what a field is called and where it lies is the resource's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for term in split_unescaped(text).into_iter().filter(|t| !t.is_empty()) {
            terms.push(parse_term(&term)?);
        }
        Ok(FieldSelector { terms })
    }

    /// Parses and refuses fields the resource does not offer.
    pub fn parse_for(text: &str, resource: &Resource) -> Result<Self, SelectorError> {
        let selector = Self::parse(text)?;
        match selector.terms.iter().find(|t| resource.field_path(&t.field).is_none()) {
            Some(term) => Err(SelectorError(format!("field label not supported: {}", term.field))),
            None => Ok(selector),
        }
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value a field must have, if the selector demands exactly one.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.field == field && !t.negated).map(|t| t.value.as_str())
    }

    pub fn matches(&self, resource: &Resource, object: &Value) -> bool {
        self.terms.iter().all(|t| {
            resource.field_path(&t.field).is_some_and(|path| (field_text(object, path) == t.value) != t.negated)
        })
    }
}

/// A field as text. An absent field is its zero value; `?false` and `?0` after a path say which one, "" otherwise.
fn field_text(object: &Value, path: &str) -> String {
    let (path, zero) = path.split_once('?').unwrap_or((path, ""));
    match value::get(object, path) {
        None | Some(Value::Null) => zero.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Splits at commas; `\,`, `\=` and `\\` stand for themselves and are kept escaped here.
fn split_unescaped(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(last) = terms.last_mut() {
            last.push(c);
        }
    }
    terms
}

fn parse_term(term: &str) -> Result<FieldTerm, SelectorError> {
    let invalid = || SelectorError(format!("invalid selector: '{term}'; can't understand '{term}'"));
    let at = term.find('=').ok_or_else(invalid)?;
    let (left, right) = (&term[..at], &term[at + 1..]);
    let (field, negated) = match left.strip_suffix('!') {
        Some(field) => (field, true),
        None => (left, false),
    };
    let right = if negated { right } else { right.strip_prefix('=').unwrap_or(right) };
    Ok(FieldTerm { field: field.trim().to_owned(), negated, value: unescape(right).ok_or_else(invalid)? })
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|n| matches!(n, '\\' | ',' | '='))?),
            '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_compare_absent_as_zero() {
        let node = crate::resources::find("", "v1", "nodes").unwrap();
        let pod = crate::resources::find("", "v1", "pods").unwrap();
        let f = |r, text: &str, o: Value| FieldSelector::parse_for(text, r).unwrap().matches(r, &o);
        assert!(f(node, "spec.unschedulable=false", json!({"spec": {}})));
        assert!(!f(node, "spec.unschedulable=true", json!({"spec": {}})));
        assert!(f(pod, "spec.nodeName=", json!({"spec": {}})));
        assert!(f(
            pod,
            "spec.nodeName==a,status.phase!=Failed",
            json!({"spec": {"nodeName": "a"}, "status": {"phase": "Running"}})
        ));
        assert!(f(pod, "", json!({})));
        assert!(FieldSelector::parse_for("spec.x=1", pod).is_err());
        assert!(FieldSelector::parse_for("x", pod).is_err());
    }
}
