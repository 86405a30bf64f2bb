//! Deployment: rolls ReplicaSets over (upstream: pkg/controller/deployment). `rules` holds the sizes, `status` the
//! conditions; this file reads, decides the order, and writes.

mod rules;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinSet;

use self::rules::{DESIRED, HASH_LABEL, MAX, REVISION};
use self::status::Progress;
use crate::core::context::OWNER;
use crate::core::{Ctx, Key, WorkQueue, claim, hash, meta, pods};

const NAME: &str = "deployment-controller";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotations of the Deployment that describe it alone and are not copied to its sets.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

struct Controller {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    register(ctx, &queue);
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.deployments.wait_synced().await;
        informers.replica_sets.wait_synced().await;
        informers.pods.wait_synced().await;
    };
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone() });
    queue.work(tasks, NAME, 8, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

fn register(ctx: &Ctx, queue: &Arc<WorkQueue>) {
    let to = queue.clone();
    ctx.informers
        .deployments
        .on_change(move |old, new| new.or(old).into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let (to, deployments) = (queue.clone(), ctx.informers.deployments.clone());
    ctx.informers.replica_sets.on_change(move |old, new| {
        for set in [old, new].into_iter().flatten() {
            let ns = meta::namespace(&set.metadata);
            match meta::controller_of(&set.metadata) {
                Some(owner) if owner.kind == "Deployment" => to.add(Key::new(ns, &owner.name)),
                Some(_) => {}
                None => deployments
                    .in_namespace(ns)
                    .iter()
                    .filter(|it| selects(it, &set.metadata))
                    .for_each(|it| to.add(Key::of(it.as_ref()))),
            }
        }
    });
    // Recreate waits for the last old pod to be gone.
    let (to, sets) = (queue.clone(), ctx.informers.replica_sets.clone());
    ctx.informers.pods.on_change(move |old, new| {
        let (Some(pod), true) = (old, new.is_none_or(|pod| pods::is_terminal(pod))) else { return };
        let owner = meta::controller_of(&pod.metadata).filter(|it| it.kind == "ReplicaSet");
        let set = owner.and_then(|it| sets.get(meta::namespace(&pod.metadata), &it.name));
        if let Some(owner) =
            set.as_ref().and_then(|it| meta::controller_of(&it.metadata)).filter(|it| it.kind == "Deployment")
        {
            to.add(Key::new(meta::namespace(&pod.metadata), &owner.name));
        }
    });
}

fn selects(deployment: &Deployment, object: &ObjectMeta) -> bool {
    meta::selector(&deployment.spec.selector).is_some_and(|it| meta::selects(&it, object))
}

/// One pass' view: the set of the present template, and all others.
struct View {
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
    progress: Option<Progress>,
    /// The Deployment's version after our own writes in this pass.
    resource_version: Option<String>,
}

impl View {
    fn all(&self) -> Vec<Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new).cloned().collect()
    }
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(deployment) = self.ctx.informers.deployments.get_key(key) else { return Ok(()) };
        let spec = &deployment.spec;
        let selector = meta::selector(&spec.selector).context("selector does not parse")?;
        anyhow::ensure!(!selector.selects_all(), "deployment {key} selects all pods; a non-empty selector is required");
        let sets = &self.ctx.informers.replica_sets;
        let candidates = sets
            .by(OWNER, meta::uid(&deployment.metadata))
            .into_iter()
            .chain(sets.by(OWNER, &meta::orphan_index(&key.ns)))
            .collect();
        let sets = claim::claim(&self.ctx.client, deployment.as_ref(), &selector, candidates, None).await?;
        let new = rules::find_new(&deployment, &sets);
        let old = sets
            .iter()
            .filter(|set| new.as_ref().is_none_or(|new| new.metadata.uid != set.metadata.uid))
            .cloned()
            .collect();
        let mut view = View {
            new,
            old,
            progress: status::pause_change(&deployment),
            resource_version: deployment.metadata.resource_version.clone(),
        };
        if deployment.metadata.deletion_timestamp.is_some() {
            return self.write_status(key, &deployment, view).await;
        }
        if rules::is_paused(&deployment) || rules::is_scaling(&deployment, &view.all()) {
            self.refresh(&deployment, &mut view).await?;
            for (set, to) in rules::rescale(&deployment, view.new.as_ref(), &view.old) {
                self.scale(&deployment, &set, to, &mut view).await?;
            }
            if rules::is_paused(&deployment) {
                self.clean(&deployment, &view).await?;
            }
        } else if rules::is_recreate(&deployment) {
            self.recreate(&deployment, &mut view).await?;
        } else {
            self.roll(&deployment, &mut view).await?;
        }
        self.write_status(key, &deployment, view).await
    }

    async fn roll(&self, deployment: &Arc<Deployment>, view: &mut View) -> anyhow::Result<()> {
        let new = self.ensure_new(deployment, view).await?;
        let to = rules::new_size(deployment, rules::size(&new), rules::sum(&view.all(), rules::size));
        if self.scale(deployment, &new, to, view).await? {
            return Ok(());
        }
        let shrinking = rules::shrink_old(deployment, &new, &view.old);
        let shrunk = !shrinking.is_empty();
        for (set, to) in shrinking {
            self.scale(deployment, &set, to, view).await?;
        }
        if shrunk { Ok(()) } else { self.clean_if_complete(deployment, view).await }
    }

    async fn recreate(&self, deployment: &Arc<Deployment>, view: &mut View) -> anyhow::Result<()> {
        self.refresh(deployment, view).await?;
        let running = rules::active(&view.old);
        for set in &running {
            self.scale(deployment, set, 0, view).await?;
        }
        if !running.is_empty() || self.old_pods_exist(&view.old) {
            return Ok(());
        }
        let new = self.ensure_new(deployment, view).await?;
        if self.scale(deployment, &new, rules::replicas(deployment), view).await? {
            return Ok(());
        }
        self.clean_if_complete(deployment, view).await
    }

    fn old_pods_exist(&self, old: &[Arc<ReplicaSet>]) -> bool {
        rules::sum(old, rules::actual) > 0
            || old.iter().any(|set| {
                self.ctx.informers.pods.by(OWNER, meta::uid(&set.metadata)).iter().any(|pod| !pods::is_terminal(pod))
            })
    }

    /// Brings an existing new set's annotations up to date, without making one.
    async fn refresh(&self, deployment: &Arc<Deployment>, view: &mut View) -> anyhow::Result<()> {
        if view.new.is_some() { self.ensure_new(deployment, view).await.map(drop) } else { Ok(()) }
    }

    /// The set of the present template, made if it is missing, with its revision.
    async fn ensure_new(&self, deployment: &Arc<Deployment>, view: &mut View) -> anyhow::Result<Arc<ReplicaSet>> {
        let revision = view.old.iter().map(|set| rules::revision(&set.metadata)).max().unwrap_or(0) + 1;
        let new = match view.new.clone() {
            Some(existing) => {
                let has_condition = deployment
                    .status
                    .iter()
                    .flat_map(|it| it.conditions.iter().flatten())
                    .any(|it| it.type_.as_deref() == Some("Progressing"));
                if !has_condition && view.progress.is_none() {
                    view.progress = Some(Progress::Found(meta::name(&existing.metadata).to_owned()));
                }
                self.renew(deployment, existing, revision).await?
            }
            None => {
                let created = self.create(deployment, revision, &view.old).await?;
                view.progress = Some(Progress::Created(meta::name(&created.metadata).to_owned()));
                created
            }
        };
        view.new = Some(new.clone());
        if let Some(version) = self.write_revision(deployment, rules::revision(&new.metadata)).await? {
            view.resource_version = Some(version);
        }
        Ok(new)
    }

    async fn renew(
        &self,
        deployment: &Deployment,
        existing: Arc<ReplicaSet>,
        revision: i64,
    ) -> anyhow::Result<Arc<ReplicaSet>> {
        let mut changed = existing.as_ref().clone();
        set_annotations(deployment, &mut changed.metadata, revision);
        let before = changed.spec.min_ready_seconds;
        changed.spec.min_ready_seconds = deployment.spec.min_ready_seconds.or(before.map(|_| 0));
        if changed == *existing {
            return Ok(existing);
        }
        self.replace(&changed).await
    }

    async fn replace(&self, set: &ReplicaSet) -> anyhow::Result<Arc<ReplicaSet>> {
        let name = meta::name(&set.metadata);
        let api = self.ctx.api::<ReplicaSet>(meta::namespace(&set.metadata));
        api.replace(name, &PostParams::default(), set)
            .await
            .map(Arc::new)
            .with_context(|| format!("cannot update ReplicaSet {name}"))
    }

    async fn create(
        &self,
        deployment: &Arc<Deployment>,
        revision: i64,
        old: &[Arc<ReplicaSet>],
    ) -> anyhow::Result<Arc<ReplicaSet>> {
        let size = rules::new_size(deployment, 0, rules::sum(old, rules::size));
        let set = new_set(deployment, revision, size);
        let name = meta::name(&set.metadata).to_owned();
        let api = self.ctx.api::<ReplicaSet>(meta::namespace(&deployment.metadata));
        match api.create(&PostParams::default(), &set).await {
            Ok(created) => {
                if size > 0 {
                    self.ctx.events.normal(
                        NAME,
                        deployment.as_ref(),
                        "ScalingReplicaSet",
                        format!("Scaled up replica set {name} from 0 to {size}"),
                    );
                }
                Ok(Arc::new(created))
            }
            Err(error) if meta::already_exists(&error) => self.existing_or_collision(deployment, &name).await,
            Err(error) => {
                if !meta::namespace_terminating(&error) {
                    self.ctx.events.warning(
                        NAME,
                        deployment.as_ref(),
                        "ReplicaSetCreateError",
                        format!("Failed to create new replica set \"{name}\": {error}"),
                    );
                }
                Err(error).with_context(|| format!("cannot create ReplicaSet {name}"))
            }
        }
    }

    /// The name is taken: by our own earlier create that the cache has not shown yet, or by a hash collision.
    async fn existing_or_collision(&self, deployment: &Deployment, name: &str) -> anyhow::Result<Arc<ReplicaSet>> {
        let ns = meta::namespace(&deployment.metadata);
        let live = Arc::new(
            self.ctx.api::<ReplicaSet>(ns).get(name).await.with_context(|| format!("cannot read ReplicaSet {name}"))?,
        );
        let ours = meta::is_controlled_by(&live.metadata, meta::uid(&deployment.metadata));
        if ours && rules::find_new(deployment, std::slice::from_ref(&live)).is_some() {
            return Ok(live);
        }
        let mut changed = deployment.clone();
        let status = changed.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        let own = meta::name(&deployment.metadata);
        self.ctx
            .api::<Deployment>(ns)
            .replace_status(own, &PostParams::default(), &changed)
            .await
            .with_context(|| format!("cannot count the name collision of Deployment {own}"))?;
        anyhow::bail!("the name {name} is taken by another ReplicaSet; trying another")
    }

    async fn write_revision(&self, deployment: &Deployment, revision: i64) -> anyhow::Result<Option<String>> {
        if rules::revision(&deployment.metadata) == revision {
            return Ok(None);
        }
        let name = meta::name(&deployment.metadata);
        let patch =
            json!({"metadata": {"uid": deployment.metadata.uid, "annotations": {(REVISION): revision.to_string()}}});
        let api = self.ctx.api::<Deployment>(meta::namespace(&deployment.metadata));
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map(|it| it.metadata.resource_version)
            .with_context(|| format!("cannot write the revision of Deployment {name}"))
    }

    /// Sizes one set; true if its size changed. The view sees the result.
    async fn scale(
        &self,
        deployment: &Arc<Deployment>,
        set: &Arc<ReplicaSet>,
        to: i32,
        view: &mut View,
    ) -> anyhow::Result<bool> {
        let from = rules::size(set);
        let mut changed = set.as_ref().clone();
        let annotations = changed.metadata.annotations.get_or_insert_default();
        annotations.insert(DESIRED.into(), rules::replicas(deployment).to_string());
        annotations.insert(MAX.into(), (rules::replicas(deployment) + rules::max_surge(deployment)).to_string());
        changed.spec.replicas = Some(to);
        if from == to && changed.metadata.annotations == set.metadata.annotations {
            return Ok(false);
        }
        let result = self.replace(&changed).await?;
        if from != to {
            let direction = if to > from { "up" } else { "down" };
            let name = meta::name(&set.metadata);
            self.ctx.events.normal(
                NAME,
                deployment.as_ref(),
                "ScalingReplicaSet",
                format!("Scaled {direction} replica set {name} from {from} to {to}"),
            );
        }
        for it in view.old.iter_mut().chain(view.new.as_mut()).filter(|it| it.metadata.uid == set.metadata.uid) {
            *it = result.clone();
        }
        Ok(from != to)
    }

    async fn clean_if_complete(&self, deployment: &Deployment, view: &View) -> anyhow::Result<()> {
        let done = deployment.status.as_ref().is_some_and(|it| status::complete(deployment, it));
        if done { self.clean(deployment, view).await } else { Ok(()) }
    }

    async fn clean(&self, deployment: &Deployment, view: &View) -> anyhow::Result<()> {
        let api = self.ctx.api::<ReplicaSet>(meta::namespace(&deployment.metadata));
        for set in rules::superfluous(deployment, &view.old) {
            let name = meta::name(&set.metadata);
            meta::ignore_gone(api.delete(name, &meta::delete_exactly(&set.metadata)).await)
                .with_context(|| format!("cannot delete old ReplicaSet {name}"))?;
        }
        Ok(())
    }

    async fn write_status(&self, key: &Key, deployment: &Deployment, view: View) -> anyhow::Result<()> {
        let sets = view.all();
        let status = status::compute(deployment, &sets, view.new.as_ref(), view.progress, meta::now());
        if let Some(wait) = status::recheck(deployment, &status, meta::now()) {
            self.queue.add_after(key.clone(), wait);
        }
        if deployment.status.as_ref().unwrap_or(&DeploymentStatus::default()) == &status {
            return Ok(());
        }
        // The version guards conditions that others wrote meanwhile: a lost race is retried with what they wrote.
        let mut body = serde_json::to_value(&status).context("cannot encode a Deployment's status")?;
        if let Some(map) = body.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
        let patch = json!({"metadata": {"uid": deployment.metadata.uid, "resourceVersion": view.resource_version}, "status": body});
        let name = meta::name(&deployment.metadata);
        let api = self.ctx.api::<Deployment>(&key.ns);
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot write the status of Deployment {name}"))
            }
            _ => Ok(()),
        }
    }
}

