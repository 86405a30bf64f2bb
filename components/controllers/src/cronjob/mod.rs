//! CronJob: makes Jobs on a schedule (upstream: pkg/controller/cronjob). `rules` says when; this file reads and writes.

mod rules;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cron::Schedule;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::task::JoinSet;

use crate::core::context::OWNER;
use crate::core::{Ctx, Key, WorkQueue, meta};

const NAME: &str = "cronjob-controller";
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// A start is looked for a moment after it is due, as upstream does.
const SLACK: Duration = Duration::from_millis(100);

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.cron_jobs.on_change(move |_, new| new.into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let to = queue.clone();
    ctx.informers.jobs.on_change(move |old, new| {
        for job in [old, new].into_iter().flatten() {
            if let Some(owner) = meta::controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                to.add(Key::new(meta::namespace(&job.metadata), &owner.name));
            }
        }
    });
    let informers = ctx.informers.clone();
    let ready = async move {
        informers.cron_jobs.wait_synced().await;
        informers.jobs.wait_synced().await;
    };
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone() });
    queue.work(tasks, NAME, 5, ready, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    });
}

struct Controller {
    ctx: Ctx,
    queue: Arc<WorkQueue>,
}

fn finished(job: &Job) -> Option<&'static str> {
    let conditions = job.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.filter(|it| it.status == "True").find_map(|it| match it.type_.as_str() {
        "Complete" => Some("Complete"),
        "Failed" => Some("Failed"),
        _ => None,
    })
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

impl Controller {
    async fn sync(&self, key: &Key) -> anyhow::Result<()> {
        let Some(cron_job) = self.ctx.informers.cron_jobs.get_key(key) else { return Ok(()) };
        let jobs = self.ctx.informers.jobs.by(OWNER, meta::uid(&cron_job.metadata));
        let mut status = cron_job.status.clone().unwrap_or_default();
        self.settle(&cron_job, &jobs, &mut status).await?;
        self.clean_up(&cron_job, &jobs).await?;
        let outcome = if cron_job.metadata.deletion_timestamp.is_none() {
            self.run_due(key, &cron_job, &mut status).await
        } else {
            Ok(())
        };
        // one write for everything this pass found, so that no older state can come back
        self.write_status(&cron_job, status).await?;
        outcome
    }

