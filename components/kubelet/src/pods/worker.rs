//! The task of one pod: observe, decide, act, report; until the pod is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::fields::Addresses;
use super::image::Images;
use super::kill::{self, HooksDone, Killer};
use super::launch::{Crashes, Launch};
use super::plan::{self, Knowledge, Plan};
use super::publisher::Publisher;
use super::status::{self, View, Waiting, is_terminal};
use super::{Shared, logs, resources, sandbox};
use crate::cri::observe::{Observed, Observer};
use crate::probes::{Probes, Surroundings};
use crate::volumes::PodVolumes;
use crate::volumes::payload::Sources;

/// Something may have been missed: everything is looked at again this often.
const RESYNC: Duration = Duration::from_secs(60);
const RETRY_MOST: Duration = Duration::from_secs(20);

/// What the API says about the pod.
#[derive(Debug, Clone)]
pub enum Desired {
    Present(Arc<Pod>),
    /// The object is gone: nothing to report, only to clean up.
    Gone(Arc<Pod>),
}

impl Desired {
    pub fn pod(&self) -> &Arc<Pod> {
        match self {
            Desired::Present(pod) | Desired::Gone(pod) => pod,
        }
    }

    fn ending(&self) -> bool {
        match self {
            Desired::Gone(_) => true,
            Desired::Present(pod) => pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

pub struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) uid: String,
    pub(super) desired: watch::Receiver<Desired>,
    pub(super) wake: Arc<Notify>,
    /// The pod is on its way up or down.
    pub(super) busy: Arc<AtomicBool>,
    pub(super) observer: Observer,
    pub(super) publisher: Publisher,
    pub(super) status: PodStatus,
    pub(super) volumes: PodVolumes,
    pub(super) notifiers: HashMap<usize, AbortHandle>,
    pub(super) probes: Probes,
    pub(super) images: Images,
    pub(super) crashes: Crashes,
    pub(super) waiting: HashMap<String, Waiting>,
    pub(super) retry_at: HashMap<String, Instant>,
    pub(super) messages: HashMap<String, String>,
    pub(super) hooks: HooksDone,
    pub(super) failure: Option<(String, String)>,
    pub(super) failures_in_a_row: u32,
}

impl Drop for Worker {
    fn drop(&mut self) {
        for notifier in self.notifiers.values() {
            notifier.abort();
        }
    }
}

struct Verdicts<'a>(&'a Probes);

impl Knowledge for Verdicts<'_> {
    fn started(&self, id: &str, _: &Container) -> bool {
        self.0.health(id).started
    }
    fn condemned(&self, id: &str) -> Option<String> {
        self.0.health(id).condemned.map(|(message, _)| message)
    }
}

impl Worker {
    pub fn new(
        shared: Arc<Shared>,
        desired: watch::Receiver<Desired>,
        wake: Arc<Notify>,
        busy: Arc<AtomicBool>,
    ) -> Worker {
        let pod = desired.borrow().pod().clone();
        let uid = sandbox::uid(&pod);
        let status = pod.status.clone().unwrap_or_default();
        let publisher = Publisher::start(
            shared.client.clone(),
            &pod.namespace().unwrap_or_default(),
            &pod.name_any(),
            &uid,
            status.clone(),
        );
        let sources = Sources::new(&shared, wake.clone());
        let volumes = PodVolumes::new(&shared.config, &uid, sources);
        Worker {
            shared,
            uid,
            desired,
            wake,
            busy,
            observer: Observer::default(),
            publisher,
            status,
            volumes,
            notifiers: HashMap::new(),
            probes: Probes::default(),
            images: Images::default(),
            crashes: Crashes::default(),
            waiting: HashMap::new(),
            retry_at: HashMap::new(),
            messages: HashMap::new(),
            hooks: HooksDone::default(),
            failure: None,
            failures_in_a_row: 0,
        }
    }

