//! StatefulSet: pods with a stable name and claims of their own (upstream: pkg/controller/statefulset). `plan` decides; this
//! file reads and writes.

mod claims;
mod plan;

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};
use kube::api::PostParams;
use tokio::task::JoinSet;

use self::plan::{Action, Input};
use crate::core::context::OWNER;
use crate::core::{Ctx, Key, WorkQueue, claim, history, meta, pods};

const NAME: &str = "statefulset-controller";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

struct Controller {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers
        .stateful_sets
        .on_change(move |old, new| new.or(old).into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let (to, sets) = (queue.clone(), ctx.informers.stateful_sets.clone());
    ctx.informers.pods.on_change(move |old, new| {
        for pod in [old, new].into_iter().flatten() {
            let ns = meta::namespace(&pod.metadata);
            match meta::controller_of(&pod.metadata) {
                Some(owner) if owner.kind == "StatefulSet" => to.add(Key::new(ns, &owner.name)),
                Some(_) => {}
                None => sets
                    .in_namespace(ns)
                    .iter()
                    .filter(|it| plan::ordinal(meta::name(&it.metadata), meta::name(&pod.metadata)).is_some())
                    .for_each(|it| to.add(Key::of(it.as_ref()))),
            }
        }
    });
    let (to, sets) = (queue.clone(), ctx.informers.stateful_sets.clone());
    ctx.informers.claims.on_change(move |old, new| {
        // one that has come gets its owners, and one that has gone may be made anew
        let ((None, Some(claim)) | (Some(claim), None)) = (old, new) else { return };
        let sets = sets.in_namespace(meta::namespace(&claim.metadata));
        let of_claim = sets.iter().filter(|set| claims::may_be_of(&claim.metadata, set));
        of_claim.for_each(|it| to.add(Key::of(it.as_ref())));
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.stateful_sets.wait_synced().await;
        informers.pods.wait_synced().await;
        informers.revisions.wait_synced().await;
        informers.claims.wait_synced().await;
    };
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone() });
    queue.work(tasks, NAME, 8, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(set) = self.ctx.informers.stateful_sets.get_key(key) else { return Ok(()) };
        let spec = &set.spec;
        let selector = meta::selector(&spec.selector).context("selector does not parse")?;
        let owned = self.pods(&set, &selector).await?;
        if set.metadata.deletion_timestamp.is_some() {
            return self.tell_of_the_end(&set, &owned).await;
        }
        let collisions = set.status.as_ref().and_then(|it| it.collision_count);
        let (history, update) =
            history::sync(&self.ctx, set.as_ref(), &spec.selector, &spec.template, collisions).await?;
        let recorded = set.status.as_ref().and_then(|it| it.current_revision.as_deref());
        let current = history.iter().find(|it| it.metadata.name.as_deref() == recorded).unwrap_or(&update).clone();
        let (current_name, update_name) = (meta::name(&current.metadata), meta::name(&update.metadata));
        let plan =
            Input { set: &set, pods: &owned, current: current_name, update: update_name, now: meta::now() }.plan();
        // before any pod goes: what is to go with it has to be known by then
        for pod in &owned {
            claims::settle(&self.ctx, &set, pod).await?;
        }
        let mut outcome = Ok(());
        for action in &plan.actions {
            outcome = self.act(&set, &owned, action, &current, &update).await;
            if outcome.is_err() {
                break;
            }
        }
        self.write_status(&set, plan.status).await?;
        if let Some(wait) = plan.wait {
            self.queue.add_after(key.clone(), wait);
        }
        outcome?;
        let live = |it: &ControllerRevision| {
            let name = meta::name(&it.metadata);
            name == current_name
                || name == update_name
                || owned.iter().any(|pod| meta::label(&pod.metadata, history::REVISION_LABEL) == Some(name))
        };
        history::prune(&self.ctx, &key.ns, &history, live, spec.revision_history_limit).await
    }

    /// A set that is being deleted only says what is left. Its pods, claims and revisions are the garbage collector's: to take them
    /// away, or to set them free.
    async fn tell_of_the_end(&self, set: &StatefulSet, owned: &[Arc<Pod>]) -> anyhow::Result<()> {
        let Some(status) = &set.status else { return Ok(()) };
        let revision = |name: &Option<String>| name.clone().unwrap_or_default();
        let (current, update) = (revision(&status.current_revision), revision(&status.update_revision));
        let plan = Input { set, pods: owned, current: &current, update: &update, now: meta::now() }.plan();
        self.write_status(set, plan.status).await
    }

