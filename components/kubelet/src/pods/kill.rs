//! Ending containers: preStop, TERM, KILL, within the grace period.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;

use super::Shared;
use super::resources::is_sidecar;
use crate::cri::observe::{Container as Seen, Observed};
use crate::probes::handler::{self, Target};

/// After a preStop hook at least this is left to the process itself.
const MINIMUM_AFTER_HOOK: i64 = 2;

/// Containers whose preStop hook has run: it runs once, even if the grace period is changed midway.
pub type HooksDone = Arc<Mutex<HashSet<String>>>;

pub struct Killer<'a> {
    pub shared: &'a Shared,
    pub pod: &'a Pod,
    pub ip: String,
    pub hooks: HooksDone,
}

impl Killer<'_> {
    /// Ends all that runs: ordinary containers together, then sidecars in reverse order.
    pub async fn all(&self, observed: &Observed, grace: i64, reason: &str) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let (sidecars, ordinary): (Vec<&Seen>, Vec<&Seen>) = observed.running().partition(|c| self.is_sidecar(c));
        let results = join_all(ordinary.iter().map(|c| self.one(c, grace, reason))).await;
        results.into_iter().collect::<Result<Vec<()>>>()?;
        let mut ordered = sidecars;
        ordered.sort_by_key(|c| std::cmp::Reverse(self.position(c)));
        for sidecar in ordered {
            let left = i64::try_from(until.saturating_duration_since(Instant::now()).as_secs()).unwrap_or(0);
            self.one(sidecar, left.max(1), reason).await?;
        }
        Ok(())
    }

    pub async fn one(&self, seen: &Seen, grace: i64, reason: &str) -> Result<()> {
        let name = seen.status.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        let message = if reason.is_empty() { format!("Stopping container {name}") } else { reason.to_string() };
        self.shared.recorder.pod(self.pod, Some(&name), false, "Killing", message);
        let started = Instant::now();
        let hooked = grace > 0 && self.pre_stop(seen, &name, grace).await;
        let spent = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
        let left = if hooked { (grace - spent).max(MINIMUM_AFTER_HOOK) } else { grace };
        self.shared.cri.stop_container(seen.id(), left).await
    }

    /// True if there was a hook.
    async fn pre_stop(&self, seen: &Seen, name: &str, grace: i64) -> bool {
        let Some(container) = self.spec(name) else { return false };
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else { return false };
        if self.hooks.lock().contains(seen.id()) {
            return true;
        }
        let target = Target { container_id: seen.id().to_string(), ip: self.ip.clone() };
        let run = handler::hook(&self.shared.cri, &self.shared.http, &target, container, hook);
        let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let outcome = tokio::time::timeout(limit, run).await;
        self.hooks.lock().insert(seen.id().to_string());
        let failure = match outcome {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => format!("PreStopHook failed: {error:#}"),
            Err(_) => format!("PreStopHook did not end within {grace} s"),
        };
        self.shared.recorder.pod(self.pod, Some(name), true, "FailedPreStopHook", failure);
        true
    }

    fn spec(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.init_containers.iter().flatten().chain(&spec.containers).find(|c| c.name == name)
    }

    fn is_sidecar(&self, seen: &Seen) -> bool {
        let name = seen.status.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
        self.spec(name).is_some_and(is_sidecar)
    }

    fn position(&self, seen: &Seen) -> Option<usize> {
        let name = &seen.status.metadata.as_ref()?.name;
        self.pod.spec.as_ref()?.init_containers.as_ref()?.iter().position(|c| &c.name == name)
    }
}

/// The time a pod has to end: what the API decided, or the spec's, never less than a second.
pub fn grace(pod: &Pod) -> i64 {
    let decided = pod.metadata.deletion_grace_period_seconds;
    let wanted = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    decided.or(wanted).unwrap_or(30).max(1)
}
