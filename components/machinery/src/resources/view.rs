//! Kinds that are served in more than one group or version, but stored once.
//!
//! A row with a view has columns, selectors, defaults and rules of its own, over objects in its own form. The store holds them
//! in the form of the row that the view names; both conversions are pure and lose nothing that the other form can hold.

use serde_json::Value;

/// How the objects of a row lie in the store.
#[derive(Clone, Copy)]
pub struct View {
    /// Group, version and plural of the row in whose form they are stored.
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    /// From the stored form to the row's own. `apiVersion` and `kind` are the caller's to set.
    pub from_stored: fn(&mut Value),
    pub to_stored: fn(&mut Value),
}
