//! Expressions (CEL) in API objects: what they may refer to, and what is wrong with them where clients write them.

mod environment;
mod policy;
pub mod rules;
mod types;

pub use environment::{Declared, environment, namespace_object, schemas};
pub use policy::{Audit, Mutation, Policy, Validation, match_conditions};
pub use types::type_checking;

use cel::{Env, Program, Type};

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    Any,
    Bool,
    Text,
    TextOrNull,
    /// An apply configuration: `Object{…}`.
    Object,
    /// A list of `JSONPatch{…}`.
    Patches,
}

impl Returns {
    fn accepts(self, found: &Type) -> bool {
        match (self, found) {
            (Returns::Any, _) | (Returns::Bool, Type::Bool) => true,
            (Returns::Text | Returns::TextOrNull, Type::String) | (Returns::TextOrNull, Type::Null) => true,
            (Returns::Object, Type::Object(object)) => object.name == "Object",
            (Returns::Patches, Type::List(item)) => matches!(&**item, Type::Object(it) if it.name == "JSONPatch"),
            _ => false,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Returns::Any => "any",
            Returns::Bool => "bool",
            Returns::Text => "string",
            Returns::TextOrNull => "[string null_type]",
            Returns::Object => "Object",
            Returns::Patches => "list(JSONPatch)",
        }
    }
}

/// Compiles an expression, or says why not as a field error's detail does.
pub fn compile(env: &Env, source: &str, returns: Returns) -> Result<Program, String> {
    let program = env.compile(source).map_err(|error| format!("compilation failed: {error}"))?;
    let found = program.output();
    if returns.accepts(found) {
        return Ok(program);
    }
    let one_of = if returns == Returns::TextOrNull { "one of " } else { "" };
    Err(format!("must evaluate to {one_of}{} but got {found}", returns.text()))
}

#[cfg(test)]
mod tests;
