//! Field ownership and server-side apply (upstream: structured-merge-diff v6 and apimachinery `pkg/util/managedfields`).
//!
//! A [`Shape`] says how values of a kind merge: which maps and lists are one field and which are many, and what tells list elements
//! apart. Built-in kinds have their shapes from the schema definitions and `data/extensions.json`, custom resources from their
//! structural schemas. With a shape, two objects compare to sets of fields ([`compare`]), an applied configuration merges into
//! an object ([`apply()`]), and the owners of fields are kept in `metadata.managedFields` ([`update()`]).

mod builtin;
mod compare;
mod configuration;
mod configuration_merge;
mod conflict;
mod element;
mod fields;
mod managers;
mod merge;
mod remove;
mod set;
mod shape;
mod structural;
mod update;
mod validate;

pub use builtin::{extension, shape as built_in};
pub use compare::{Comparison, compare};
pub use configuration::{ApplyError, Configuration, apply};
pub use configuration_merge::merge_configuration;
pub use conflict::Conflict;
pub use managers::{MAX_MANAGER, Writer, manager_from_user_agent};
pub use set::FieldSet;
pub use shape::Shape;
pub use structural::shape as structural;
pub use update::{Rules, keep_times, update};
pub use validate::validate as fits;

use serde_json::Value;

/// The other versions in which an object's fields are managed.
pub trait Versions {
    /// `object` in the version `api_version`, and the shape it has there; `None` if that version is not served any more.
    fn convert(&self, object: &Value, api_version: &str) -> Option<(Value, Shape)>;
}

/// For kinds with one version: what was managed in another is forgotten.
pub struct OneVersion;

impl Versions for OneVersion {
    fn convert(&self, _: &Value, _: &str) -> Option<(Value, Shape)> {
        None
    }
}

#[cfg(test)]
mod tests;
