//! How lists and objects merge under a strategic merge patch: the extensions `patch-strategy` and `patch-merge-key` of
//! `data/extensions.json`.

use serde_json::Value;

use crate::apply;

/// How a patch of a field is merged. Fields without these extensions: objects merge, lists are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// A list of objects, merged by this key.
    Key(&'static str),
    /// A list of plain values, merged as a set.
    Set,
    /// As `Key`, and an element's patch may say which keys stay.
    KeyRetain(&'static str),
    /// An object whose patch may say which keys stay.
    Retain,
}

/// How a field of a definition merges, if not in the plain way.
pub fn merge(definition: &str, field: &str) -> Option<Merge> {
    let extension = apply::extension(definition, field)?;
    let text = |key: &str| extension.get(key).and_then(Value::as_str);
    let strategy = text("patch-strategy")?;
    let retains = strategy.split(',').any(|s| s == "retainKeys");
    let merges = strategy.split(',').any(|s| s == "merge");
    match (text("patch-merge-key"), retains) {
        (Some(key), false) => Some(Merge::Key(key)),
        (Some(key), true) => Some(Merge::KeyRetain(key)),
        (None, true) => Some(Merge::Retain),
        (None, false) => merges.then_some(Merge::Set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, as the struct tags of Go's types have them.
    #[test]
    fn extensions_say_how_fields_merge() {
        let core = |kind: &str, field: &str| merge(&format!("io.k8s.api.core.v1.{kind}"), field);
        assert_eq!(core("PodSpec", "containers"), Some(Merge::Key("name")));
        assert_eq!(core("PodSpec", "volumes"), Some(Merge::KeyRetain("name")));
        assert_eq!(core("Container", "ports"), Some(Merge::Key("containerPort")));
        assert_eq!(core("Container", "command"), None);
        assert_eq!(core("NodeSpec", "podCIDRs"), Some(Merge::Set));
        assert_eq!(merge("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers"), Some(Merge::Set));
        assert_eq!(
            merge("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences"),
            Some(Merge::Key("uid"))
        );
        assert_eq!(merge("io.k8s.api.apps.v1.DeploymentSpec", "strategy"), Some(Merge::Retain));
    }
}
