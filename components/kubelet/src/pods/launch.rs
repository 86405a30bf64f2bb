//! Starting one container: back-off, image, environment, mounts, create, start, postStart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;

use super::fields::Addresses;
use super::image::{self, Images};
use super::plan::{Role, Start};
use super::{Shared, container as spec, env, kill, logs, sandbox};
use crate::api::objects::{Kind, Payload};
use crate::cri::observe::{Observed, Phase};
use crate::probes::handler::{self, Target};
use crate::volumes::payload::Sources;
use crate::volumes::{PodVolumes, mounts};

const FIRST_DELAY: Duration = Duration::from_secs(10);
const LAST_DELAY: Duration = Duration::from_secs(300);
/// How soon something that others must put right is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Why a container waits, and until when.
#[derive(Debug, Clone)]
pub struct Failure {
    pub reason: String,
    pub message: String,
    pub retry: Duration,
}

impl Failure {
    fn of(reason: &str, error: &anyhow::Error) -> Failure {
        Failure { reason: reason.into(), message: format!("{error:#}"), retry: RETRY }
    }
}

/// Delays between restarts, by container name: ten seconds, doubled up to five minutes, forgotten after
/// ten minutes of running.
#[derive(Default)]
pub struct Crashes(HashMap<String, Duration>);

impl Crashes {
    /// `Err` with the whole delay and what is left of it.
    fn check(&mut self, name: &str, ran: Duration, ended_ago: Duration) -> Result<(), (Duration, Duration)> {
        let next = match self.0.get(name) {
            None => FIRST_DELAY,
            Some(_) if ran > 2 * LAST_DELAY => FIRST_DELAY,
            Some(delay) if ended_ago < *delay => return Err((*delay, *delay - ended_ago)),
            Some(delay) => (*delay * 2).min(LAST_DELAY),
        };
        self.0.insert(name.to_string(), next);
        Ok(())
    }
}

pub struct Launch<'a> {
    pub shared: &'a Arc<Shared>,
    pub pod: &'a Arc<Pod>,
    pub observed: &'a Observed,
    pub sandbox: &'a str,
    pub sandbox_config: &'a cri::PodSandboxConfig,
    pub addresses: &'a Addresses,
    pub volumes: &'a mut PodVolumes,
    pub images: &'a mut Images,
    pub crashes: &'a mut Crashes,
    /// The number of restarts the API knows of.
    pub restarts: Option<i32>,
}

struct Look<'a> {
    sources: Mutex<&'a mut Sources>,
    namespace: String,
}

impl env::Lookup for Look<'_> {
    async fn payload(&self, kind: Kind, name: &str) -> Result<Option<Arc<Payload>>> {
        let claim = self.sources.lock().claim(kind, &self.namespace, name)?;
        claim.get().await
    }
}

