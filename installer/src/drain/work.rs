//! Cordons a node and sees its pods off. Three watches drive it: the node's pods, the budgets that may allow what they forbade
//! before, and the node itself, whose kubelet may fall silent. Nothing is asked again without a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::Api;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use tokio::time::{Instant, sleep_until};

use super::Options;
use super::decide::{Obstacle, decide, is_going};
use super::eviction::{Answer, delete, evict};
use crate::api::wait::node_silent;

/// The node is empty but for what stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    pub evicted: usize,
    /// Of these, how many went against a budget.
    pub deleted: usize,
    pub stayed: usize,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drained: {} pods went, {} stay", self.evicted, self.stayed)
    }
}

/// Why the node is not empty. It stays cordoned.
#[derive(Debug)]
pub enum Stopped {
    /// Pods that need the operator's word; nothing was evicted.
    Held(Vec<(String, Obstacle)>),
    /// The time was up: what each pod waits for.
    TimeOut {
        after: Duration,
        waiting: Vec<(String, String)>,
        budgets: bool,
    },
    /// Pods are left, and the cluster hears nothing of the node's kubelet, which alone could say that they have ended.
    Silent,
    Failed(anyhow::Error),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(pods) => {
                f.write_str("these pods need your word and stay where they are:")?;
                pods.iter().try_for_each(|(pod, why)| write!(f, "\n    {pod}: {}", why.describe()))
            }
            Self::TimeOut { after, waiting, budgets } => {
                write!(f, "after {} s these pods are still there:", after.as_secs())?;
                waiting.iter().try_for_each(|(pod, why)| write!(f, "\n    {pod}: {why}"))?;
                if *budgets {
                    f.write_str(
                        "\n    let the budgets allow it (more replicas elsewhere), or give --timeout more; --force deletes \
                         these pods against their budgets when the time is up",
                    )?;
                }
                Ok(())
            }
            Self::Silent => f.write_str(
                "its kubelet has fallen silent, so nobody there ends pods; bring the host back, or take the node out",
            ),
            Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Cordons `node` and evicts what has to go, until it is gone or nobody is there to end it. `tell` gets a line for each step.
/// `client` must not repeat by itself what a budget refused ([`crate::api::Servers::open_unretried`]).
pub async fn drain(client: &Client, node: &str, options: &Options, tell: impl Fn(&str)) -> Result<Drained, Stopped> {
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.cordon(node).await.with_context(|| format!("cannot cordon the node {node}"))?;
    tell(&format!("{node}: cordoned"));
    let mut work = Work { client, options, tell: &tell, pods: BTreeMap::new(), asked: BTreeMap::new(), deleted: 0 };
    let end = Instant::now() + options.timeout;
    match tokio::time::timeout_at(end, work.follow(node)).await {
        Ok(result) => result,
        Err(_) if options.force && work.delete_what_budgets_hold().await => {
            let end = Instant::now() + LAST;
            tokio::time::timeout_at(end, work.follow(node)).await.unwrap_or_else(|_| Err(work.time_out()))
        }
        Err(_) => Err(work.time_out()),
    }
}

/// What pods that were deleted against their budgets get for their end: the usual grace and some more.
const LAST: Duration = Duration::from_secs(60);

/// What is known of a pod that has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Going,
    /// A budget forbade it; `again`: budgets have changed since.
    Waits {
        budget: String,
        again: bool,
    },
    Busy {
        until: Instant,
    },
}

struct Work<'a, T> {
    client: &'a Client,
    options: &'a Options,
    tell: &'a T,
    /// The node's pods, by uid.
    pods: BTreeMap<String, Pod>,
    asked: BTreeMap<String, Asked>,
    deleted: usize,
}

