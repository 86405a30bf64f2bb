//! Rules of a whole schema, run on objects.

use std::{collections::BTreeMap, sync::Arc};

use cel::{Budget, Fault, Input, Schema as Declared, Val, cost::BUDGET};
use serde_json::Value;

use super::compile::{Node, Rule};
use crate::{
    FieldError, Path,
    structural::{Schema, correlated, rules::Rules},
};

const MAX_MESSAGE: usize = 5 * 1024;

/// The part of a schema that has rules.
pub struct Compiled {
    root: Option<Checked>,
}

struct Checked {
    schema: Schema,
    declared: Option<Declared>,
    /// (rule as compiled, rule as written)
    rules: Vec<(Rule, String)>,
    /// Rules that do not compile; there are none in what was checked.
    broken: Vec<String>,
    items: Option<Box<Checked>>,
    values: Option<Box<Checked>>,
    properties: BTreeMap<String, Checked>,
}

impl Compiled {
    pub fn new(schema: &Schema) -> Self {
        Compiled { root: Checked::new(schema, true) }
    }
}

impl Checked {
    fn new(schema: &Schema, is_resource: bool) -> Option<Self> {
        let items = schema.items.as_deref().and_then(|s| Checked::new(s, s.embedded)).map(Box::new);
        let values = schema.values().and_then(|s| Checked::new(s, s.embedded)).map(Box::new);
        let properties: BTreeMap<String, Checked> = schema
            .properties
            .iter()
            .filter_map(|(name, s)| Some((name.clone(), Checked::new(s, s.embedded)?)))
            .collect();
        if schema.rules.is_empty() && items.is_none() && values.is_none() && properties.is_empty() {
            return None;
        }
        let (mut rules, mut broken, mut declared) = (Vec::new(), Vec::new(), None);
        if !schema.rules.is_empty()
            && let Some(node) = Node::new(schema, is_resource)
        {
            for written in &schema.rules {
                match node.rule(schema, written) {
                    Ok(Some(rule)) => rules.push((rule, crate::value::str_at(written, "rule").trim().to_owned())),
                    Ok(None) => {}
                    Err(wrong) => broken.push(wrong.detail),
                }
            }
            declared = Some(Declared { nullable: false, ..node.seen.declared });
        }
        // children are kept apart; of the node itself only what tells items apart is needed
        let schema = Schema {
            kind: schema.kind.clone(),
            list_type: schema.list_type.clone(),
            list_map_keys: schema.list_map_keys.clone(),
            map_type: schema.map_type.clone(),
            ..Schema::default()
        };
        Some(Checked { schema, declared, rules, broken, items, values, properties })
    }
}

impl Rules for Compiled {
    fn validate(&self, path: &Path, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut run = Run { errors: Vec::new(), budget: Budget(BUDGET) };
        if let Some(root) = &self.root {
            let ratchet = Ratchet { current: old, unchanged: false, is_root: true };
            // out of budget: what was found so far says so
            let _ = run.node(root, path, value, old, ratchet);
        }
        run.errors
    }
}

/// What of the old object stands for a node, to forgive what did not change.
#[derive(Clone, Copy)]
struct Ratchet<'v> {
    current: Option<&'v Value>,
    /// The nearest ancestor that can be compared did not change.
    unchanged: bool,
    is_root: bool,
}

impl<'v> Ratchet<'v> {
    fn forgives(&self, value: &Value) -> bool {
        self.current.map_or(self.unchanged, |old| old == value)
    }

