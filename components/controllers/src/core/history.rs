//! ControllerRevisions: the history of pod templates that StatefulSets and DaemonSets keep, so that a rollout can be told
//! apart, undone and paused half-way.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::context::{Ctx, OWNER};
use super::informer::Object;
use super::{claim, hash, meta};

pub const REVISION_LABEL: &str = "controller-revision-hash";

/// The patch that restores this template, as upstream stores it.
pub fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or(Value::Null);
    if let Value::Object(map) = &mut template {
        map.insert("$patch".into(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

/// The template a revision holds.
pub fn template_of(revision: &ControllerRevision) -> anyhow::Result<PodTemplateSpec> {
    let mut template = revision.data.0.pointer("/spec/template").cloned().unwrap_or(Value::Null);
    if let Value::Object(map) = &mut template {
        map.remove("$patch");
    }
    serde_json::from_value(template)
        .with_context(|| format!("controller revision {} holds no pod template", meta::name(&revision.metadata)))
}

pub fn hash_label(revision: &ControllerRevision) -> &str {
    meta::label(&revision.metadata, REVISION_LABEL).unwrap_or_default()
}

pub enum Choice {
    /// This one already says what is wanted.
    Use(Arc<ControllerRevision>),
    /// An older one says what is wanted: it becomes the newest again.
    Renumber(Arc<ControllerRevision>, i64),
    Create(i64),
}

/// Chooses the revision for `data` out of the history.
pub fn choose(history: &[Arc<ControllerRevision>], data: &Value) -> Choice {
    let newest = history.iter().map(|it| it.revision.unwrap_or(0)).max().unwrap_or(0);
    let equal = history.iter().filter(|it| it.data.0 == *data).max_by_key(|it| it.revision);
    match equal {
        Some(revision) if revision.revision == Some(newest) => Choice::Use(revision.clone()),
        Some(revision) => Choice::Renumber(revision.clone(), newest + 1),
        None => Choice::Create(newest + 1),
    }
}

/// The owner's history, adopting orphans, and the revision of its present template.
pub async fn sync<O>(
    ctx: &Ctx,
    owner: &O,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
) -> anyhow::Result<(Vec<Arc<ControllerRevision>>, Arc<ControllerRevision>)>
where
    O: Object + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let ns = meta::namespace(owner.meta());
    let candidates = ctx
        .informers
        .revisions
        .by(OWNER, meta::uid(owner.meta()))
        .into_iter()
        .chain(ctx.informers.revisions.by(OWNER, &meta::orphan_index(ns)))
        .collect();
    let parsed = meta::selector(selector).context("selector does not parse")?;
    let mut history = claim::claim(&ctx.client, owner, &parsed, candidates, None).await?;
    let data = data_of(template);
    let api = Api::<ControllerRevision>::namespaced(ctx.client.clone(), ns);
    let wanted = match choose(&history, &data) {
        Choice::Use(revision) => revision,
        Choice::Renumber(revision, number) => {
            let patch =
                json!({"metadata": {"resourceVersion": revision.metadata.resource_version}, "revision": number});
            let name = meta::name(&revision.metadata);
            Arc::new(
                api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await
                    .with_context(|| format!("cannot renumber controller revision {name}"))?,
            )
        }
        Choice::Create(number) => Arc::new(create(&api, owner, selector, template, data, number, collisions).await?),
    };
    history.retain(|it| it.metadata.uid != wanted.metadata.uid);
    history.push(wanted.clone());
    history.sort_by_key(|it| it.revision);
    Ok((history, wanted))
}

async fn create<O: Object>(
    api: &Api<ControllerRevision>,
    owner: &O,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    data: Value,
    number: i64,
    mut collisions: Option<i32>,
) -> anyhow::Result<ControllerRevision> {
    let ns = meta::namespace(owner.meta());
    loop {
        let hash = hash::short_hash(template, collisions);
        let name = format!("{}-{hash}", meta::name(owner.meta()));
        let mut labels = template.metadata.as_ref().and_then(|it| it.labels.clone()).unwrap_or_default();
        labels.extend(selector.match_labels.clone().unwrap_or_default());
        labels.insert(REVISION_LABEL.into(), hash);
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                namespace: Some(ns.to_owned()),
                name: Some(name.clone()),
                labels: Some(labels),
                owner_references: Some(vec![meta::controller_ref(owner)]),
                ..Default::default()
            },
            data: RawExtension(data.clone()),
            revision: Some(number),
        };
        match api.create(&PostParams::default(), &revision).await {
            Ok(revision) => return Ok(revision),
            Err(error) if meta::already_exists(&error) => {
                let live = api.get(&name).await.with_context(|| format!("cannot read controller revision {name}"))?;
                if live.data.0 == data && meta::is_controlled_by(&live.metadata, meta::uid(owner.meta())) {
                    return Ok(live);
                }
                collisions = Some(collisions.unwrap_or(0) + 1);
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create controller revision {name}")),
        }
    }
}

/// Deletes the oldest revisions that are neither live nor within the limit.
pub async fn prune(
    ctx: &Ctx,
    ns: &str,
    history: &[Arc<ControllerRevision>],
    live: impl Fn(&ControllerRevision) -> bool,
    limit: Option<i32>,
) -> anyhow::Result<()> {
    let idle: Vec<_> = history.iter().filter(|it| !live(it)).collect();
    let excess = idle.len().saturating_sub(limit.unwrap_or(10).max(0) as usize);
    let api = Api::<ControllerRevision>::namespaced(ctx.client.clone(), ns);
    for revision in idle.into_iter().take(excess) {
        let name = meta::name(&revision.metadata);
        meta::ignore_gone(api.delete(name, &meta::delete_exactly(&revision.metadata)).await)
            .with_context(|| format!("cannot delete controller revision {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn revision(number: i64, image: &str) -> Arc<ControllerRevision> {
        Arc::new(ControllerRevision {
            data: RawExtension(data_of(&template(image))),
            revision: Some(number),
            ..Default::default()
        })
    }

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}})).unwrap()
    }

    #[test]
    fn a_rollback_reuses_the_old_revision_with_a_new_number() {
        let history = [revision(1, "a"), revision(2, "b")];
        assert!(matches!(choose(&history, &data_of(&template("b"))), Choice::Use(it) if it.revision == Some(2)));
        assert!(
            matches!(choose(&history, &data_of(&template("a"))), Choice::Renumber(it, 3) if it.revision == Some(1))
        );
        assert!(matches!(choose(&history, &data_of(&template("c"))), Choice::Create(3)));
        assert_eq!(template_of(&history[0]).unwrap(), template("a"));
    }
}