    /// Brings `active` in line with the Jobs that are there.
    async fn settle(
        &self,
        cron_job: &Arc<CronJob>,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> anyhow::Result<()> {
        let events = &self.ctx.events;
        let mut active = status.active.take().unwrap_or_default();
        for job in jobs {
            let (uid, name) = (meta::uid(&job.metadata), meta::name(&job.metadata));
            let known = active.iter().position(|it| it.uid.as_deref() == Some(uid));
            match (finished(job), known) {
                (Some(condition), Some(at)) => {
                    active.remove(at);
                    let text = format!("Saw completed job: {name}, condition: {condition}");
                    events.normal(NAME, cron_job.as_ref(), "SawCompletedJob", text);
                }
                (None, None) => {
                    let text = format!("Saw a job that the controller did not create or forgot: {name}");
                    events.warning(NAME, cron_job.as_ref(), "UnexpectedJob", text);
                }
                _ => {}
            }
            let completed = job.status.as_ref().and_then(|it| it.completion_time.clone());
            if finished(job) == Some("Complete")
                && let Some(at) = completed
                && status.last_successful_time.as_ref().is_none_or(|known| known.0 < at.0)
            {
                status.last_successful_time = Some(at);
            }
        }
        let mut kept = Vec::new();
        for it in active {
            let cached = jobs.iter().any(|job| it.uid.as_deref() == Some(meta::uid(&job.metadata)));
            if cached || self.is_there(cron_job, &it).await? {
                kept.push(it);
            } else {
                let name = it.name.as_deref().unwrap_or_default();
                events.normal(NAME, cron_job.as_ref(), "MissingJob", format!("Active job went missing: {name}"));
            }
        }
        status.active = Some(kept).filter(|it| !it.is_empty());
        Ok(())
    }

    /// The cache may not know yet what was made a moment ago: only the API server's word counts.
    async fn is_there(&self, cron_job: &CronJob, job: &ObjectReference) -> anyhow::Result<bool> {
        let (ns, name) = (meta::namespace(&cron_job.metadata), job.name.as_deref().unwrap_or_default());
        let live = self.ctx.api::<Job>(ns).get_metadata_opt(name).await;
        let live = live.with_context(|| format!("cannot look up the Job {ns}/{name}"))?;
        Ok(live.is_some_and(|it| it.metadata.uid == job.uid))
    }

    /// Finished Jobs beyond the limits go, the oldest first.
    async fn clean_up(&self, cron_job: &Arc<CronJob>, jobs: &[Arc<Job>]) -> anyhow::Result<()> {
        let spec = &cron_job.spec;
        let limits = [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)];
        for (condition, limit) in limits {
            let Some(limit) = limit else { continue };
            let mut ended: Vec<&Arc<Job>> = jobs.iter().filter(|job| finished(job) == Some(condition)).collect();
            ended.sort_by_key(|job| {
                (job.status.as_ref().and_then(|it| it.start_time.as_ref()).map(|at| at.0), job.metadata.name.clone())
            });
            let excess = ended.len().saturating_sub(limit.max(0) as usize);
            for job in ended.into_iter().take(excess) {
                self.delete(cron_job, &reference(job)).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, cron_job: &Arc<CronJob>, job: &ObjectReference) -> anyhow::Result<()> {
        let (ns, name) = (meta::namespace(&cron_job.metadata), job.name.as_deref().unwrap_or_default());
        let exactly =
            DeleteParams::background().preconditions(Preconditions { uid: job.uid.clone(), resource_version: None });
        match meta::ignore_gone(self.ctx.api::<Job>(ns).delete(name, &exactly).await) {
            Ok(Some(_)) => {
                let text = format!("Deleted job {name}");
                self.ctx.events.normal(NAME, cron_job.as_ref(), "SuccessfulDelete", text);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let text = format!("Deleted job: {error}");
                self.ctx.events.warning(NAME, cron_job.as_ref(), "FailedDelete", text);
                Err(error).with_context(|| format!("cannot delete the Job {ns}/{name}"))
            }
        }
    }

    /// The schedule and its zone; what is wrong with them is told and waited out: only a change can help.
    fn schedule(&self, cron_job: &Arc<CronJob>) -> Option<(Schedule, TimeZone)> {
        let spec = &cron_job.spec;
        let events = &self.ctx.events;
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let text = format!("unparseable schedule: \"{}\" : {error}", spec.schedule);
                events.warning(NAME, cron_job.as_ref(), "UnparseableSchedule", text);
                return None;
            }
        };
        let named = spec.time_zone.as_deref();
        let zone = match named {
            Some(name) => cron::zone(name),
            None => cron::embedded_zone(&spec.schedule).or(Some(TimeZone::UTC)),
        };
        if zone.is_none() {
            let text = format!("invalid timeZone: \"{0}\": unknown time zone {0}", named.unwrap_or_default());
            events.warning(NAME, cron_job.as_ref(), "UnknownTimeZone", text);
        }
        zone.map(|zone| (schedule, zone))
    }