    fn child(&self, parent: &Value, find: impl FnOnce(&'v Value) -> Option<&'v Value>) -> Self {
        match self.current {
            None => Ratchet { is_root: false, ..*self },
            Some(old) => Ratchet { current: find(old), unchanged: old == parent, is_root: false },
        }
    }

    fn key(&self, parent: &Value, key: &str, atomic: bool) -> Self {
        // both versions of an object are read as the same one
        if self.is_root && matches!(key, "apiVersion" | "kind") {
            return Ratchet { current: None, unchanged: false, is_root: false };
        }
        self.child(parent, |old| if atomic { None } else { old.get(key) })
    }
}

/// No more rules are to be run.
struct Stop;

struct Run {
    errors: Vec<FieldError>,
    budget: Budget,
}

impl Run {
    fn node(
        &mut self,
        node: &Checked,
        path: &Path,
        value: &Value,
        old: Option<&Value>,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Stop> {
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|o| !o.is_null());
        self.rules(node, path, value, old, ratchet)?;
        match value {
            Value::Array(items) => {
                let Some(inner) = &node.items else { return Ok(()) };
                for (i, item) in items.iter().enumerate() {
                    let before = correlated(&node.schema, old, item);
                    let ratchet = ratchet.child(value, |old| correlated(&node.schema, Some(old), item));
                    self.node(inner, &path.index(i), item, before, ratchet)?;
                }
            }
            Value::Object(map) => {
                let atomic = node.schema.map_type.as_deref() == Some("atomic");
                for (key, inner_value) in map {
                    let (inner, at) = match (node.properties.get(key), &node.values) {
                        (Some(inner), _) => (inner, path.child(key)),
                        (None, Some(inner)) => (&**inner, path.key(key)),
                        (None, None) => continue,
                    };
                    let before = old.and_then(|o| o.get(key));
                    self.node(inner, &at, inner_value, before, ratchet.key(value, key, atomic))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules(
        &mut self,
        node: &Checked,
        path: &Path,
        value: &Value,
        old: Option<&Value>,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Stop> {
        let kind = node.schema.kind.as_str();
        for why in &node.broken {
            self.errors.push(FieldError::invalid(path, kind, format!("rule compile error: {why}")));
        }
        let Some(declared) = &node.declared else { return Ok(()) };
        let now = Val::read(value, declared);
        let before = old.map(|o| Val::read(o, declared));
        let optional = Val::Optional(before.clone().map(Arc::new));
        for (rule, text) in &node.rules {
            if rule.uses_old && before.is_none() && !rule.optional_old {
                continue;
            }
            let mut input = Input { values: vec![("self", now.clone())], ..Input::default() };
            if rule.optional_old {
                input.values.push(("oldSelf", optional.clone()));
            } else if let Some(before) = &before {
                input.values.push(("oldSelf", before.clone()));
            }
            self.rule(rule, text, path, kind, &input, !rule.uses_old && ratchet.forgives(value))?;
        }
        Ok(())
    }

    fn rule(
        &mut self,
        rule: &Rule,
        text: &str,
        path: &Path,
        kind: &str,
        input: &Input<'_>,
        forgiven: bool,
    ) -> Result<(), Stop> {
        let name = if rule.message.is_empty() { text } else { &rule.message };
        let mut invalid = |detail: String| self.errors.push(FieldError::invalid(path, kind, detail));
        if self.budget.0 == 0 {
            invalid(
                "validation failed due to running out of cost budget, no further validation rules will be run".into(),
            );
            return Err(Stop);
        }
        match rule.program.run(input, &mut self.budget) {
            Ok(Val::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(fault) if fault.fatal && self.budget.0 == 0 => {
                let detail =
                    "validation failed due to running out of cost budget, no further validation rules will be run";
                invalid(detail.into());
                return Err(Stop);
            }
            Err(fault) if fault.fatal => {
                invalid(format!(
                    "'{fault}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                ));
                return Err(Stop);
            }
            Err(Fault { message, .. }) if message.starts_with("no such overload") => {
                invalid(format!(
                    "'{message}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
                ));
                return Ok(());
            }
            Err(fault) => {
                invalid(format!("{fault} evaluating rule: {name}"));
                return Ok(());
            }
        }
        let at = rule.field_path.as_ref().map_or_else(|| path.clone(), |below| path.child(below));
        let detail = match self.message(rule, input) {
            Ok(Some(message)) => message,
            Ok(None) if rule.message.is_empty() => format!("failed rule: {text}"),
            Ok(None) => rule.message.clone(),
            Err(detail) => {
                self.errors.push(FieldError::invalid(&at, kind, detail));
                return Err(Stop);
            }
        };
        if !forgiven {
            self.errors.push(failure(&at, kind, detail, &rule.reason));
        }
        Ok(())
    }

    /// What `messageExpression` gives; `None` when that is no message.
    fn message(&mut self, rule: &Rule, input: &Input<'_>) -> Result<Option<String>, String> {
        let Some(program) = &rule.message_program else { return Ok(None) };
        match program.run(input, &mut self.budget) {
            Ok(Val::Str(text)) => {
                let text = text.trim();
                let fits = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                Ok(fits.then(|| text.to_owned()))
            }
            Err(fault) if fault.fatal => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                program.source
            )),
            _ => Ok(None),
        }
    }
}

fn failure(path: &Path, kind: &str, detail: String, reason: &str) -> FieldError {
    match reason {
        "FieldValueForbidden" => FieldError::forbidden(path, detail),
        "FieldValueRequired" => FieldError::required(path, detail),
        "FieldValueDuplicate" => FieldError::duplicate(path, kind),
        _ => FieldError::invalid(path, kind, detail),
    }
}
