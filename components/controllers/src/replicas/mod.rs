//! ReplicaSets and ReplicationControllers: keep as many pods of a template as asked (upstream: pkg/controller/replicaset, whose
//! engine is that of pkg/controller/replication, too).

mod kinds;
mod status;

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use tokio::task::JoinSet;

use self::kinds::Replicated;
use crate::core::context::OWNER;
use crate::core::expectations::Expectations;
use crate::core::informer::Informer;
use crate::core::spawn::{create_pods, observe};
use crate::core::{Ctx, Key, WorkQueue, claim, meta, pods};

/// The most pods created or deleted in one pass.
const BURST: usize = 500;

struct Controller<O: Replicated> {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
    expectations: Arc<Expectations>,
    owners: Arc<Informer<O>>,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    run(ctx, tasks, ctx.informers.replica_sets.clone());
    run(ctx, tasks, ctx.informers.replication_controllers.clone());
}

fn run<O: Replicated>(ctx: &Ctx, tasks: &mut JoinSet<()>, owners: Arc<Informer<O>>) {
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        queue: WorkQueue::new(),
        expectations: Arc::new(Expectations::default()),
        owners,
    });
    controller.watch_owners();
    controller.watch_pods();
    let (owners, pods, queue) = (controller.owners.clone(), ctx.informers.pods.clone(), controller.queue.clone());
    let ready = async move {
        owners.wait_synced().await;
        pods.wait_synced().await;
    };
    queue.work(tasks, O::CONTROLLER, 8, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

impl<O: Replicated> Controller<O> {
    fn watch_owners(&self) {
        let (queue, expectations) = (self.queue.clone(), self.expectations.clone());
        self.owners.on_change(move |old, new| {
            if let (Some(old), None) = (old, new) {
                expectations.forget(meta::uid(old.meta()));
            }
            if let Some(owner) = new.or(old) {
                queue.add(Key::of(owner.as_ref()));
            }
        });
    }

    fn watch_pods(&self) {
        let (queue, expectations, owners) = (self.queue.clone(), self.expectations.clone(), self.owners.clone());
        let kind = O::kind(&());
        self.ctx.informers.pods.on_change(move |old, new| {
            observe(&expectations, old, new, &kind);
            for pod in [old, new].into_iter().flatten() {
                match meta::controller_of(&pod.metadata) {
                    Some(owner) if owner.kind == kind => {
                        queue.add(Key::new(meta::namespace(&pod.metadata), &owner.name))
                    }
                    Some(_) => {}
                    // An orphan may be wanted by any owner whose selector matches.
                    None => owners
                        .in_namespace(meta::namespace(&pod.metadata))
                        .iter()
                        .filter(|owner| owner.selector().is_some_and(|it| meta::selects(&it, &pod.metadata)))
                        .for_each(|owner| queue.add(Key::of(owner.as_ref()))),
                }
            }
        });
    }

    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(owner) = self.owners.get_key(key) else { return Ok(()) };
        let set = owner.as_set();
        let uid = meta::uid(&set.metadata);
        let satisfied = self.expectations.satisfied(uid);
        let selector = owner.selector().context("selector does not parse")?;
        let informer = &self.ctx.informers.pods;
        let candidates = informer
            .by(OWNER, uid)
            .into_iter()
            .chain(informer.by(OWNER, &meta::orphan_index(&key.ns)))
            .filter(|pod| !pods::is_terminal(pod))
            .collect();
        let claimed = claim::claim(&self.ctx.client, owner.as_ref(), &selector, candidates, None).await?;
        let (active, terminating): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|pod| pods::is_active(pod));
        let outcome = if satisfied && set.metadata.deletion_timestamp.is_none() {
            self.manage(&owner, &set, &active).await
        } else {
            Ok(())
        };
        let failure = outcome.as_ref().err().map(|error| error.to_string());
        let (status, wait) = status::status(&set, &active, terminating.len(), failure, meta::now());
        self.write_status(&owner, &set, status).await?;
        if let Some(wait) = wait {
            self.queue.add_after(key.clone(), wait);
        }
        outcome
    }

    async fn manage(&self, owner: &Arc<O>, set: &ReplicaSet, active: &[Arc<Pod>]) -> anyhow::Result<()> {
        let wanted = set.spec.replicas.unwrap_or(1).max(0) as usize;
        if active.len() < wanted {
            return self.create(owner, set, (wanted - active.len()).min(BURST)).await;
        }
        if active.len() > wanted {
            let mut sorted = active.to_vec();
            pods::rank_for_deletion(&mut sorted, &self.related(set));
            sorted.truncate((active.len() - wanted).min(BURST));
            return self.delete(owner, sorted).await;
        }
        Ok(())
    }

    /// The pods of all sets of the same owner (a Deployment's old and new ones), which crowd nodes together.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let informers = &self.ctx.informers;
        match meta::controller_of(&set.metadata) {
            Some(owner) => informers
                .replica_sets
                .by(OWNER, &owner.uid)
                .iter()
                .flat_map(|set| informers.pods.by(OWNER, meta::uid(&set.metadata)))
                .collect(),
            None => informers.pods.by(OWNER, meta::uid(&set.metadata)),
        }
    }

    async fn create(&self, owner: &Arc<O>, set: &ReplicaSet, count: usize) -> anyhow::Result<()> {
        let generate = format!("{}-", meta::name(&set.metadata));
        let template = set.spec.template.clone().unwrap_or_default();
        let reference = meta::controller_ref(owner.as_ref());
        let pod = pods::from_template(&template, meta::namespace(&set.metadata), &generate, reference);
        let error = create_pods(&self.ctx, O::CONTROLLER, owner, &self.expectations, count, |_| pod.clone()).await;
        error.map_or(Ok(()), |error| Err(Failure::Create(error.to_string()).into()))
    }

    async fn delete(&self, owner: &Arc<O>, excess: Vec<Arc<Pod>>) -> anyhow::Result<()> {
        let (ns, uid) = (meta::namespace(owner.meta()), meta::uid(owner.meta()));
        let api = self.ctx.api::<Pod>(ns);
        excess.iter().for_each(|pod| self.expectations.expect_delete(uid, meta::uid(&pod.metadata)));
        let deletions = excess.iter().map(|pod| async {
            let name = meta::name(&pod.metadata);
            let result = api.delete(name, &meta::delete_exactly(&pod.metadata)).await;
            match &result {
                Ok(_) => {
                    let text = format!("Deleted pod: {name}");
                    self.ctx.events.normal(O::CONTROLLER, owner.as_ref(), "SuccessfulDelete", text);
                }
                Err(_) => self.expectations.deleted(uid, meta::uid(&pod.metadata)),
            }
            meta::ignore_gone(result)
        });
        let failed = futures::future::join_all(deletions).await.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(Failure::Delete(error.to_string()).into()))
    }

    async fn write_status(&self, owner: &Arc<O>, set: &ReplicaSet, status: ReplicaSetStatus) -> anyhow::Result<()> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let name = meta::name(&set.metadata);
        let api = self.ctx.api::<O>(meta::namespace(&set.metadata));
        match api.replace_status(name, &PostParams::default(), &owner.with_status(status)).await {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot write the status of {} {name}", O::kind(&())))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot create pods: {0}")]
    Create(String),
    #[error("cannot delete pods: {0}")]
    Delete(String),
}