    async fn run_due(&self, key: &Key, cron_job: &Arc<CronJob>, status: &mut CronJobStatus) -> anyhow::Result<()> {
        let spec = &cron_job.spec;
        if spec.suspend == Some(true) {
            return Ok(());
        }
        let Some((schedule, zone)) = self.schedule(cron_job) else { return Ok(()) };
        let now = meta::now();
        if let Some(next) = schedule.next_after(now, &zone) {
            let wait = next.duration_since(now).unsigned_abs();
            self.queue.add_after(key.clone(), wait + SLACK);
        }
        let Some(due) = rules::due(cron_job, &schedule, &zone, now) else { return Ok(()) };
        let events = &self.ctx.events;
        if due.many_missed {
            events.warning(
                NAME,
                cron_job.as_ref(),
                "TooManyMissedTimes",
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
            );
        }
        if rules::too_late(cron_job, due.at, now) {
            let text = format!("Missed scheduled time to start a job: {}", due.at);
            events.warning(NAME, cron_job.as_ref(), "MissSchedule", text);
            return Ok(());
        }
        let name = rules::job_name(&key.name, due.at);
        let active = status.active.clone().unwrap_or_default();
        if active.iter().any(|it| it.name.as_deref() == Some(name.as_str()))
            || status.last_schedule_time.as_ref().is_some_and(|last| last.0 == due.at)
        {
            return Ok(());
        }
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
                events.normal(NAME, cron_job.as_ref(), "JobAlreadyActive", text);
                return Ok(());
            }
            Some("Replace") => {
                // Only what is active: not the Job of this very time, whose status was lost, nor one made by hand.
                for job in &active {
                    self.delete(cron_job, job).await?;
                }
                status.active = None;
            }
            _ => {}
        }
        let Some(job) = self.create(cron_job, name, due.at, &zone).await? else { return Ok(()) };
        status.active.get_or_insert_default().push(reference(&job));
        status.last_schedule_time = Some(Time(due.at));
        Ok(())
    }

    /// `None` where the namespace goes away.
    async fn create(
        &self,
        cron_job: &Arc<CronJob>,
        name: String,
        at: Timestamp,
        zone: &TimeZone,
    ) -> anyhow::Result<Option<Job>> {
        let job = new_job(cron_job, name, at, zone);
        let (ns, name) = (meta::namespace(&job.metadata).to_owned(), meta::name(&job.metadata).to_owned());
        let api = self.ctx.api::<Job>(&ns);
        match api.create(&PostParams::default(), &job).await {
            Ok(made) => {
                self.ctx.events.normal(NAME, cron_job.as_ref(), "SuccessfulCreate", format!("Created job {name}"));
                Ok(Some(made))
            }
            Err(error) if meta::namespace_terminating(&error) => Ok(None),
            // made in an earlier pass whose status was lost
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let found = api.get_opt(&name).await.with_context(|| format!("cannot read the Job {ns}/{name}"))?;
                Ok(found.filter(|job| meta::is_controlled_by(&job.metadata, meta::uid(&cron_job.metadata))))
            }
            Err(error) => {
                let text = format!("Error creating job: {error}");
                self.ctx.events.warning(NAME, cron_job.as_ref(), "FailedCreate", text);
                Err(error).with_context(|| format!("cannot create the Job {ns}/{name}"))
            }
        }
    }

    async fn write_status(&self, cron_job: &Arc<CronJob>, status: CronJobStatus) -> anyhow::Result<()> {
        if cron_job.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let mut changed = cron_job.as_ref().clone();
        changed.status = Some(status);
        let name = meta::name(&cron_job.metadata);
        let api = self.ctx.api::<CronJob>(meta::namespace(&cron_job.metadata));
        match api.replace_status(name, &PostParams::default(), &changed).await {
            // Noted at once: the next pass must not start the same Job again.
            Ok(written) => {
                self.ctx.informers.cron_jobs.note(written);
                Ok(())
            }
            Err(error) if meta::not_found(&error) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot write the status of CronJob {name}")),
        }
    }
}

fn new_job(cron_job: &CronJob, name: String, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron_job.spec.job_template.clone();
    let from = template.metadata.unwrap_or_default();
    let mut annotations = from.annotations.unwrap_or_default();
    let local = zone.to_offset_info(at).offset();
    annotations.insert(SCHEDULED.into(), at.display_with_offset(local).to_string());
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron_job.metadata.namespace.clone(),
            labels: from.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![meta::controller_ref(cron_job)]),
            ..Default::default()
        },
        spec: Some(template.spec.unwrap_or_default()),
        status: None,
    }
}