impl<T: Fn(&str)> Work<'_, T> {
    /// Until nothing is left that has to go.
    async fn follow(&mut self, node: &str) -> Result<Drained, Stopped> {
        let itself = Config::default().fields(&format!("metadata.name={node}"));
        let nodes = watcher(Api::<Node>::all(self.client.clone()), itself).default_backoff();
        let of_node = Config::default().fields(&format!("spec.nodeName={node}"));
        let pods = watcher(Api::<Pod>::all(self.client.clone()), of_node).default_backoff();
        let budgets =
            watcher(Api::<PodDisruptionBudget>::all(self.client.clone()), Config::default()).default_backoff();
        pin_mut!(nodes, pods, budgets);
        let mut listing = BTreeSet::new();
        let (mut synced, mut silent) = (false, false);
        loop {
            let busy = self.earliest_busy();
            tokio::select! {
                event = pods.next() => match event {
                    Some(Ok(Event::Init)) => { listing.clear(); synced = false; }
                    Some(Ok(Event::InitApply(pod))) => { listing.insert(uid(&pod)); self.pods.insert(uid(&pod), pod); }
                    Some(Ok(Event::InitDone)) => { self.pods.retain(|uid, _| listing.contains(uid)); synced = true; }
                    Some(Ok(Event::Apply(pod))) => drop(self.pods.insert(uid(&pod), pod)),
                    Some(Ok(Event::Delete(pod))) => self.gone(&pod),
                    // the stream goes on by itself, with back-off
                    Some(Err(error)) => tracing::debug!("watch of pods: {error}"),
                    None => return Err(anyhow::anyhow!("the watch of the node's pods ended").into()),
                },
                event = budgets.next() => match event {
                    Some(Ok(Event::Apply(budget) | Event::InitApply(budget) | Event::Delete(budget))) => {
                        self.ask_again(budget.metadata.namespace.as_deref());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => tracing::debug!("watch of budgets: {error}"),
                    None => return Err(anyhow::anyhow!("the watch of the disruption budgets ended").into()),
                },
                event = nodes.next() => match event {
                    Some(Ok(Event::Apply(node) | Event::InitApply(node))) => silent = node_silent(&node),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => tracing::debug!("watch of the node: {error}"),
                    None => return Err(anyhow::anyhow!("the watch of the node ended").into()),
                },
                () = sleep_until(busy.unwrap_or_else(Instant::now)), if busy.is_some() => {
                    self.asked.retain(|_, asked| !matches!(asked, Asked::Busy { until } if *until <= Instant::now()));
                }
            }
            if synced && let Some(drained) = self.step().await? {
                return Ok(drained);
            }
            if synced && silent {
                return Err(Stopped::Silent);
            }
        }
    }

    /// Asks for every pod that was not asked for yet. Gives a result when none is left.
    async fn step(&mut self) -> Result<Option<Drained>, Stopped> {
        let decision = decide(self.pods.values(), self.options);
        if !decision.held.is_empty() {
            return Err(Stopped::Held(decision.held.iter().map(|(pod, why)| (name(pod), *why)).collect()));
        }
        for pod in &decision.go {
            if !matches!(self.asked.get(&uid(pod)), None | Some(Asked::Waits { again: true, .. })) {
                continue;
            }
            let asked = if is_going(pod) { Asked::Going } else { self.ask(pod).await? };
            self.asked.insert(uid(pod), asked);
        }
        let evicted = self.asked.values().filter(|asked| **asked == Asked::Going).count();
        let done = Drained { evicted, deleted: self.deleted, stayed: decision.stay.len() };
        Ok(decision.go.is_empty().then_some(done))
    }

    async fn ask(&self, pod: &Pod) -> Result<Asked, Stopped> {
        match evict(self.client, pod).await {
            Answer::Going => {
                (self.tell)(&format!("evicted {}", name(pod)));
                Ok(Asked::Going)
            }
            Answer::Budget(budget) => {
                (self.tell)(&format!("{} waits: {budget}", name(pod)));
                Ok(Asked::Waits { budget, again: false })
            }
            Answer::Busy(seconds) => Ok(Asked::Busy { until: Instant::now() + Duration::from_secs(seconds) }),
            Answer::Refused(why) => Err(anyhow::anyhow!("cannot evict {}: {why}", name(pod)).into()),
        }
    }

    /// A budget has changed: who waited in its namespace asks again. Until there is an answer, the last one holds.
    fn ask_again(&mut self, namespace: Option<&str>) {
        for (uid, asked) in &mut self.asked {
            let there = self.pods.get(uid).is_some_and(|pod| pod.metadata.namespace.as_deref() == namespace);
            if let Asked::Waits { again, .. } = asked {
                *again |= there;
            }
        }
    }

    fn gone(&mut self, pod: &Pod) {
        if self.pods.remove(&uid(pod)).is_some() && self.asked.contains_key(&uid(pod)) {
            self.asked.insert(uid(pod), Asked::Going);
        }
    }

    fn earliest_busy(&self) -> Option<Instant> {
        self.asked
            .values()
            .filter_map(|asked| if let Asked::Busy { until } = asked { Some(*until) } else { None })
            .min()
    }

    /// Whether there was something to delete, and all of it could be.
    async fn delete_what_budgets_hold(&mut self) -> bool {
        let held: Vec<_> = self.pods.values().filter(|pod| self.budget_of(pod).is_some()).cloned().collect();
        for pod in &held {
            if delete(self.client, pod).await != Answer::Going {
                return false;
            }
            (self.tell)(&format!("deleted {} against its budget", name(pod)));
            self.asked.insert(uid(pod), Asked::Going);
            self.deleted += 1;
        }
        !held.is_empty()
    }

    fn budget_of(&self, pod: &Pod) -> Option<&str> {
        match self.asked.get(&uid(pod)) {
            Some(Asked::Waits { budget, .. }) => Some(budget),
            _ => None,
        }
    }

    fn time_out(&self) -> Stopped {
        let decision = decide(self.pods.values(), self.options);
        let reason = |pod: &Pod| match self.asked.get(&uid(pod)) {
            Some(Asked::Waits { budget, .. }) => budget.clone(),
            Some(Asked::Going) => "it was told to end and does not, or its kubelet does not say so".to_owned(),
            Some(Asked::Busy { .. }) => "the API server has too much to do".to_owned(),
            None => "the API server did not answer".to_owned(),
        };
        Stopped::TimeOut {
            after: self.options.timeout,
            budgets: decision.go.iter().any(|pod| self.budget_of(pod).is_some()),
            waiting: decision.go.iter().map(|pod| (name(pod), reason(pod))).collect(),
        }
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or("default"), pod.name_any())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_a_budget_holds_is_known_until_it_has_said_something_else() {
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("default".into());
        pod.metadata.uid = Some("u".into());
        let waits = Asked::Waits { budget: "the budget db".into(), again: false };
        let mut work = Work {
            client: &client,
            options: &Options { force: true, delete_empty_dir_data: false, timeout: Duration::ZERO },
            tell: &|_: &str| {},
            pods: BTreeMap::from([(uid(&pod), pod.clone())]),
            asked: BTreeMap::from([(uid(&pod), waits.clone())]),
            deleted: 0,
        };
        work.ask_again(Some("other"));
        assert_eq!(work.asked[&uid(&pod)], waits);
        work.ask_again(Some("default"));
        assert!(matches!(work.asked[&uid(&pod)], Asked::Waits { again: true, .. }));
        // no answer yet, and the time is up: `--force` means this pod
        assert_eq!(work.budget_of(&pod), Some("the budget db"));
    }
}