    pub async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if desired.ending() {
                self.busy.store(true, Ordering::Relaxed);
                self.end().await;
                self.busy.store(false, Ordering::Relaxed);
                return;
            }
            let pod = desired.pod().clone();
            let mut news = self.desired.clone();
            let wake = self.wake.clone();
            // only the end of the pod interrupts work under way
            let interrupted = async move { news.wait_for(Desired::ending).await.map(|_| ()) };
            let pause = tokio::select! {
                result = self.sync(&pod) => self.pause_after(&pod, result),
                _ = interrupted => Duration::ZERO,
            };
            if pause.is_zero() {
                continue;
            }
            tokio::select! {
                _ = wake.notified() => {}
                changed = self.desired.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn pause_after(&mut self, pod: &Pod, result: Result<Duration>) -> Duration {
        match result {
            Ok(pause) => {
                self.failures_in_a_row = 0;
                pause
            }
            Err(error) => {
                self.failures_in_a_row += 1;
                let pause = Duration::from_millis(250 << self.failures_in_a_row.min(7)).min(RETRY_MOST);
                tracing::warn!("pod {}/{}: {error:#}", pod.namespace().unwrap_or_default(), pod.name_any());
                pause
            }
        }
    }

    /// One pass. Zero means: look again at once.
    async fn sync(&mut self, pod: &Arc<Pod>) -> Result<Duration> {
        let observed = self.observe().await?;
        self.check_admission(pod);
        let verdict = plan::compute(pod, &observed, &Verdicts(&self.probes));
        if self.failure.is_some() || verdict.finished || is_terminal(self.status.phase.as_deref()) {
            return self.wind_down(pod, observed).await;
        }
        if self.shared.cgroups.admit(pod, &self.uid) && observed.sandbox().is_some() {
            // it runs since before this kubelet
            self.shared.cgroups.create(pod, &self.uid).await;
        }
        let addresses = self.addresses(&observed);
        let around = self.surroundings();
        self.probes.update(&around, pod, &observed, &self.probe_address(pod, &observed));
        self.forget_waiting(&observed);
        self.publish(pod, &observed, false);
        let idle = verdict == Plan::default();
        let started = !observed.is_empty() && self.status.phase.as_deref() == Some("Running");
        self.busy.store(!started && self.waiting.is_empty(), Ordering::Relaxed);
        if let Err(error) = self.volumes.set_up(pod, &addresses).await {
            self.shared.recorder.pod(pod, None, true, "FailedMount", format!("{error:#}"));
            self.notify_changes();
            if observed.running().next().is_none() {
                return Err(error);
            }
            // what runs goes on with the files it has
            tracing::warn!("pod {}: {error:#}", pod.name_any());
        }
        self.notify_changes();
        if !idle && self.act(pod, &observed, &addresses, verdict).await? {
            return Ok(Duration::ZERO);
        }
        self.collect_garbage(&observed).await;
        self.publish(pod, &observed, false);
        Ok(self.next_look(pod))
    }

    /// What the pod may not have on this node at all, or no longer.
    fn check_admission(&mut self, pod: &Pod) {
        if self.failure.is_some() {
            return;
        }
        if let Some(name) = sandbox::forbidden_sysctl(&self.shared.config, pod)
            && self.status.container_statuses.iter().flatten().all(|s| s.container_id.is_none())
        {
            let message = format!("forbidden sysctl: {name:?} not allowlisted");
            self.shared.recorder.pod(pod, None, true, "SysctlForbidden", message.clone());
            self.failure = Some(("SysctlForbidden".into(), message));
        }
        if self.deadline(pod).is_some_and(|left| left.is_zero()) {
            let message = "Pod was active on the node longer than the specified deadline".to_string();
            self.shared.recorder.pod(pod, None, false, "DeadlineExceeded", message.clone());
            self.failure = Some(("DeadlineExceeded".into(), message));
        }
    }

    fn deadline(&self, pod: &Pod) -> Option<Duration> {
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let start = self.status.start_time.as_ref()?.0.as_second();
        Some(Duration::from_secs(u64::try_from(start + seconds - Timestamp::now().as_second()).unwrap_or(0)))
    }

    pub(super) async fn observe(&mut self) -> Result<Observed> {
        let observed = self.observer.observe(&self.shared.cri, &self.uid).await?;
        self.messages.retain(|id, _| observed.all().any(|c| c.id() == id));
        for seen in observed.all().filter(|c| c.status.finished_at > 0) {
            if !self.messages.contains_key(seen.id()) {
                self.messages.insert(seen.id().to_string(), logs::termination_message(seen));
            }
        }
        Ok(observed)
    }

    fn addresses(&self, observed: &Observed) -> Addresses {
        let pod = self.desired.borrow().pod().clone();
        let host_ip = self.shared.config.node_ip.clone();
        let pod_ips = match sandbox::is_host_network(&pod) {
            true => vec![host_ip.clone()],
            false => observed.sandbox().map(|s| s.ips.clone()).unwrap_or_default(),
        };
        Addresses { host_ip, pod_ips }
    }

    fn probe_address(&self, pod: &Pod, observed: &Observed) -> String {
        match sandbox::is_host_network(pod) {
            true => self.shared.config.node_ip.clone(),
            false => observed.sandbox().and_then(|s| s.ips.first().cloned()).unwrap_or_default(),
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            cri: self.shared.cri.clone(),
            http: self.shared.http.clone(),
            recorder: self.shared.recorder.clone(),
            wake: self.wake.clone(),
        }
    }

    fn forget_waiting(&mut self, observed: &Observed) {
        for seen in observed.running() {
            if let Some(metadata) = &seen.status.metadata {
                self.waiting.remove(&metadata.name);
                self.retry_at.remove(&metadata.name);
            }
        }
    }

    pub(super) fn publish(&mut self, pod: &Pod, observed: &Observed, ended: bool) {
        let probes = &self.probes;
        let fresh = status::compute(&View {
            pod,
            observed,
            previous: &self.status,
            waiting: &self.waiting,
            messages: &self.messages,
            health: &|id, _| {
                let health = probes.health(id);
                (health.started, health.started && health.ready)
            },
            host_ip: &self.shared.config.node_ip,
            runtime: &self.shared.runtime,
            failure: self.failure.clone(),
            ended,
        });
        self.status = fresh.clone();
        self.publisher.set(fresh);
        self.publisher.reconcile(pod);
    }

    /// Carries out a plan. True if something was done, so that it pays to look again.
    async fn act(&mut self, pod: &Arc<Pod>, observed: &Observed, addresses: &Addresses, plan: Plan) -> Result<bool> {
        for sandbox in &plan.stop_sandboxes {
            self.shared.cri.stop_sandbox(sandbox).await?;
        }
        if let Some(attempt) = plan.create_sandbox {
            self.create_sandbox(pod, attempt).await?;
            return Ok(true);
        }
        let Some(current) = observed.sandbox() else { return Ok(true) };
        let mut done = !plan.stop_sandboxes.is_empty();
        for condemned in &plan.kill {
            done = true;
            self.kill_one(pod, observed, &condemned.id, &condemned.message).await?;
        }
        for id in &plan.remove {
            self.shared.cri.remove_container(id).await?;
        }
        let cgroup = self.shared.cgroups.parent(&self.uid, resources::qos(pod));
        let sandbox_config = sandbox::config(&self.shared.config, pod, current.attempt, cgroup);
        for start in &plan.start {
            if self.retry_at.get(&start.name).is_some_and(|at| *at > Instant::now()) {
                continue;
            }
            let known = self.status.init_container_statuses.iter().chain(&self.status.container_statuses).flatten();
            let before = known.into_iter().find(|s| s.name == start.name && s.container_id.is_some());
            let launch = Launch {
                shared: &self.shared,
                pod,
                observed,
                sandbox: &current.id,
                sandbox_config: &sandbox_config,
                addresses,
                restarts: before.map(|s| s.restart_count),
                volumes: &mut self.volumes,
                images: &mut self.images,
                crashes: &mut self.crashes,
            };
            match launch.run(start).await {
                Ok(()) => {
                    done = true;
                    self.waiting.remove(&start.name);
                    self.retry_at.remove(&start.name);
                }
                Err(failure) => {
                    self.retry_at.insert(start.name.clone(), Instant::now() + failure.retry);
                    let waiting = Waiting { reason: failure.reason, message: failure.message };
                    self.waiting.insert(start.name.clone(), waiting);
                }
            }
        }
        Ok(done)
    }

    async fn create_sandbox(&mut self, pod: &Arc<Pod>, attempt: u32) -> Result<()> {
        let handler = self.runtime_handler(pod).await?;
        logs::make_directories(&self.shared.config, pod)?;
        let limited = self.shared.cgroups.create(pod, &self.uid);
        let parent = self.shared.cgroups.parent(&self.uid, resources::qos(pod));
        let config = sandbox::config(&self.shared.config, pod, attempt, parent);
        match futures::join!(limited, self.shared.cri.run_sandbox(config, handler)) {
            (true, Ok(_)) => Ok(()),
            (false, Ok(_)) => {
                self.shared.cgroups.limit(pod, &self.uid);
                Ok(())
            }
            (_, Err(error)) => {
                let message = format!("Failed to create pod sandbox: {error:#}");
                self.shared.recorder.pod(pod, None, true, "FailedCreatePodSandBox", message);
                Err(error.context("cannot create the pod's sandbox"))
            }
        }
    }

    /// RuntimeClass (KEP-585): its handler is the runtime's own word.
    async fn runtime_handler(&self, pod: &Pod) -> Result<String> {
        let name = pod.spec.as_ref().and_then(|s| s.runtime_class_name.clone()).filter(|n| !n.is_empty());
        let Some(name) = name else { return Ok(String::new()) };
        let api: Api<RuntimeClass> = Api::all(self.shared.client.clone());
        let class = api.get(&name).await.with_context(|| format!("cannot read RuntimeClass {name}"))?;
        Ok(class.handler)
    }

    async fn kill_one(&self, pod: &Pod, observed: &Observed, id: &str, message: &str) -> Result<()> {
        let Some(seen) = observed.running().find(|c| c.id() == id) else { return Ok(()) };
        let own = self.probes.health(id).condemned.and_then(|(_, grace)| grace);
        let killer = self.killer(pod, observed);
        killer.one(seen, own.unwrap_or_else(|| kill::grace(pod)), message).await
    }

    pub(super) fn killer<'a>(&'a self, pod: &'a Pod, observed: &Observed) -> Killer<'a> {
        Killer { shared: &self.shared, pod, ip: self.probe_address(pod, observed), hooks: self.hooks.clone() }
    }

    /// Nothing of this pod shall run any more, but its object stays.
    async fn wind_down(&mut self, pod: &Arc<Pod>, mut observed: Observed) -> Result<Duration> {
        self.probes.stop();
        if observed.running().next().is_some() {
            self.killer(pod, &observed).all(&observed, kill::grace(pod), "").await?;
            observed = self.observe().await?;
        }
        for sandbox in observed.sandboxes.iter().filter(|s| s.ready) {
            self.shared.cri.stop_sandbox(&sandbox.id).await?;
        }
        self.shared.cgroups.forget(&self.uid);
        self.publish(pod, &observed, false);
        self.volumes.release()?;
        self.busy.store(false, Ordering::Relaxed);
        Ok(RESYNC * 10)
    }

    /// Wakes this task when a ConfigMap or Secret it uses changes.
    fn notify_changes(&mut self) {
        for claim in self.volumes.sources.claims() {
            let key = Arc::as_ptr(claim) as usize;
            self.notifiers.entry(key).or_insert_with(|| {
                let (mut changes, wake) = (claim.changes(), self.wake.clone());
                let notifier = async move {
                    while changes.changed().await.is_ok() {
                        wake.notify_one();
                    }
                };
                tokio::spawn(notifier).abort_handle()
            });
        }
    }

    fn next_look(&self, pod: &Pod) -> Duration {
        let now = Instant::now();
        let retry = self.retry_at.values().map(|at| at.saturating_duration_since(now));
        let others = [self.volumes.sources.renewal(), self.deadline(pod), Some(RESYNC)];
        let soonest = retry.chain(others.into_iter().flatten()).min().unwrap_or(RESYNC);
        soonest.max(Duration::from_millis(20))
    }

    /// One ended container of each name is kept for its logs; sandboxes of the past go.
    async fn collect_garbage(&self, observed: &Observed) {
        for list in observed.containers.values() {
            for old in list.iter().skip(2).filter(|c| !c.running()) {
                if self.shared.cri.remove_container(old.id()).await.is_ok() {
                    std::fs::remove_file(&old.status.log_path).ok();
                }
            }
        }
        for old in observed.sandboxes.iter().skip(1).filter(|s| !s.ready) {
            if !observed.all().any(|c| c.sandbox == old.id) {
                self.shared.cri.remove_sandbox(&old.id).await.ok();
            }
        }
    }
}
