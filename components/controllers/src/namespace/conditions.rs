//! What a namespace's conditions say about its deletion (upstream: pkg/controller/namespace/deletion/status_condition_utils.go).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NamespaceCondition;

use crate::core::meta;

/// What is still in a namespace.
#[derive(Debug, Default, PartialEq)]
pub struct Remaining {
    /// By resource, `pods.` in the core group.
    pub objects: BTreeMap<String, usize>,
    /// By finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Remaining {
    pub fn is_none(&self) -> bool {
        self.objects.is_empty()
    }

    pub fn add(&mut self, other: Remaining) {
        self.objects.extend(other.objects);
        for (finalizer, count) in other.finalizers {
            *self.finalizers.entry(finalizer).or_default() += count;
        }
    }
}

/// Why a pass over a namespace did not finish it.
#[derive(Debug, Default)]
pub struct Pass {
    pub remaining: Remaining,
    /// Group versions that could not be read.
    pub unknown: Vec<String>,
    /// What could not be deleted.
    pub failure: Option<String>,
}

/// The conditions after a pass; those of other types stay, and times change only with their status.
pub fn after(old: &[NamespaceCondition], pass: &Pass) -> Vec<NamespaceCondition> {
    let told = |holds: bool, yes: (&'static str, String), no: (&'static str, &str)| {
        let (reason, message) = if holds { yes } else { (no.0, no.1.to_owned()) };
        (holds, reason, message)
    };
    let unknown =
        format!("Discovery failed for some groups, {} failing: {}", pass.unknown.len(), pass.unknown.join(", "));
    let remaining: Vec<String> =
        pass.remaining.objects.iter().map(|(id, count)| format!("{id} has {count} resource instances")).collect();
    let finalizers: Vec<String> =
        pass.remaining.finalizers.iter().map(|(it, count)| format!("{it} in {count} resource instances")).collect();
    let conditions = [
        (
            "NamespaceDeletionDiscoveryFailure",
            told(
                !pass.unknown.is_empty(),
                ("DiscoveryFailed", unknown),
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            (false, "ParsedGroupVersions", "All legacy kube types successfully parsed".to_owned()),
        ),
        (
            "NamespaceDeletionContentFailure",
            told(
                pass.failure.is_some(),
                (
                    "ContentDeletionFailed",
                    format!(
                        "Failed to delete all resource types, 1 remaining: {}",
                        pass.failure.clone().unwrap_or_default()
                    ),
                ),
                ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            ),
        ),
        (
            "NamespaceContentRemaining",
            told(
                !remaining.is_empty(),
                ("SomeResourcesRemain", format!("Some resources are remaining: {}", remaining.join(", "))),
                ("ContentRemoved", "All content successfully removed"),
            ),
        ),
        (
            "NamespaceFinalizersRemaining",
            told(
                !finalizers.is_empty(),
                (
                    "SomeFinalizersRemain",
                    format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", ")),
                ),
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ),
    ];
    let mut all = old.to_vec();
    for (kind, (holds, reason, message)) in conditions {
        let status = if holds { "True" } else { "False" };
        let position = all.iter().position(|it| it.type_ == kind);
        let kept = position.and_then(|at| all[at].last_transition_time.clone().filter(|_| all[at].status == status));
        let new = NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: kept.or_else(|| Some(meta::now_time())),
        };
        match position {
            Some(at) => all[at] = new,
            None => all.push(new),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told<'a>(all: &'a [NamespaceCondition], kind: &str) -> (&'a str, &'a str) {
        let found = all.iter().find(|it| it.type_ == kind).unwrap();
        (found.status.as_str(), found.message.as_deref().unwrap())
    }

    #[test]
    fn conditions_tell_what_remains_and_change_only_when_it_does() {
        let mut pass = Pass::default();
        pass.remaining.objects.insert("pods.".into(), 2);
        pass.remaining.finalizers.insert("a.b/c".into(), 1);
        let first = after(&[], &pass);
        assert_eq!(first.len(), 5);
        let remaining = told(&first, "NamespaceContentRemaining");
        assert_eq!(remaining, ("True", "Some resources are remaining: pods. has 2 resource instances"));
        let finalizers = told(&first, "NamespaceFinalizersRemaining");
        assert_eq!(
            finalizers.1,
            "Some content in the namespace has finalizers remaining: a.b/c in 1 resource instances"
        );
        assert_eq!(after(&first, &pass), first);
        let last = after(&first, &Pass::default());
        assert_eq!(told(&last, "NamespaceContentRemaining"), ("False", "All content successfully removed"));
    }
}
