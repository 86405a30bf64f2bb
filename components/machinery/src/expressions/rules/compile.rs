//! The rules of one node of a schema, compiled.

use cel::{Env, Program, Schema as Declared, Shape, Type};
use serde_json::Value;

use super::shapes::{Seen, seen};
use crate::{
    structural::{Schema, jsonpath},
    value::{bool_at, str_at},
};

pub struct Rule {
    pub program: Program,
    pub message: String,
    pub message_program: Option<Program>,
    pub reason: String,
    /// Below the node, as field paths are written.
    pub field_path: Option<String>,
    pub uses_old: bool,
    pub optional_old: bool,
}

/// What is wrong with a rule: where in it, and the detail.
pub struct Wrong {
    pub field: &'static str,
    pub detail: String,
}

/// The environment of a node's rules.
pub struct Node {
    pub seen: Seen,
    plain: Env,
    optional: Env,
}

impl Node {
    /// `None` where rules are impossible: a node without a type.
    pub fn new(schema: &Schema, is_resource: bool) -> Option<Self> {
        let seen = seen(schema, is_resource)?;
        // what is bound to `self` is never null
        let declared = Declared { nullable: false, ..seen.declared.clone() };
        let plain = Env::new().with("self", declared.clone()).with("oldSelf", declared.clone());
        let maybe = Shape::Typed(Type::optional(declared.ty()));
        let optional = Env::new().with("self", declared).with("oldSelf", Declared::of(maybe));
        Some(Node { seen, plain, optional })
    }

    pub fn env(&self, optional: bool) -> &Env {
        if optional { &self.optional } else { &self.plain }
    }

    /// Compiles `rule`; a rule without text is left to others to refuse.
    pub fn rule(&self, schema: &Schema, rule: &Value) -> Result<Option<Rule>, Wrong> {
        let text = str_at(rule, "rule");
        if text.trim().is_empty() {
            return Ok(None);
        }
        let optional_old = bool_at(rule, "optionalOldSelf");
        let env = self.env(optional_old);
        let wrong = |field, detail| Wrong { field, detail };
        let program = env.compile(text).map_err(|e| wrong("rule", format!("compilation failed: {e}")))?;
        if !matches!(program.output(), Type::Bool) {
            return Err(wrong("rule", "cel expression must evaluate to a bool".into()));
        }
        let message_program = match str_at(rule, "messageExpression").trim() {
            "" => None,
            expression => {
                let program = env
                    .compile(expression)
                    .map_err(|e| wrong("messageExpression", format!("messageExpression compilation failed: {e}")))?;
                if !matches!(program.output(), Type::String) {
                    let detail = "messageExpression must evaluate to a string";
                    return Err(wrong("messageExpression", detail.into()));
                }
                Some(program)
            }
        };
        let field_path = match str_at(rule, "fieldPath") {
            "" => None,
            path => jsonpath::field(schema, path, true).ok().map(|(path, _)| path.as_str().to_owned()),
        };
        Ok(Some(Rule {
            uses_old: program.mentions("oldSelf"),
            program,
            message: str_at(rule, "message").trim().to_owned(),
            message_program,
            reason: str_at(rule, "reason").to_owned(),
            field_path,
            optional_old,
        }))
    }
}
