//! Custom resources: what is served at the moment.

use std::{collections::BTreeMap, sync::Arc};

use machinery::{ResourceRef, resources::CustomResource};
use parking_lot::RwLock;

/// Group, version, plural.
type Id = (String, String, String);

/// The rows of all established definitions. Readers get a snapshot; changes replace it.
#[derive(Default)]
pub struct Served(RwLock<Arc<BTreeMap<Id, Arc<CustomResource>>>>);

impl Served {
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<ResourceRef> {
        let rows = self.0.read().clone();
        let id = (group.to_owned(), version.to_owned(), plural.to_owned());
        rows.get(&id).cloned().map(ResourceRef::Custom)
    }

    /// Every served version of every custom resource.
    pub fn all(&self) -> Vec<ResourceRef> {
        self.0.read().values().cloned().map(ResourceRef::Custom).collect()
    }
}
