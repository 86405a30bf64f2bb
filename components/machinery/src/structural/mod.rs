//! Structural schemas: what a CustomResourceDefinition says about its objects (apiextensions-apiserver `pkg/apiserver/schema`).
//!
//! In: `openAPIV3Schema` as decoded JSON. Out: pruned, defaulted and validated objects, the problems of a schema, and what is
//! published of it. Pure, and total: a schema that was not checked gives odd answers, never a panic.

mod check;
mod defaults;
mod formats;
pub mod jsonpath;
mod lists;
mod meta;
mod nodes;
pub mod openapi;
mod parse;
mod prune;
pub mod rules;
mod validate;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

pub use check::{check, is_structural};
pub use defaults::{default, drop_nulls};
pub use lists::unique;
pub use meta::{embedded, prune_metadata};
pub use nodes::check_nodes;
pub use parse::parse;
pub use prune::prune;
pub use validate::{correlated, validate, validate_at};

/// A node of a schema. Fields are called as in JSON, in our spelling; absent ones have their zero value.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `type`
    pub kind: String,
    pub title: String,
    pub description: String,
    pub format: String,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Schema>>,
    pub default: Option<Value>,
    pub nullable: bool,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list_type: Option<String>,
    pub list_map_keys: Vec<String>,
    pub map_type: Option<String>,
    /// `x-kubernetes-validations`, as written.
    pub rules: Vec<Value>,
    pub required: Vec<String>,
    pub allowed: Vec<Value>,
    pub maximum: Option<f64>,
    pub minimum: Option<f64>,
    pub exclusive_maximum: bool,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<u64>,
    pub min_length: Option<u64>,
    pub max_items: Option<u64>,
    pub min_items: Option<u64>,
    pub max_properties: Option<u64>,
    pub min_properties: Option<u64>,
    pub pattern: Option<Pattern>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

/// `additionalProperties`
#[derive(Clone, Debug)]
pub enum Additional {
    Any(bool),
    Schema(Box<Schema>),
}

impl Additional {
    pub fn schema(&self) -> Option<&Schema> {
        match self {
            Additional::Any(_) => None,
            Additional::Schema(schema) => Some(schema),
        }
    }
}

/// A regular expression, or why it is none.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub text: String,
    pub compiled: Result<Regex, String>,
}

impl Schema {
    /// The schema of the values of a map, if values have one.
    pub fn values(&self) -> Option<&Schema> {
        self.additional.as_ref().and_then(Additional::schema)
    }

    /// Whether this node or one below it, other than in `allOf` and the like, satisfies a condition.
    pub fn any(&self, test: &dyn Fn(&Schema) -> bool) -> bool {
        test(self)
            || self.properties.values().any(|it| it.any(test))
            || self.items.as_deref().is_some_and(|it| it.any(test))
            || self.values().is_some_and(|it| it.any(test))
    }
}

#[cfg(test)]
mod tests;
