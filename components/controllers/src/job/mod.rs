//! Job: runs pods to completion (upstream: pkg/controller/job, ttlafterfinished). `rules` decides; this file reads and
//! writes, in an order that never loses or repeats a count: status first, finalizers after.

mod indexes;
mod rules;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::indexes::COMPLETION_INDEX;
use self::rules::{FINALIZER, INDEX_FAILURES, Outcome};
use crate::core::context::OWNER;
use crate::core::expectations::Expectations;
use crate::core::spawn::{create_pods, observe};
use crate::core::{Ctx, Key, WorkQueue, claim, meta, pods};

const NAME: &str = "job-controller";
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(600);
const BURST: usize = 500;

#[derive(Clone, Copy)]
struct Backoff {
    failures: u32,
    last: Instant,
}

impl Backoff {
    fn remaining(&self) -> Duration {
        let wait = FIRST_BACKOFF.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(LAST_BACKOFF);
        (self.last + wait).saturating_duration_since(Instant::now())
    }
}

struct Controller {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
    expectations: Arc<Expectations>,
    /// Consecutive failures of a Job's pods, by its uid.
    backoffs: Mutex<HashMap<String, Backoff>>,
}

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let (queue, orphans) = (WorkQueue::new(), WorkQueue::new());
    let expectations = Arc::new(Expectations::default());
    let controller =
        Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone(), expectations, backoffs: Mutex::default() });
    register(&controller, &orphans);
    let informers = ctx.informers.clone();
    let synced = move || {
        let informers = informers.clone();
        async move {
            informers.jobs.wait_synced().await;
            informers.pods.wait_synced().await;
        }
    };
    let worker = controller.clone();
    queue.work(tasks, NAME, 8, synced(), move |key| {
        let worker = worker.clone();
        async move { worker.sync(&key).await }
    });
    orphans.work(tasks, "job-orphan-pods", 2, synced(), move |key| {
        let controller = controller.clone();
        async move { controller.free_orphan(&key).await }
    });
}

fn register(controller: &Arc<Controller>, orphans: &Arc<WorkQueue>) {
    let informers = &controller.ctx.informers;
    let (it, free) = (controller.clone(), orphans.clone());
    informers.jobs.on_change(move |old, new| {
        // Gone, or replaced by one of the same name while nobody watched.
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.metadata.uid != old.metadata.uid)) {
            let uid = meta::uid(&old.metadata);
            it.expectations.forget(uid);
            it.backoffs.lock().remove(uid);
            it.ctx.informers.pods.by(OWNER, uid).iter().for_each(|pod| free.add(Key::of(pod.as_ref())));
        }
        new.into_iter().for_each(|job| it.queue.add(Key::of(job.as_ref())));
    });
    let (it, free) = (controller.clone(), orphans.clone());
    informers.pods.on_change(move |old, new| {
        observe(&it.expectations, old, new, "Job");
        for pod in [old, new].into_iter().flatten() {
            let ns = meta::namespace(&pod.metadata);
            let owner = meta::controller_of(&pod.metadata);
            match owner {
                Some(owner) if owner.kind == "Job" => it.queue.add(Key::new(ns, &owner.name)),
                Some(_) => {}
                None => {
                    it.ctx.informers.jobs.in_namespace(ns).iter().for_each(|job| it.queue.add(Key::of(job.as_ref())))
                }
            }
            let has_job = owner.filter(|owner| owner.kind == "Job").is_some_and(|owner| {
                // by its uid: another Job may have the name by now
                it.ctx.informers.jobs.get(ns, &owner.name).is_some_and(|job| meta::uid(&job.metadata) == owner.uid)
            });
            if meta::has_finalizer(&pod.metadata, FINALIZER) && !has_job {
                free.add(Key::of(pod.as_ref()));
            }
        }
    });
}

