//! What writes of the main resource may not touch.

use serde_json::Value;

use crate::value;

/// A create never sets status.
pub(super) fn drop_status(object: &mut Value) {
    value::remove(object, "status");
}

fn keep(new: &mut Value, old: &Value, key: &str) {
    let Some(map) = new.as_object_mut() else { return };
    match old.get(key) {
        Some(kept) => map.insert(key.to_owned(), kept.clone()),
        None => map.remove(key),
    };
}

/// An update of the main resource leaves status alone.
pub(super) fn keep_status(new: &mut Value, old: &Value) {
    keep(new, old, "status");
}

/// Certificate requests never change but through their subresources.
pub(super) fn keep_spec_and_status(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    keep(new, old, "status");
}

/// Namespaces: `spec.finalizers` changes through `/finalize` only.
pub(super) fn keep_spec_finalizers_and_status(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    keep(new, old, "status");
}
