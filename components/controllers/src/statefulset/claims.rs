//! Whose a pod's claims are: what `persistentVolumeClaimRetentionPolicy` says, as owner references that the garbage collector acts
//! on (KEP-1847; upstream: stateful_set_utils.go). Claims of pods that do not exist are left alone, whatever their names are.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::plan;
use crate::core::{Ctx, claim, meta};

/// Puts the owners of every claim of this pod right.
pub async fn settle(ctx: &Ctx, set: &StatefulSet, pod: &Pod) -> anyhow::Result<()> {
    let (ns, pod_name) = (meta::namespace(&set.metadata), meta::name(&pod.metadata));
    let api = ctx.api::<PersistentVolumeClaim>(ns);
    for template in set.spec.volume_claim_templates.iter().flatten() {
        let name = format!("{}-{pod_name}", meta::name(&template.metadata));
        let Some(claim) = ctx.informers.claims.get(ns, &name) else { continue };
        let Some(owners) = wanted(&claim.metadata, set, pod) else { continue };
        unchanged(ctx, set).await?;
        let patch = json!({"metadata": {"uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
            "ownerReferences": owners}});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(claim) => ctx.informers.claims.note(claim),
            Err(error) if meta::not_found(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot set the owners of claim {name}")),
        }
    }
    Ok(())
}

/// An owner that wants another policy by now gets nothing that would be deleted with it either.
async fn unchanged(ctx: &Ctx, set: &StatefulSet) -> anyhow::Result<()> {
    let live = claim::live_owner(&ctx.client, set).await?;
    let name = meta::name(&set.metadata);
    ensure!(
        live.generation == set.metadata.generation,
        "StatefulSet {name} has changed meanwhile; its claims wait for that"
    );
    Ok(())
}

/// Its name is that of a claim of one of the set's pods.
pub fn may_be_of(claim: &ObjectMeta, set: &StatefulSet) -> bool {
    let of = |template: &PersistentVolumeClaim| {
        let pod = meta::name(claim).strip_prefix(meta::name(&template.metadata))?.strip_prefix('-')?;
        plan::ordinal(meta::name(&set.metadata), pod)
    };
    set.spec.volume_claim_templates.iter().flatten().any(|template| of(template).is_some())
}

/// The claim is about to be collected together with an earlier pod of this name.
pub fn is_stale(claim: &ObjectMeta, pod: &str) -> bool {
    claim.owner_references.iter().flatten().any(|it| it.kind == "Pod" && it.name == pod)
}

/// All owners that the claim has to have; `None` where nothing is to be changed.
fn wanted(claim: &ObjectMeta, set: &StatefulSet, pod: &Pod) -> Option<Vec<OwnerReference>> {
    let owners = claim.owner_references.clone().unwrap_or_default();
    let (by_set, by_pod) = (meta::controller_ref(set), meta::controller_ref(pod));
    // one of an earlier set or pod of the same name goes with it
    let stale = |it: &OwnerReference, of: &OwnerReference| it.kind == of.kind && it.name == of.name && it.uid != of.uid;
    if claim.deletion_timestamp.is_some() || owners.iter().any(|it| stale(it, &by_set) || stale(it, &by_pod)) {
        return None;
    }
    let mut wanted: Vec<_> = owners.iter().filter(|it| it.uid != by_set.uid && it.uid != by_pod.uid).cloned().collect();
    // with somebody else's it is theirs to decide
    if !wanted.iter().any(|it| it.controller == Some(true)) {
        let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |when: Option<&String>| when.is_some_and(|it| it == "Delete");
        let when_scaled = deletes(policy.and_then(|it| it.when_scaled.as_ref()));
        let when_deleted = deletes(policy.and_then(|it| it.when_deleted.as_ref()));
        if when_scaled && is_condemned(set, pod) {
            wanted.push(by_pod);
        } else if when_deleted {
            wanted.push(by_set);
        }
    }
    (wanted != owners).then_some(wanted)
}