fn selector_of(job: &Job) -> LabelSelector {
    job.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_else(|| LabelSelector {
        match_labels: Some(
            [("batch.kubernetes.io/controller-uid".to_owned(), meta::uid(&job.metadata).to_owned())].into(),
        ),
        match_expressions: None,
    })
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(job) = self.ctx.informers.jobs.get_key(key) else { return Ok(()) };
        let Some(spec) = &job.spec else { return Ok(()) };
        if spec.managed_by.as_deref().is_some_and(|it| it != "kubernetes.io/job-controller") {
            return Ok(());
        }
        let uid = meta::uid(&job.metadata);
        let satisfied = self.expectations.satisfied(uid);
        let selector = meta::selector(&selector_of(&job)).context("selector does not parse")?;
        let informer = &self.ctx.informers.pods;
        let candidates =
            informer.by(OWNER, uid).into_iter().chain(informer.by(OWNER, &meta::orphan_index(&key.ns))).collect();
        let owned = claim::claim(&self.ctx.client, job.as_ref(), &selector, candidates, Some(FINALIZER)).await?;
        let outcome = rules::evaluate(&job, &owned, meta::now());
        self.write_status(&job, &outcome).await?;
        self.release(&outcome.release).await?;
        self.note_failures(uid, &outcome);
        if satisfied {
            self.delete(&job, &outcome).await?;
            self.create(key, &job, &owned, &outcome).await?;
        }
        self.schedule(key, &job).await
    }

    /// Deadlines that come by time alone, and the end of a finished Job's life.
    async fn schedule(&self, key: &Key, job: &Job) -> anyhow::Result<()> {
        let spec = job.spec.clone().unwrap_or_default();
        if let Some(ended) = rules::ended_at(job) {
            let Some(ttl) = spec.ttl_seconds_after_finished.filter(|_| job.metadata.deletion_timestamp.is_none())
            else {
                return Ok(());
            };
            let wait = meta::until(ended, i64::from(ttl), meta::now());
            if !wait.is_zero() {
                self.queue.add_after(key.clone(), wait);
                return Ok(());
            }
            let exactly = DeleteParams::foreground().preconditions(Preconditions {
                uid: job.metadata.uid.clone(),
                resource_version: job.metadata.resource_version.clone(),
            });
            return match self.ctx.api::<Job>(&key.ns).delete(&key.name, &exactly).await {
                Err(error) if !meta::not_found(&error) => {
                    Err(error).with_context(|| format!("cannot delete the finished Job {key}"))
                }
                _ => Ok(()),
            };
        }
        if let (Some(seconds), Some(started)) =
            (spec.active_deadline_seconds, job.status.as_ref().and_then(|it| it.start_time.as_ref()))
        {
            let wait = meta::until(started.0, seconds, meta::now());
            if !wait.is_zero() {
                self.queue.add_after(key.clone(), wait);
            }
        }
        Ok(())
    }

    async fn write_status(&self, job: &Arc<Job>, outcome: &Outcome) -> anyhow::Result<()> {
        if job.status.as_ref() == Some(&outcome.status) {
            return Ok(());
        }
        let mut changed = job.as_ref().clone();
        changed.status = Some(outcome.status.clone());
        let name = meta::name(&job.metadata);
        match self
            .ctx
            .api::<Job>(meta::namespace(&job.metadata))
            .replace_status(name, &PostParams::default(), &changed)
            .await
        {
            // Noted at once: the next pass must count from these numbers.
            Ok(written) => self.ctx.informers.jobs.note(written),
            Err(error) if meta::not_found(&error) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot write the status of Job {name}")),
        }
        match (&outcome.ended, outcome.suspended) {
            (Some(verdict), _) if verdict.failed => {
                self.ctx.events.warning(NAME, job.as_ref(), event_reason(&verdict.reason), verdict.message.clone())
            }
            (Some(_), _) => self.ctx.events.normal(NAME, job.as_ref(), "Completed", "Job completed"),
            (None, Some(true)) => self.ctx.events.normal(NAME, job.as_ref(), "Suspended", "Job suspended"),
            (None, Some(false)) => self.ctx.events.normal(NAME, job.as_ref(), "Resumed", "Job resumed"),
            _ => {}
        }
        Ok(())
    }

    async fn release(&self, finished: &[Arc<Pod>]) -> anyhow::Result<()> {
        let removals = finished.iter().map(|pod| self.remove_finalizer(pod));
        futures::future::join_all(removals).await.into_iter().collect()
    }

    async fn remove_finalizer(&self, pod: &Pod) -> anyhow::Result<()> {
        let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|it| it != FINALIZER);
        let (ns, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
        let patch = json!({"metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version, "finalizers": finalizers}});
        match self.ctx.api::<Pod>(ns).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(error) if !meta::not_found(&error) => {
                Err(error).with_context(|| format!("cannot release pod {ns}/{name}"))
            }
            _ => Ok(()),
        }
    }

    fn note_failures(&self, uid: &str, outcome: &Outcome) {
        let mut backoffs = self.backoffs.lock();
        if outcome.newly_succeeded > 0 {
            backoffs.remove(uid);
        }
        if outcome.newly_failed > 0 {
            let backoff = backoffs.entry(uid.to_owned()).or_insert(Backoff { failures: 0, last: Instant::now() });
            backoff.failures += outcome.newly_failed as u32;
            backoff.last = Instant::now();
        }
    }

    async fn delete(&self, job: &Arc<Job>, outcome: &Outcome) -> anyhow::Result<()> {
        let uid = meta::uid(&job.metadata);
        let api = self.ctx.api::<Pod>(meta::namespace(&job.metadata));
        for pod in &outcome.delete {
            let name = meta::name(&pod.metadata);
            // Without the finalizer nobody counts it. One that has ended meanwhile is refused by its version, and counted.
            if !outcome.deletes_count && meta::has_finalizer(&pod.metadata, FINALIZER) {
                self.remove_finalizer(pod).await?;
            }
            self.expectations.expect_delete(uid, meta::uid(&pod.metadata));
            let result = api.delete(name, &meta::delete_exactly(&pod.metadata)).await;
            match &result {
                Ok(_) => self.ctx.events.normal(NAME, job.as_ref(), "SuccessfulDelete", format!("Deleted pod: {name}")),
                Err(_) => self.expectations.deleted(uid, meta::uid(&pod.metadata)),
            }
            meta::ignore_gone(result).with_context(|| format!("cannot delete pod {name}"))?;
        }
        Ok(())
    }

    async fn create(&self, key: &Key, job: &Arc<Job>, owned: &[Arc<Pod>], outcome: &Outcome) -> anyhow::Result<()> {
        let uid = meta::uid(&job.metadata);
        let count = outcome.create.len().min(BURST);
        if count == 0 {
            return Ok(());
        }
        let backoff = self.backoffs.lock().get(uid).copied();
        if let Some(wait) = backoff.map(|it| it.remaining()).filter(|it| !it.is_zero()) {
            self.queue.add_after(key.clone(), wait);
            return Ok(());
        }
        let make = |number: usize| {
            let index = outcome.create[number];
            new_pod(job, index, index.map_or(0, |it| rules::next_failure_count(owned, it)))
        };
        let error = create_pods(&self.ctx, NAME, job, &self.expectations, count, make).await;
        error.map_or(Ok(()), |error| Err(error).with_context(|| format!("cannot create pods of Job {key}")))
    }

    /// A pod whose Job is gone, or is not its own any more, is not counted by anybody: let it go.
    async fn free_orphan(&self, key: &Key) -> anyhow::Result<()> {
        let Some(pod) =
            self.ctx.informers.pods.get_key(key).filter(|pod| meta::has_finalizer(&pod.metadata, FINALIZER))
        else {
            return Ok(());
        };
        if let Some(owner) = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "Job") {
            let live = self
                .ctx
                .api::<Job>(&key.ns)
                .get_metadata_opt(&owner.name)
                .await
                .with_context(|| format!("cannot look up the Job of pod {key}"))?;
            if live.is_some_and(|job| meta::uid(&job.metadata) == owner.uid) {
                return Ok(());
            }
        }
        self.remove_finalizer(&pod).await
    }
}

