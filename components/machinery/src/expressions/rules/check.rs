//! What is wrong with the rules of a definition: they do not compile, or may cost too much.

use cel::cost::{CRD_ESTIMATE_LIMIT, RULE_ESTIMATE_LIMIT};
use serde_json::Value;

use super::compile::Node;
use crate::{FieldError, Path, structural::Schema, value::bool_at};

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
            let detail = "contributed to estimated rule & messageExpression cost total exceeding cost limit for entire OpenAPIv3 schema";
            checker.errors.push(FieldError::forbidden(path, detail));
        }
        let what = "x-kubernetes-validations estimated rule & messageExpression cost total for entire OpenAPIv3 schema";
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
    /// `lost` is the nearest list around whose items cannot be told apart between old and new.
    fn node(&mut self, schema: &Schema, path: &Path, is_resource: bool, count: Cardinality, lost: Option<&Path>) {
        if !schema.rules.is_empty() {
            self.rules(schema, path, is_resource, count, lost);
        }
        if let Some(items) = &schema.items {
            let count = below(count, schema.max_items);
            let at = path.child("items");
            let is_map = schema.list_type.as_deref() == Some("map");
            let lost = lost.or(if is_map { None } else { Some(path) });
            self.node(items, &at, items.embedded, count, lost);
        }
        if let Some(values) = schema.values() {
            let count = below(count, schema.max_properties);
            self.node(values, &path.child("additionalProperties"), values.embedded, count, lost);
        }
        for (name, property) in &schema.properties {
            self.node(property, &path.child("properties").key(name), property.embedded, count, lost);
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
            let rule = match node.rule(schema, written) {
                Ok(Some(rule)) => rule,
                Ok(None) => continue,
                Err(wrong) => {
                    self.errors.push(FieldError::invalid(&at.child(wrong.field), written.clone(), wrong.detail));
                    continue;
                }
            };
            if rule.uses_old {
                if let Some(lost) = lost {
                    let detail =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}");
                    let text = written.get("rule").cloned().unwrap_or_default();
                    self.errors.push(FieldError::invalid(&at.child("rule"), text, detail));
                }
            } else if written.get("optionalOldSelf").is_some_and(Value::is_boolean) {
                let detail = "may not be set if oldSelf is not used in rule";
                let set = bool_at(written, "optionalOldSelf");
                self.errors.push(FieldError::invalid(&at.child("optionalOldSelf"), set, detail));
            }
            let times = count.unwrap_or_else(|| node.seen.max_count());
            let env = node.env(rule.optional_old);
            let cost = rule.program.estimate(env).max.saturating_mul(times);
            self.spend(cost, "estimated rule cost", &at.child("rule"));
            if let Some(message) = &rule.message_program {
                let cost = message.estimate(env).max.saturating_mul(times);
                self.spend(cost, "estimated messageExpression cost", &at.child("messageExpression"));
            }
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