    async fn pods(&self, set: &StatefulSet, selector: &kube::core::Selector) -> anyhow::Result<Vec<Arc<Pod>>> {
        let informer = &self.ctx.informers.pods;
        let ns = meta::namespace(&set.metadata);
        // Only pods that bear the set's name can be its own.
        let candidates = informer
            .by(OWNER, meta::uid(&set.metadata))
            .into_iter()
            .chain(informer.by(OWNER, &meta::orphan_index(ns)))
            .filter(|pod| plan::ordinal(meta::name(&set.metadata), meta::name(&pod.metadata)).is_some())
            .collect();
        claim::claim(&self.ctx.client, set, selector, candidates, None).await
    }

    async fn act(
        &self,
        set: &Arc<StatefulSet>,
        owned: &[Arc<Pod>],
        action: &Action,
        current: &ControllerRevision,
        update: &ControllerRevision,
    ) -> anyhow::Result<()> {
        match action {
            Action::Create { ordinal, update: wanted } => {
                self.create(set, *ordinal, if *wanted { update } else { current }).await
            }
            Action::Delete { name, failed } => {
                let Some(pod) = owned.iter().find(|pod| meta::name(&pod.metadata) == name) else { return Ok(()) };
                let set_name = meta::name(&set.metadata);
                if *failed {
                    self.ctx.events.warning(
                        NAME,
                        set.as_ref(),
                        "RecreatingFailedPod",
                        format!("StatefulSet {set_name} is recreating failed Pod {name}"),
                    );
                }
                let api = self.ctx.api::<Pod>(meta::namespace(&set.metadata));
                meta::ignore_gone(api.delete(name, &meta::delete_exactly(&pod.metadata)).await)
                    .with_context(|| format!("cannot delete pod {name}"))?;
                self.ctx.events.normal(
                    NAME,
                    set.as_ref(),
                    "SuccessfulDelete",
                    format!("delete Pod {name} in StatefulSet {set_name} successful"),
                );
                Ok(())
            }
        }
    }

    async fn create(&self, set: &Arc<StatefulSet>, ordinal: i32, revision: &ControllerRevision) -> anyhow::Result<()> {
        let ns = meta::namespace(&set.metadata);
        let set_name = meta::name(&set.metadata);
        let template = history::template_of(revision)?;
        let (pod, claims) = new_pod(set, &template, ordinal, meta::name(&revision.metadata));
        let name = meta::name(&pod.metadata).to_owned();
        for claim in claims {
            self.ensure_claim(set, &claim, &name).await?;
        }
        match self.ctx.api::<Pod>(ns).create(&PostParams::default(), &pod).await {
            Ok(_) => {
                self.ctx.events.normal(
                    NAME,
                    set.as_ref(),
                    "SuccessfulCreate",
                    format!("create Pod {name} in StatefulSet {set_name} successful"),
                );
                Ok(())
            }
            Err(error) if meta::namespace_terminating(&error) => Ok(()),
            // Ours, not yet in the cache (its arrival wakes us), or another's: then only its end helps, which wakes us too.
            Err(error) if meta::already_exists(&error) => Ok(()),
            Err(error) => {
                self.ctx.events.warning(
                    NAME,
                    set.as_ref(),
                    "FailedCreate",
                    format!("create Pod {name} in StatefulSet {set_name} failed error: {error}"),
                );
                Err(error).with_context(|| format!("cannot create pod {name}"))
            }
        }
    }