impl Launch<'_> {
    pub async fn run(mut self, start: &Start) -> Result<(), Failure> {
        let (container, target) = self.spec(start)?;
        if start.role != Role::Ephemeral {
            self.back_off(&container)?;
        }
        let image = self.image(&container).await?;
        let attempt = self.attempt(&container.name);
        let config = self.config(&container, target, image, attempt).await;
        let config = config.map_err(|error| self.failed(&container, "CreateContainerConfigError", &error))?;
        let id = self.create_and_start(&container, config, attempt).await?;
        self.post_start(&container, &id).await
    }

    fn spec(&self, start: &Start) -> Result<(Container, Option<String>), Failure> {
        let spec = self.pod.spec.as_ref();
        let ordinary = spec.and_then(|s| {
            let mut all = s.init_containers.iter().flatten().chain(&s.containers);
            all.find(|c| c.name == start.name).cloned()
        });
        if let Some(container) = ordinary {
            return Ok((container, None));
        }
        let ephemeral = spec.and_then(|s| s.ephemeral_containers.iter().flatten().find(|e| e.name == start.name));
        let Some(ephemeral) = ephemeral else {
            return Err(Failure::of(
                "CreateContainerConfigError",
                &anyhow::anyhow!("container {} is not in the pod", start.name),
            ));
        };
        let target = ephemeral.target_container_name.as_ref().and_then(|name| self.observed.current(name));
        Ok((spec::from_ephemeral(ephemeral), target.map(|seen| seen.id().to_string())))
    }

    fn back_off(&mut self, container: &Container) -> Result<(), Failure> {
        let Some(seen) = self.observed.latest(&container.name).filter(|s| s.phase == Phase::Exited) else {
            return Ok(());
        };
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let ran = between(seen.status.started_at, seen.status.finished_at).unwrap_or_default();
        let checked = self.crashes.check(&container.name, ran, ago(seen.status.finished_at, now));
        let Err((delay, left)) = checked else { return Ok(()) };
        let (name, namespace) = (self.pod.name_any(), self.pod.namespace().unwrap_or_default());
        let message = format!(
            "back-off {} restarting failed container={} pod={name}_{namespace}({})",
            minutes(delay),
            container.name,
            sandbox::uid(self.pod)
        );
        self.event(
            container,
            true,
            "BackOff",
            format!(
                "Back-off restarting failed container {} in pod {name}_{namespace}({})",
                container.name,
                sandbox::uid(self.pod)
            ),
        );
        Err(Failure { reason: "CrashLoopBackOff".into(), message, retry: left })
    }

    async fn image(&mut self, container: &Container) -> Result<image::Image, Failure> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let mut secrets = Vec::new();
        for name in image::pull_secrets(self.pod) {
            // a missing secret may still leave a public image: the pull decides
            if let Ok(claim) = self.volumes.sources.claim(Kind::Secret, &namespace, &name)
                && let Ok(Some(payload)) = claim.get().await
            {
                secrets.push(payload);
            }
        }
        let written = container.image.clone().unwrap_or_default();
        match self.images.ensure(&self.shared.cri, container, &secrets, self.sandbox_config).await {
            Ok(image) => {
                let message = match image.pulled {
                    Some(time) => format!("Successfully pulled image {written:?} in {} ms", time.as_millis()),
                    None => format!("Container image {written:?} already present on machine"),
                };
                self.event(container, false, "Pulled", message);
                Ok(image)
            }
            Err(refused) => {
                let reason = if refused.reason == "ImagePullBackOff" { "BackOff" } else { "Failed" };
                self.event(container, true, reason, refused.message.clone());
                Err(Failure { reason: refused.reason.into(), message: refused.message, retry: refused.retry })
            }
        }
    }

    fn attempt(&self, name: &str) -> u32 {
        let seen = self.observed.latest(name).map(|seen| seen.attempt() + 1);
        let known = self.restarts.and_then(|r| u32::try_from(r).ok()).map(|r| r + 1);
        seen.into_iter().chain(known).max().unwrap_or(0)
    }

    async fn config(
        &mut self,
        container: &Container,
        target: Option<String>,
        image: image::Image,
        attempt: u32,
    ) -> Result<cri::ContainerConfig> {
        if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
            anyhow::bail!("block devices (volumeDevices) are not supported by this kubelet");
        }
        let services = self.shared.services.state();
        let namespace = self.pod.namespace().unwrap_or_default();
        let look = Look { sources: Mutex::new(&mut self.volumes.sources), namespace };
        let env = env::build(&env::Inputs {
            pod: self.pod,
            container,
            addresses: self.addresses,
            services: &services,
            allocatable: &self.shared.allocatable,
            lookup: &look,
        })
        .await?;
        let config = &self.shared.config;
        let mounts = mounts::build(config, self.pod, container, self.volumes, &env, &self.addresses.pod_ips)?;
        let resolved = spec::Resolved {
            env,
            mounts,
            devices: Vec::new(),
            image_id: image.id,
            image_user: image.user,
            attempt,
            node_memory: self.shared.node_memory,
            unified: self.shared.cgroups.of_containers(),
            target,
        };
        spec::config(self.pod, container, resolved)
    }

    async fn create_and_start(
        &self,
        container: &Container,
        config: cri::ContainerConfig,
        attempt: u32,
    ) -> Result<String, Failure> {
        let runtime = &self.shared.cri;
        let created = runtime.create_container(self.sandbox, config, self.sandbox_config.clone()).await;
        let id = created.map_err(|error| self.failed(container, "CreateContainerError", &error))?;
        self.event(container, false, "Created", format!("Created container: {}", container.name));
        if let Err(error) = runtime.start_container(&id).await {
            return Err(self.failed(container, "RunContainerError", &error));
        }
        logs::link(&self.shared.config, self.pod, &container.name, attempt, &id);
        self.event(container, false, "Started", format!("Started container {}", container.name));
        Ok(id)
    }

    /// A failed hook ends the container; its restart is decided like any other.
    async fn post_start(&self, container: &Container, id: &str) -> Result<(), Failure> {
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return Ok(()) };
        let ip = self.addresses.pod_ips.first().cloned().unwrap_or_default();
        let target = Target { container_id: id.to_string(), ip };
        let shared = self.shared;
        let done =
            handler::hook(&shared.cri, &shared.http, &target, container, hook).await.context("PostStartHook failed");
        let Err(error) = done else { return Ok(()) };
        self.event(container, true, "FailedPostStartHook", format!("{error:#}"));
        shared.cri.stop_container(id, kill::grace(self.pod)).await.ok();
        Err(Failure { retry: Duration::ZERO, ..Failure::of("PostStartHookError", &error) })
    }

    fn failed(&self, container: &Container, reason: &str, error: &anyhow::Error) -> Failure {
        self.event(container, true, "Failed", format!("Error: {error:#}"));
        Failure::of(reason, error)
    }

    fn event(&self, container: &Container, warning: bool, reason: &'static str, message: String) {
        self.shared.recorder.pod(self.pod, Some(&container.name), warning, reason, message);
    }
}

