//! ReplicaSet: keeps as many pods of a template as asked (upstream: pkg/controller/replicaset).

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use tokio::task::JoinSet;

use crate::core::context::OWNER;
use crate::core::expectations::Expectations;
use crate::core::pods::{self, Availability};
use crate::core::slow_start::slow_start;
use crate::core::{Ctx, Key, WorkQueue, claim, meta};

const NAME: &str = "replicaset-controller";
/// The most pods created or deleted in one pass.
const BURST: usize = 500;

struct Controller {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
    expectations: Arc<Expectations>,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let expectations = Arc::new(Expectations::default());
    let informers = ctx.informers.clone();
    watch_sets(ctx, &queue, &expectations);
    watch_pods(ctx, &queue, &expectations);
    let ready = async move {
        informers.replica_sets.wait_synced().await;
        informers.pods.wait_synced().await;
    };
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone(), expectations });
    queue.work(tasks, NAME, 8, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

fn watch_sets(ctx: &Ctx, queue: &Arc<WorkQueue>, expectations: &Arc<Expectations>) {
    let (queue, expectations) = (queue.clone(), expectations.clone());
    ctx.informers.replica_sets.on_change(move |old, new| {
        if let (Some(old), None) = (old, new) {
            expectations.forget(meta::uid(&old.metadata));
        }
        if let Some(set) = new.or(old) {
            queue.add(Key::of(set.as_ref()));
        }
    });
}

fn watch_pods(ctx: &Ctx, queue: &Arc<WorkQueue>, expectations: &Arc<Expectations>) {
    let (queue, expectations) = (queue.clone(), expectations.clone());
    let sets = ctx.informers.replica_sets.clone();
    ctx.informers.pods.on_change(move |old, new| {
        observe(&expectations, old, new, "ReplicaSet");
        for pod in [old, new].into_iter().flatten() {
            match meta::controller_of(&pod.metadata) {
                Some(owner) if owner.kind == "ReplicaSet" => {
                    queue.add(Key::new(meta::namespace(&pod.metadata), &owner.name))
                }
                Some(_) => {}
                // An orphan may be wanted by any set whose selector matches.
                None => sets
                    .in_namespace(meta::namespace(&pod.metadata))
                    .iter()
                    .filter(|set| {
                        meta::selector(&set.spec.selector.clone()).is_some_and(|it| meta::selects(&it, &pod.metadata))
                    })
                    .for_each(|set| queue.add(Key::of(set.as_ref()))),
            }
        }
    });
}

/// Feeds pod changes into the expectations of controllers of kind `kind`.
pub fn observe(expectations: &Expectations, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>, kind: &str) {
    let Some(pod) = new.or(old) else { return };
    let Some(owner) = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == kind) else { return };
    if old.is_none() {
        expectations.created(&owner.uid);
    }
    if new.is_none_or(|pod| pods::is_terminating(pod)) {
        expectations.deleted(&owner.uid, meta::uid(&pod.metadata));
    }
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(set) = self.ctx.informers.replica_sets.get_key(key) else { return Ok(()) };
        let spec = &set.spec;
        let uid = meta::uid(&set.metadata);
        let satisfied = self.expectations.satisfied(uid);
        let selector = meta::selector(&spec.selector).context("selector does not parse")?;
        let informer = &self.ctx.informers.pods;
        let candidates = informer
            .by(OWNER, uid)
            .into_iter()
            .chain(informer.by(OWNER, &meta::orphan_index(&key.ns)))
            .filter(|pod| !pods::is_terminal(pod))
            .collect();
        let claimed = claim::claim(&self.ctx.client, set.as_ref(), &selector, candidates, None).await?;
        let (active, terminating): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|pod| pods::is_active(pod));
        let outcome = if satisfied && set.metadata.deletion_timestamp.is_none() {
            self.manage(&set, &active).await
        } else {
            Ok(())
        };
        let (status, wait) = status(
            &set,
            &active,
            terminating.len(),
            outcome.as_ref().err().map(|error| error.to_string()),
            meta::now(),
        );
        self.write_status(&set, status).await?;
        if let Some(wait) = wait {
            self.queue.add_after(key.clone(), wait);
        }
        outcome
    }

    async fn manage(&self, set: &Arc<ReplicaSet>, active: &[Arc<Pod>]) -> anyhow::Result<()> {
        let wanted = set.spec.replicas.unwrap_or(1).max(0) as usize;
        if active.len() < wanted {
            return self.create(set, (wanted - active.len()).min(BURST)).await;
        }
        if active.len() > wanted {
            let mut sorted = active.to_vec();
            pods::rank_for_deletion(&mut sorted, &self.related(set));
            sorted.truncate((active.len() - wanted).min(BURST));
            return self.delete(set, sorted).await;
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

    async fn create(&self, set: &Arc<ReplicaSet>, count: usize) -> anyhow::Result<()> {
        let (ns, name, uid) = (meta::namespace(&set.metadata), meta::name(&set.metadata), meta::uid(&set.metadata));
        let template = set.spec.template.clone().unwrap_or_default();
        let pod = pods::from_template(&template, ns, &format!("{name}-"), meta::controller_ref(set.as_ref()));
        let api = self.ctx.api::<Pod>(ns);
        self.expectations.expect_creates(uid, count);
        let (skipped, error) = slow_start(count, |_| async {
            match api.create(&PostParams::default(), &pod).await {
                Ok(pod) => {
                    self.ctx.events.normal(
                        NAME,
                        set.as_ref(),
                        "SuccessfulCreate",
                        format!("Created pod: {}", meta::name(&pod.metadata)),
                    );
                    Ok(())
                }
                Err(error) => {
                    self.expectations.created(uid);
                    if meta::namespace_terminating(&error) {
                        return Ok(());
                    }
                    self.ctx.events.warning(NAME, set.as_ref(), "FailedCreate", format!("Error creating: {error}"));
                    Err(error)
                }
            }
        })
        .await;
        (0..skipped).for_each(|_| self.expectations.created(uid));
        error.map_or(Ok(()), |error| Err(Failure::Create(error.to_string()).into()))
    }

    async fn delete(&self, set: &Arc<ReplicaSet>, excess: Vec<Arc<Pod>>) -> anyhow::Result<()> {
        let (ns, uid) = (meta::namespace(&set.metadata), meta::uid(&set.metadata));
        let api = self.ctx.api::<Pod>(ns);
        excess.iter().for_each(|pod| self.expectations.expect_delete(uid, meta::uid(&pod.metadata)));
        let deletions = excess.iter().map(|pod| async {
            let name = meta::name(&pod.metadata);
            let result = api.delete(name, &meta::delete_exactly(&pod.metadata)).await;
            match &result {
                Ok(_) => self.ctx.events.normal(NAME, set.as_ref(), "SuccessfulDelete", format!("Deleted pod: {name}")),
                Err(_) => self.expectations.deleted(uid, meta::uid(&pod.metadata)),
            }
            meta::ignore_gone(result)
        });
        let failed = futures::future::join_all(deletions).await.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(Failure::Delete(error.to_string()).into()))
    }

    async fn write_status(&self, set: &ReplicaSet, status: ReplicaSetStatus) -> anyhow::Result<()> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = set.clone();
        changed.status = Some(status);
        let name = meta::name(&set.metadata);
        let api = self.ctx.api::<ReplicaSet>(meta::namespace(&set.metadata));
        match api.replace_status(name, &PostParams::default(), &changed).await {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot write the status of ReplicaSet {name}"))
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

/// The status that describes these pods, and when it will change by itself.
fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<String>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let spec = set.spec.clone();
    let template_labels = spec.template.and_then(|it| it.metadata).and_then(|it| it.labels).unwrap_or_default();
    let fully_labelled =
        |pod: &&Arc<Pod>| template_labels.iter().all(|(key, value)| meta::label(&pod.metadata, key) == Some(value));
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let states: Vec<Availability> = active.iter().map(|pod| pods::availability(pod, min_ready, now)).collect();
    let count = |test: fn(&Availability) -> bool| states.iter().filter(|state| test(state)).count() as i32;
    let old = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: Some(active.iter().filter(fully_labelled).count() as i32),
        ready_replicas: Some(count(|it| *it != Availability::NotReady)),
        available_replicas: Some(count(|it| *it == Availability::Available)),
        terminating_replicas: Some(terminating as i32),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure),
    };
    let status = if same_numbers(set.status.as_ref(), &status) { set.status.clone().unwrap_or(status) } else { status };
    let wait =
        states.iter().filter_map(|state| if let Availability::In(wait) = state { Some(*wait) } else { None }).min();
    (status, wait)
}

