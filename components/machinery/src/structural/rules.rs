//! `x-kubernetes-validations`: where an expression language plugs in. This module knows none.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::Schema;
use crate::field::{FieldError, Path};

/// The rules of one schema, compiled.
pub trait Rules: Send + Sync {
    /// Checks a whole object; `old` is there on updates. Errors are about fields below `path`.
    fn validate(&self, path: &Path, value: &Value, old: Option<&Value>) -> Vec<FieldError>;
}

/// An expression language.
pub trait Engine: Send + Sync {
    /// What is wrong with the rules of a definition's schema whose root is at `path`; `old` is the schema that an update
    /// replaces. Only asked about schemas that are right otherwise.
    fn check(&self, schema: &Schema, path: &Path, old: Option<&Schema>) -> Vec<FieldError>;
    fn compile(&self, schema: &Schema) -> Arc<dyn Rules>;
}

static ENGINE: OnceLock<Box<dyn Engine>> = OnceLock::new();

/// Sets the language for the whole process; the first one stays.
pub fn install(engine: Box<dyn Engine>) {
    let _ = ENGINE.set(engine);
}

pub fn check(schema: &Schema, path: &Path, old: Option<&Schema>) -> Vec<FieldError> {
    ENGINE.get().map(|engine| engine.check(schema, path, old)).unwrap_or_default()
}

/// The compiled rules of a schema; `None` if it has none.
pub fn compile(schema: &Schema) -> Option<Arc<dyn Rules>> {
    schema.any(&|node| !node.rules.is_empty()).then(|| ENGINE.get().map(|engine| engine.compile(schema))).flatten()
}