/// From one time to another, in nanoseconds since 1970; `None` where the clock was set back in between.
fn between(from: i64, to: i64) -> Option<Duration> {
    u64::try_from(to.saturating_sub(from)).ok().map(Duration::from_nanos)
}

/// What ended in the future ended before the clock was set back, nobody knows when: as good as long ago, or its pod would wait until then.
fn ago(ended: i64, now: i64) -> Duration {
    between(ended, now).unwrap_or(Duration::MAX)
}

/// As Go prints durations: `10s`, `1m20s`, `5m0s`.
fn minutes(delay: Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_are_forgotten() {
        let mut crashes = Crashes::default();
        let s = Duration::from_secs;
        assert!(crashes.check("c", s(1), s(0)).is_ok());
        assert_eq!(crashes.check("c", s(1), s(3)), Err((s(10), s(7))));
        assert!(crashes.check("c", s(1), s(10)).is_ok());
        assert_eq!(crashes.check("c", s(1), s(0)), Err((s(20), s(20))));
        assert!(crashes.check("c", s(700), s(0)).is_ok());
        assert_eq!(crashes.check("c", s(1), s(0)), Err((s(10), s(10))));
        assert_eq!(minutes(s(80)), "1m20s");
    }

    #[test]
    fn nobody_waits_until_what_ended_before_the_clock_was_set_back() {
        let hour = 3_600_000_000_000;
        let mut crashes = Crashes::default();
        assert!(crashes.check("c", Duration::ZERO, ago(hour, 0)).is_ok());
        assert!(crashes.check("c", Duration::ZERO, ago(hour, 1)).is_ok(), "until the clock has caught up with it");
        assert_eq!(ago(hour, hour + 5), Duration::from_nanos(5));
    }
}