/// Zero and absent are the same number; rewriting one as the other would be a write without a change.
fn same_numbers(old: Option<&ReplicaSetStatus>, new: &ReplicaSetStatus) -> bool {
    let numbers = |it: &ReplicaSetStatus| {
        [
            Some(it.replicas),
            it.fully_labeled_replicas,
            it.ready_replicas,
            it.available_replicas,
            it.terminating_replicas,
        ]
        .map(|number| number.unwrap_or(0))
    };
    let none = Vec::new();
    old.is_some_and(|old| {
        numbers(old) == numbers(new)
            && old.observed_generation == new.observed_generation
            && old.conditions.as_ref().unwrap_or(&none) == new.conditions.as_ref().unwrap_or(&none)
    })
}

/// Only ReplicaFailure is ours; other conditions stay as they are.
fn conditions(old: Option<Vec<ReplicaSetCondition>>, failure: Option<String>) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let position = conditions.iter().position(|it| it.type_.as_deref() == Some("ReplicaFailure"));
    match (failure, position) {
        (Some(_), Some(_)) => {}
        (Some(message), None) => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".into()),
            status: Some("True".into()),
            reason: Some(if message.starts_with("cannot delete") { "FailedDelete" } else { "FailedCreate" }.into()),
            message: Some(message),
            last_transition_time: Some(meta::now_time()),
        }),
        (None, Some(position)) => {
            conditions.remove(position);
        }
        (None, None) => {}
    }
    Some(conditions).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::pods::testing::pod;

    fn set() -> ReplicaSet {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "namespace": "ns", "generation": 3},
            "spec": {"replicas": 2, "minReadySeconds": 10, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}},
        }))
        .unwrap()
    }

    #[test]
    fn status_counts_and_tells_when_it_changes() {
        let pods = [pod("a", Some("n"), "Running", true), pod("b", Some("n"), "Running", false)].map(Arc::new);
        let (counted, wait) = status(&set(), &pods, 1, None, Timestamp::from_second(4).unwrap());
        assert_eq!((counted.replicas, counted.ready_replicas, counted.available_replicas), (2, Some(1), Some(0)));
        assert_eq!((counted.terminating_replicas, counted.fully_labeled_replicas), (Some(1), Some(0)));
        assert_eq!(wait, Some(Duration::from_secs(6)));
        assert_eq!(counted.observed_generation, Some(3));
        let (counted, wait) = status(&set(), &pods, 1, None, Timestamp::from_second(10).unwrap());
        assert_eq!((counted.available_replicas, wait), (Some(1), None));
    }

    #[test]
    fn failure_condition_comes_and_goes_and_others_stay() {
        let other =
            ReplicaSetCondition { type_: Some("Mine".into()), status: Some("True".into()), ..Default::default() };
        let failed = conditions(Some(vec![other.clone()]), Some("cannot create pods: quota".into())).unwrap();
        assert_eq!(failed[1].reason.as_deref(), Some("FailedCreate"));
        assert_eq!(conditions(Some(failed), None), Some(vec![other]));
    }
}