fn is_condemned(set: &StatefulSet, pod: &Pod) -> bool {
    let first = plan::first_ordinal(set);
    let wanted = first..first + plan::replicas(set).max(0);
    plan::ordinal(meta::name(&set.metadata), meta::name(&pod.metadata)).is_some_and(|it| !wanted.contains(&it))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(when_deleted: &str, when_scaled: &str) -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "db", "uid": "s"}, "spec": {"replicas": 1, "selector": {},
            "template": {}, "persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted, "whenScaled": when_scaled}}}))
        .unwrap()
    }

    fn pod(name: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}})).unwrap()
    }

    /// The uids of the owners that a claim gets that has these.
    fn owners(claim: &[OwnerReference], set: &StatefulSet, pod: &Pod) -> Option<Vec<String>> {
        let claim = ObjectMeta { owner_references: Some(claim.to_vec()), ..Default::default() };
        Some(wanted(&claim, set, pod)?.into_iter().map(|it| it.uid).collect())
    }

    #[test]
    fn the_policy_says_with_whom_a_claim_goes() {
        let (kept, condemned) = (pod("db-0"), pod("db-1"));
        let some = |uid: &str| Some(vec![uid.to_owned()]);
        for (when_deleted, when_scaled, of_kept, of_condemned) in [
            ("Retain", "Retain", None, None),
            ("Delete", "Retain", some("s"), some("s")),
            ("Retain", "Delete", None, some("db-1")),
            ("Delete", "Delete", some("s"), some("db-1")),
        ] {
            let set = set(when_deleted, when_scaled);
            assert_eq!(owners(&[], &set, &kept), of_kept, "{when_deleted} {when_scaled}");
            assert_eq!(owners(&[], &set, &condemned), of_condemned, "{when_deleted} {when_scaled}");
        }
    }

    #[test]
    fn a_claims_name_says_whose_it_may_be() {
        let mut set = set("Retain", "Retain");
        let template = |name: &str| serde_json::from_value(json!({"metadata": {"name": name}, "spec": {}})).unwrap();
        set.spec.volume_claim_templates = Some(vec![template("data"), template("data-db")]);
        for (name, expected) in [
            ("data-db-0", true),
            ("data-db-db-12", true),
            ("data-dbs-0", false),
            ("data-db-x", false),
            ("log-db-0", false),
        ] {
            let claim = ObjectMeta { name: Some(name.into()), ..Default::default() };
            assert_eq!(may_be_of(&claim, &set), expected, "{name}");
        }
    }

    #[test]
    fn what_the_policy_no_longer_says_is_taken_back() {
        let pod = pod("db-0");
        let by_set = meta::controller_ref(&set("Delete", "Retain"));
        assert_eq!(owners(std::slice::from_ref(&by_set), &set("Retain", "Retain"), &pod), Some(vec![]));
        assert_eq!(owners(std::slice::from_ref(&by_set), &set("Delete", "Retain"), &pod), None);
        // scaled up again
        assert_eq!(owners(&[meta::controller_ref(&pod)], &set("Retain", "Delete"), &pod), Some(vec![]));
    }

    #[test]
    fn others_owners_stay_and_earlier_ones_are_waited_for() {
        let (set, pod) = (set("Delete", "Retain"), pod("db-0"));
        let mut other = OwnerReference { kind: "Backup".into(), uid: "b".into(), ..Default::default() };
        assert_eq!(owners(&[other.clone()], &set, &pod), Some(vec!["b".into(), "s".into()]));
        other.controller = Some(true);
        assert_eq!(owners(&[other], &set, &pod), None);
        let earlier = OwnerReference { uid: "earlier".into(), ..meta::controller_ref(&pod) };
        assert_eq!(owners(std::slice::from_ref(&earlier), &set, &pod), None);
        let claim = ObjectMeta { owner_references: Some(vec![earlier]), ..Default::default() };
        assert!(is_stale(&claim, "db-0") && !is_stale(&claim, "db-1"));
    }
}
