//! What is wrong with the rules of a definition: they do not compile, or may cost too much.

use cel::{
    Env,
    cost::{CRD_ESTIMATE_LIMIT, RULE_ESTIMATE_LIMIT},
};
use serde_json::Value;

use super::compile::{Node, Rule};
use crate::{
    FieldError, Path,
    structural::Schema,
    structure::{self, Fields, Part},
    value::str_at,
};

/// The most expensive rules are named when all together cost too much; this many.
const NAMED: usize = 4;

/// How many values a node can have in one object; `None` is as many as fit into a request.
type Cardinality = Option<u64>;

pub fn check(schema: &Schema, path: &Path) -> Vec<FieldError> {
    let mut checker = Checker { errors: Vec::new(), total: 0, expensive: Vec::new() };
    checker.node(schema, path, true, Some(1), None);
    if checker.total > CRD_ESTIMATE_LIMIT {
        checker.expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, path) in checker.expensive.iter().take(NAMED) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            checker.errors.push(FieldError::forbidden(path, detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        checker.errors.push(FieldError::forbidden(path, too_expensive(what, checker.total, CRD_ESTIMATE_LIMIT)));
    }
    checker.errors
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        // never "1.0x"
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

struct Checker {
    errors: Vec<FieldError>,
    total: u64,
    expensive: Vec<(u64, Path)>,
}

impl Checker {
    /// `lost` is the outermost list or map around whose contents cannot be told apart between old and new. What lies below is
    /// judged first.
    fn node(&mut self, schema: &Schema, path: &Path, is_resource: bool, count: Cardinality, lost: Option<&Path>) {
        if let Some(values) = schema.values() {
            let count = below(count, schema.max_properties);
            self.node(values, &path.child("additionalProperties"), values.embedded, count, lost);
        }
        let within = lost.or((schema.map_type.as_deref() == Some("atomic")).then_some(path));
        for (name, property) in &schema.properties {
            self.node(property, &path.child("properties").key(name), property.embedded, count, within);
        }
        if let Some(items) = &schema.items {
            let count = below(count, schema.max_items);
            let within = lost.or((schema.list_type.as_deref() != Some("map")).then_some(path));
            self.node(items, &path.child("items"), items.embedded, count, within);
        }
        if !schema.rules.is_empty() {
            self.rules(schema, path, is_resource, count, lost);
        }
    }

    fn rules(&mut self, schema: &Schema, path: &Path, is_resource: bool, count: Cardinality, lost: Option<&Path>) {
        let path = path.child("x-kubernetes-validations");
        let Some(node) = Node::new(schema, is_resource) else {
            let detail = format!(
                "rule declared on schema that does not support validation rules type: '{}' x-kubernetes-preserve-unknown-fields: '{}'",
                schema.kind, schema.preserve_unknown
            );
            self.errors.push(FieldError::invalid(&path, Value::Null, detail));
            return;
        };
        for (i, written) in schema.rules.iter().enumerate() {
            let at = path.index(i);
            let times = count.unwrap_or_else(|| node.seen.max_count());
            let uses_old = match node.rule(schema, written) {
                Ok(None) => continue,
                Ok(Some(rule)) => {
                    self.costs(&rule, node.env(rule.optional_old), times, &at);
                    rule.uses_old
                }
                Err(wrong) => {
                    let detail = format!("{}: {}", structure::shown(written, RULE), wrong.detail);
                    self.errors.push(FieldError::invalid_omitted(&at.child(wrong.field), detail));
                    false
                }
            };
            self.old(written, uses_old, &at, lost);
        }
    }

    fn costs(&mut self, rule: &Rule, env: &Env, times: u64, path: &Path) {
        let cost = rule.program.estimate(env).max.saturating_mul(times);
        self.spend(cost, "estimated rule cost", &path.child("rule"));
        // a message is made once, so upstream counts it once
        if let Some(message) = &rule.message_program {
            let at = path.child("messageExpression");
            self.spend(message.estimate(env).max, "estimated messageExpression cost", &at);
        }
    }

    fn old(&mut self, written: &Value, uses_old: bool, path: &Path, lost: Option<&Path>) {
        if let Some(lost) = lost.filter(|_| uses_old) {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}");
            self.errors.push(FieldError::invalid(&path.child("rule"), str_at(written, "rule"), detail));
        } else if let Some(set) = written.get("optionalOldSelf").and_then(Value::as_bool).filter(|_| !uses_old) {
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(FieldError::invalid(&path.child("optionalOldSelf"), set, detail));
        }
    }

    fn spend(&mut self, cost: u64, what: &str, path: &Path) {
        if cost > RULE_ESTIMATE_LIMIT {
            self.errors.push(FieldError::forbidden(path, too_expensive(what, cost, RULE_ESTIMATE_LIMIT)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= CRD_ESTIMATE_LIMIT / 100 {
            self.expensive.push((cost, path.clone()));
        }
    }
}

fn below(count: Cardinality, max: Option<u64>) -> Cardinality {
    Some(count?.saturating_mul(max?))
}

/// Upstream's structure of a rule.
const RULE: Fields = &[
    ("Rule", "rule", Part::Text),
    ("Message", "message", Part::Text),
    ("MessageExpression", "messageExpression", Part::Text),
    ("Reason", "reason", Part::Any),
    ("FieldPath", "fieldPath", Part::Text),
    ("OptionalOldSelf", "optionalOldSelf", Part::Any),
];