/// Event reasons are a fixed set; this finds the static form of one.
fn event_reason(reason: &str) -> &'static str {
    const REASONS: &[&str] =
        &["BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy", "MaxFailedIndexesExceeded", "FailedIndexes"];
    REASONS.iter().copied().find(|it| *it == reason).unwrap_or("Failed")
}

fn new_pod(job: &Job, index: Option<i32>, failures: i32) -> Pod {
    let spec = job.spec.clone().unwrap_or_default();
    let (ns, name, uid) = (meta::namespace(&job.metadata), meta::name(&job.metadata), meta::uid(&job.metadata));
    let generate = index.map_or_else(|| format!("{name}-"), |it| format!("{name}-{it}-"));
    let mut pod = pods::from_template(&spec.template, ns, &generate, meta::controller_ref(job));
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.into());
    if spec.manual_selector != Some(true) {
        let labels = pod.metadata.labels.get_or_insert_default();
        for (key, value) in [
            ("batch.kubernetes.io/controller-uid", uid),
            ("batch.kubernetes.io/job-name", name),
            ("controller-uid", uid),
            ("job-name", name),
        ] {
            labels.entry(key.into()).or_insert_with(|| value.to_owned());
        }
    }
    if let Some(index) = index {
        set_index(&mut pod, name, index);
        if spec.backoff_limit_per_index.is_some() {
            pod.metadata.annotations.get_or_insert_default().insert(INDEX_FAILURES.into(), failures.to_string());
        }
    }
    pod
}

fn set_index(pod: &mut Pod, job: &str, index: i32) {
    pod.metadata.annotations.get_or_insert_default().insert(COMPLETION_INDEX.into(), index.to_string());
    pod.metadata.labels.get_or_insert_default().insert(COMPLETION_INDEX.into(), index.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{job}-{index}"));
    let source = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: format!("metadata.labels['{COMPLETION_INDEX}']"),
        }),
        ..Default::default()
    };
    let variable = EnvVar { name: "JOB_COMPLETION_INDEX".into(), value: None, value_from: Some(source) };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|it| it.name == variable.name) {
            env.push(variable.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let job: Job = serde_json::from_value(json!({"metadata": {"name": "j", "namespace": "ns", "uid": "u"}, "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}})).unwrap();
        let pod = new_pod(&job, Some(3), 0);
        assert_eq!(meta::annotation(&pod.metadata, COMPLETION_INDEX), Some("3"));
        assert_eq!(meta::label(&pod.metadata, "job-name"), Some("j"));
        assert!(meta::has_finalizer(&pod.metadata, FINALIZER));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("j-3"));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
    }
}