/// The ReplicaSet of the Deployment's present template.
fn new_set(deployment: &Deployment, revision: i64, size: i32) -> ReplicaSet {
    let spec = &deployment.spec;
    let hash = hash::short_hash(&spec.template, deployment.status.as_ref().and_then(|status| status.collision_count));
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let mut metadata = ObjectMeta {
        name: Some(format!("{}-{hash}", meta::name(&deployment.metadata))),
        namespace: deployment.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![meta::controller_ref(deployment)]),
        ..Default::default()
    };
    set_annotations(deployment, &mut metadata, revision);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.into(), rules::replicas(deployment).to_string());
    annotations.insert(MAX.into(), (rules::replicas(deployment) + rules::max_surge(deployment)).to_string());
    let spec = ReplicaSetSpec {
        replicas: Some(size),
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    };
    ReplicaSet { metadata, spec, status: None }
}

/// Copies the Deployment's annotations and raises the revision; the one it had goes into the history.
fn set_annotations(deployment: &Deployment, set: &mut ObjectMeta, revision: i64) {
    let had = rules::revision(set);
    let mut annotations: BTreeMap<String, String> = set.annotations.clone().unwrap_or_default();
    for (key, value) in
        deployment.metadata.annotations.iter().flatten().filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
    {
        annotations.insert(key.clone(), value.clone());
    }
    if revision > had {
        annotations.insert(REVISION.into(), revision.to_string());
        if had > 0 {
            let history = annotations.entry(HISTORY.into()).or_default();
            if !history.split(',').any(|it| it == had.to_string()) {
                *history = [history.as_str(), &had.to_string()]
                    .iter()
                    .filter(|it| !it.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join(",");
            }
        }
    }
    set.annotations = Some(annotations).filter(|it| !it.is_empty());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn deployment() -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "u", "annotations": {"a": "b", (REVISION): "7"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
        }))
        .unwrap()
    }

    #[test]
    fn a_new_set_is_found_again_by_its_template() {
        let deployment = deployment();
        let set = new_set(&deployment, 1, 3);
        let hash = meta::label(&set.metadata, HASH_LABEL).unwrap().to_owned();
        assert_eq!(set.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
        assert_eq!(meta::annotation(&set.metadata, REVISION), Some("1"));
        assert_eq!(meta::annotation(&set.metadata, MAX), Some("4"));
        assert_eq!(meta::annotation(&set.metadata, "a"), Some("b"));
        assert!(rules::find_new(&deployment, &[Arc::new(set)]).is_some());
    }

    #[test]
    fn a_reused_set_gets_a_new_revision_and_remembers_the_old() {
        let mut set = new_set(&deployment(), 2, 3);
        set_annotations(&deployment(), &mut set.metadata, 5);
        assert_eq!(meta::annotation(&set.metadata, REVISION), Some("5"));
        assert_eq!(meta::annotation(&set.metadata, HISTORY), Some("2"));
    }
}
