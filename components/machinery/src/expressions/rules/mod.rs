//! `x-kubernetes-validations` in CEL (apiextensions-apiserver `pkg/apiserver/schema/cel`).

mod check;
mod compile;
mod run;
mod shapes;

use std::sync::Arc;

use crate::{
    FieldError, Path,
    structural::{
        Schema,
        rules::{Engine, Rules},
    },
};

/// The engine for `structural::rules`.
pub struct Cel;

impl Engine for Cel {
    fn check(&self, schema: &Schema, path: &Path, _old: Option<&Schema>) -> Vec<FieldError> {
        // every expression that was accepted once compiles today as it did then, so what is old needs no leniency
        check::check(schema, path)
    }

    fn compile(&self, schema: &Schema) -> Arc<dyn Rules> {
        Arc::new(run::Compiled::new(schema))
    }
}

#[cfg(test)]
mod tests;