    async fn ensure_claim(
        &self,
        set: &Arc<StatefulSet>,
        claim: &PersistentVolumeClaim,
        pod: &str,
    ) -> anyhow::Result<()> {
        let (ns, name) = (meta::namespace(&set.metadata), meta::name(&claim.metadata));
        if let Some(existing) = self.ctx.informers.claims.get(ns, name) {
            anyhow::ensure!(
                existing.metadata.deletion_timestamp.is_none(),
                "claim {name} of pod {pod} is being deleted; waiting for its end"
            );
            anyhow::ensure!(
                !claims::is_stale(&existing.metadata, pod),
                "claim {name} goes with an earlier pod {pod}; waiting for its end"
            );
            return Ok(());
        }
        // of a set that is gone the pod is collected, but a claim that the set did not come to own stays for ever
        claim::live_owner(&self.ctx.client, set.as_ref()).await?;
        match self.ctx.api::<PersistentVolumeClaim>(ns).create(&PostParams::default(), claim).await {
            Ok(_) => {
                let set_name = meta::name(&set.metadata);
                self.ctx.events.normal(
                    NAME,
                    set.as_ref(),
                    "SuccessfulCreate",
                    format!("create Claim {name} Pod {pod} in StatefulSet {set_name} success"),
                );
                Ok(())
            }
            Err(error) if meta::already_exists(&error) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot create claim {name} of pod {pod}")),
        }
    }

    async fn write_status(&self, set: &StatefulSet, status: StatefulSetStatus) -> anyhow::Result<()> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = set.clone();
        changed.status = Some(status);
        let name = meta::name(&set.metadata);
        match self
            .ctx
            .api::<StatefulSet>(meta::namespace(&set.metadata))
            .replace_status(name, &PostParams::default(), &changed)
            .await
        {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot write the status of StatefulSet {name}"))
            }
            _ => Ok(()),
        }
    }
}

/// The pod of one ordinal and the claims it needs.
fn new_pod(
    set: &StatefulSet,
    template: &k8s_openapi::api::core::v1::PodTemplateSpec,
    ordinal: i32,
    revision: &str,
) -> (Pod, Vec<PersistentVolumeClaim>) {
    let (ns, set_name) = (meta::namespace(&set.metadata), meta::name(&set.metadata));
    let name = format!("{set_name}-{ordinal}");
    let spec = set.spec.clone();
    let mut pod = pods::from_template(template, ns, "", meta::controller_ref(set));
    pod.metadata.generate_name = Some(format!("{set_name}-"));
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), name.clone());
    labels.insert(POD_INDEX.into(), ordinal.to_string());
    labels.insert(history::REVISION_LABEL.into(), revision.to_owned());
    let claims: Vec<_> = spec
        .volume_claim_templates
        .iter()
        .flatten()
        .map(|template| new_claim(template, &spec.selector, ns, &name))
        .collect();
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name.clone());
    pod_spec.subdomain = spec.service_name.filter(|it| !it.is_empty());
    let volumes = pod_spec.volumes.get_or_insert_default();
    for template in spec.volume_claim_templates.iter().flatten() {
        let volume = meta::name(&template.metadata).to_owned();
        volumes.retain(|it| it.name != volume);
        let source = PersistentVolumeClaimVolumeSource { claim_name: format!("{volume}-{name}"), read_only: None };
        volumes.push(Volume { name: volume, persistent_volume_claim: Some(source), ..Default::default() });
    }
    (pod, claims)
}

fn new_claim(
    template: &PersistentVolumeClaim,
    selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    ns: &str,
    pod: &str,
) -> PersistentVolumeClaim {
    let mut claim = template.clone();
    claim.metadata.name = Some(format!("{}-{pod}", meta::name(&template.metadata)));
    claim.metadata.namespace = Some(ns.to_owned());
    claim.metadata.labels.get_or_insert_default().extend(selector.match_labels.clone().unwrap_or_default());
    claim.status = None;
    claim
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pods_have_identity_and_claims() {
        let set: StatefulSet = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "db", "namespace": "ns", "uid": "u"},
            "spec": {"serviceName": "svc", "selector": {"matchLabels": {"app": "db"}}, "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]},
        }))
        .unwrap();
        let (pod, claims) = new_pod(&set, &set.spec.template, 2, "db-abc");
        assert_eq!(meta::label(&pod.metadata, POD_NAME), Some("db-2"));
        assert_eq!(meta::label(&pod.metadata, POD_INDEX), Some("2"));
        let spec = pod.spec.unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-2"), Some("svc")));
        assert_eq!(spec.volumes.unwrap()[0].persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-2");
        assert_eq!(claims[0].metadata.name.as_deref(), Some("data-db-2"));
        assert_eq!(meta::label(&claims[0].metadata, "app"), Some("db"));
    }
}
