//! The scheduler: gives every pending pod a node.
//!
//! In: watches of pods, nodes, namespaces, claims, volumes, storage classes and disruption budgets. Out: `pods/binding`, Events,
//! `PodScheduled` conditions, the claims' `volume.kubernetes.io/selected-node` annotation, and deletions of preempted pods.
//! A client of the Kubernetes API and nothing else: it runs against any API server.
//!
//! One task owns all state ([`cluster::Cluster`], [`queue::Queue`]) and decides; writes run beside it and report back, so nothing is
//! locked and a decision always sees every earlier decision. Behaviour follows upstream's default profile
//! (<https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins>).

pub mod affinity;
pub mod cluster;
pub mod cycle;
mod engine;
pub mod filters;
pub mod preemption;
pub mod quantity;
pub mod queue;
pub mod resources;
pub mod scores;
pub mod selectors;
pub mod spread;
mod table;
pub mod volumes;
mod writer;

#[cfg(test)]
mod testing;

// the code of kinds that others use too comes from there (see client::kinds)
use client as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What can be set; the defaults are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Only pods with this `spec.schedulerName` are scheduled; also the events' `reportingController`.
    pub scheduler_name: String,
    /// The events' `reportingInstance`; several instances of the scheduler are told apart by it.
    pub instance: String,
    /// Seconds a pod waits for its claims to be bound before its node is decided anew.
    pub bind_timeout_seconds: u64,
    /// Milliseconds a pod waits after its first failed attempt; doubles with each further one.
    pub initial_backoff_milliseconds: u64,
    /// The longest such wait in milliseconds.
    pub max_backoff_milliseconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".into(),
            instance: "default-scheduler".into(),
            bind_timeout_seconds: 600,
            initial_backoff_milliseconds: 1_000,
            max_backoff_milliseconds: 10_000,
        }
    }
}

impl Config {
    fn backoff(&self) -> queue::Backoff {
        queue::Backoff {
            initial: Duration::from_millis(self.initial_backoff_milliseconds),
            max: Duration::from_millis(self.max_backoff_milliseconds),
        }
    }
}

/// Schedules pods until `shutdown` resolves. Waits for the API server by itself: a refused watch is retried with back-off.
pub async fn run(client: kube::Client, config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    engine::Engine::new(client, config).run(shutdown).await
}
