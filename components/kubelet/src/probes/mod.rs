//! Startup, liveness and readiness of running containers.
//!
//! One task for each container that has probes; its verdict is read by the pod's task, which is woken
//! when it changes. Upstream: `pkg/kubelet/prober`.

pub mod grpc;
pub mod handler;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::api::events::Recorder;
use crate::cri::Cri;
use crate::cri::observe::Observed;
use handler::Target;

/// What the probes say about one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub started: bool,
    pub ready: bool,
    /// Why it must be killed, and the grace period the probe sets for that.
    pub condemned: Option<(String, Option<i64>)>,
}

struct Watched {
    health: Arc<Mutex<Health>>,
    task: Option<AbortHandle>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The probes of one pod's containers, by container id.
#[derive(Default)]
pub struct Probes(HashMap<String, Watched>);

/// What every probe of a pod needs.
#[derive(Clone)]
pub struct Surroundings {
    pub cri: Cri,
    pub http: reqwest::Client,
    pub recorder: Recorder,
    pub wake: Arc<Notify>,
}

impl Probes {
    pub fn health(&self, id: &str) -> Health {
        self.0.get(id).map(|w| w.health.lock().clone()).unwrap_or_default()
    }

    /// Begins with containers that run and are not watched, ends with those that do not run.
    pub fn update(&mut self, around: &Surroundings, pod: &Arc<Pod>, observed: &Observed, ip: &str) {
        let running: HashMap<&str, ()> = observed.running().map(|c| (c.id(), ())).collect();
        self.0.retain(|id, _| running.contains_key(id.as_str()));
        let Some(spec) = &pod.spec else { return };
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let Some(seen) = observed.current(&container.name).filter(|c| c.running()) else { continue };
            if self.0.contains_key(seen.id()) {
                continue;
            }
            let watched = begin(around, pod, container, seen.id(), seen.status.started_at, ip);
            self.0.insert(seen.id().to_string(), watched);
        }
    }

    pub fn stop(&mut self) {
        for watched in self.0.values_mut() {
            if let Some(task) = watched.task.take() {
                task.abort();
            }
        }
    }
}

fn begin(around: &Surroundings, pod: &Arc<Pod>, container: &Container, id: &str, started_at: i64, ip: &str) -> Watched {
    // a kubelet that was restarted goes on from what it had reported
    let before = reported(pod, id);
    let health = Health {
        started: container.startup_probe.is_none() || before.started,
        ready: container.readiness_probe.is_none() && (container.startup_probe.is_none() || before.started)
            || before.ready,
        condemned: None,
    };
    let probed =
        container.startup_probe.is_some() || container.liveness_probe.is_some() || container.readiness_probe.is_some();
    let health = Arc::new(Mutex::new(health));
    let task = probed.then(|| {
        let run = Run {
            around: around.clone(),
            pod: pod.clone(),
            container: container.clone(),
            target: Target { container_id: id.to_string(), ip: ip.to_string() },
            started_at,
            health: health.clone(),
        };
        tokio::spawn(run.all()).abort_handle()
    });
    Watched { health, task }
}

fn reported(pod: &Pod, id: &str) -> Health {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
    let found = all.into_iter().find(|s| s.container_id.as_deref().is_some_and(|c| c.ends_with(&format!("//{id}"))));
    found.map(|s| Health { started: s.started == Some(true), ready: s.ready, condemned: None }).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }
}

struct Run {
    around: Surroundings,
    pod: Arc<Pod>,
    container: Container,
    target: Target,
    started_at: i64,
    health: Arc<Mutex<Health>>,
}

impl Run {
    async fn all(self) {
        let already = self.health.lock().started;
        if let Some(probe) = self.container.startup_probe.clone().filter(|_| !already) {
            self.repeat(Kind::Startup, &probe).await;
            if !self.health.lock().started {
                return;
            }
        }
        let liveness = async {
            if let Some(probe) = &self.container.liveness_probe {
                self.repeat(Kind::Liveness, probe).await;
            }
        };
        let readiness = async {
            if let Some(probe) = &self.container.readiness_probe {
                self.repeat(Kind::Readiness, probe).await;
            }
        };
        tokio::join!(liveness, readiness);
    }

    /// Ends when the probe has nothing more to say about this container.
    async fn repeat(&self, kind: Kind, probe: &Probe) {
        let at_least = |value: Option<i32>, least: i32| u64::try_from(value.unwrap_or(least).max(least)).unwrap_or(1);
        let period = Duration::from_secs(at_least(probe.period_seconds.or(Some(10)), 1));
        let timeout = Duration::from_secs(at_least(probe.timeout_seconds, 1));
        let failures_allowed = at_least(probe.failure_threshold.or(Some(3)), 1);
        let successes_needed = at_least(probe.success_threshold, 1);
        tokio::time::sleep(self.initial_delay(probe)).await;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut successes, mut failures) = (0, 0);
        loop {
            ticks.tick().await;
            let outcome = handler::probe(&self.around, &self.target, &self.container, probe, timeout).await;
            match outcome {
                Ok(()) => (successes, failures) = (successes + 1, 0),
                Err(error) => {
                    (successes, failures) = (0, failures + 1);
                    let message = format!("{} probe failed: {error:#}", kind.word());
                    self.around.recorder.pod(&self.pod, Some(&self.container.name), true, "Unhealthy", message);
                }
            }
            if successes >= successes_needed && self.success(kind)
                || failures >= failures_allowed && self.failure(kind, probe)
            {
                return;
            }
        }
    }

    fn initial_delay(&self, probe: &Probe) -> Duration {
        let delay = u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        let now = k8s_openapi::jiff::Timestamp::now().as_nanosecond();
        let elapsed = u64::try_from(now - i128::from(self.started_at)).unwrap_or(0);
        Duration::from_secs(delay).saturating_sub(Duration::from_nanos(elapsed))
    }

    /// True if this probe is done.
    fn success(&self, kind: Kind) -> bool {
        let readiness = self.container.readiness_probe.is_some();
        match kind {
            Kind::Startup => self.change(|h| {
                h.started = true;
                h.ready = !readiness;
            }),
            Kind::Readiness => self.change(|h| h.ready = true),
            Kind::Liveness => {}
        }
        kind == Kind::Startup
    }

    fn failure(&self, kind: Kind, probe: &Probe) -> bool {
        if kind == Kind::Readiness {
            self.change(|h| h.ready = false);
            return false;
        }
        let word = kind.word().to_lowercase();
        let message = format!("Container {} failed {word} probe, will be restarted", self.container.name);
        self.change(|h| h.condemned = Some((message, probe.termination_grace_period_seconds)));
        true
    }

    fn change(&self, change: impl FnOnce(&mut Health)) {
        let mut health = self.health.lock();
        let before = health.clone();
        change(&mut health);
        if *health != before {
            self.around.wake.notify_one();
        }
    }
}
