//! Whether a host is well after its components were restarted: asked of the host, of its API server and of the cluster, and
//! proven by a pod ([`proof`]).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use hoststate::wire::{Action, Change};
use hoststate::{Event, HostState};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher::Config;

use super::proof::{self, Proof};
use crate::api::{Servers, wait};
use crate::commands::fleet::Member;
use crate::desired::KUBELET;
use crate::printer::Printer;

/// Kubelets renew every ten seconds; one that is silent for so long is counted as gone by the cluster too.
const SILENCE: Duration = Duration::from_secs(40);

/// From when on a kubelet's answer is its new process' answer, by the clock of its host.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    skew_millis: i64,
    /// Milliseconds since the Unix epoch.
    restarted: Option<i64>,
}

impl Since {
    pub fn new(member: &Member<'_>) -> Self {
        Self { skew_millis: member.clock_skew_millis, restarted: None }
    }

    /// Notes when the kubelet is told to restart.
    pub fn see(&mut self, event: &Event) {
        if let Event::Step { resource, finished: false, .. } = event
            && resource.strip_prefix("unit ") == Some(KUBELET)
        {
            self.restarted = Some(self.now());
        }
    }

    fn now(&self) -> i64 {
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(ours.as_millis()).unwrap_or(i64::MAX).saturating_add(self.skew_millis)
    }

    /// Milliseconds; an answer that is older says nothing.
    fn millis(&self) -> i64 {
        self.restarted.unwrap_or_else(|| self.now() - i64::try_from(SILENCE.as_millis()).unwrap_or(0))
    }
}

/// What one host is asked.
pub struct Gate<'a> {
    pub printer: &'a Printer,
    pub servers: Servers,
    /// Of a server that the host's restart does not take away, where there is one.
    pub client: &'a Client,
    pub since: Since,
    /// For each of the questions.
    pub timeout: Duration,
    /// Of the pod that is to prove that the node can start one; None: nothing has changed that starts pods.
    pub proof: Option<String>,
}

impl Gate<'_> {
    /// Waits until the host is well.
    ///
    /// # Errors
    /// What is not well when the time is up.
    pub async fn pass(self, member: &mut Member<'_>, state: &HostState) -> anyhow::Result<()> {
        let (name, control_plane) = (member.host.name.clone(), member.host.control_plane);
        let well = async {
            if control_plane {
                self.servers.on(&name).ready(self.timeout).await.context("its API server is not ready")?;
            }
            node_is_ready(self.client, &name, self.since, self.timeout).await
        };
        while_there(member, well).await?;
        if member.facts.store.joined {
            let members = member.session.members().await?;
            let peer_url = member.host.etcd_peer_url();
            let own = members.iter().find(|member| member.peer_urls.contains(&peer_url));
            if !own.is_some_and(|own| own.healthy && !own.learner) {
                bail!("its member of etcd is not healthy");
            }
        }
        if let Some(image) = &self.proof
            && let Proof::NotTaken(why) = proof::start(self.client, &name, image, self.timeout).await?
        {
            let text = format!("{name}: takes no pod that would prove that it can start one: {why}");
            self.printer.warning(&text);
        }
        // last, so that a unit that has ended meanwhile is seen
        let changes = member.session.plan(state).await?;
        let left: Vec<_> = changes.iter().filter(|change| change.action != Action::None).map(describe).collect();
        if !left.is_empty() {
            bail!("it is not as it was brought to be: {}", left.join("; "));
        }
        Ok(())
    }
}

/// Work that is in vain when the host goes.
pub async fn while_there<T>(
    member: &mut Member<'_>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = member.session.lost() => bail!("the connection to the host ended while its components started"),
    }
}

fn describe(change: &Change) -> String {
    let detail = change.detail.lines().next().unwrap_or_default();
    format!("{} {detail}", change.resource).trim_end().to_owned()
}

/// The kubelet has renewed its Lease, and has said that the node is Ready, since its restart.
pub async fn node_is_ready(client: &Client, name: &str, since: Since, timeout: Duration) -> anyhow::Result<()> {
    let only = || Config::default().fields(&format!("metadata.name={name}"));
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let renewed = |lease: &Lease| {
        let time = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        time.is_some_and(|time| time.0.as_millisecond() >= since.millis())
    };
    if wait::until(leases, only(), timeout, |found| found.values().any(renewed)).await.is_err() {
        bail!("its kubelet has not renewed its Lease within {} s", timeout.as_secs());
    }
    let nodes: Api<Node> = Api::all(client.clone());
    let ready = |node: &Node| {
        let is_new = |condition: &NodeCondition| match since.restarted {
            // conditions have whole seconds
            Some(millis) => {
                condition.last_heartbeat_time.as_ref().is_some_and(|time| time.0.as_second() >= millis.div_euclid(1000))
            }
            None => true,
        };
        wait::ready_condition(node).is_some_and(|condition| condition.status == "True" && is_new(condition))
    };
    match wait::until(nodes, only(), timeout, |found| found.values().any(ready)).await {
        Ok(_) => Ok(()),
        Err(found) => bail!("its node is not Ready after {} s: {}", timeout.as_secs(), says(found.values().next())),
    }
}

/// Waits until the cluster hears of the node's kubelet, or the time is up.
pub async fn heard(client: &Client, name: &str, within: Duration) {
    let only = Config::default().fields(&format!("metadata.name={name}"));
    let heard = |node: &Node| !wait::node_silent(node);
    let _ = wait::until(Api::<Node>::all(client.clone()), only, within, |found| found.values().any(heard)).await;
}

/// What the node says of itself.
fn says(node: Option<&Node>) -> String {
    match node.and_then(wait::ready_condition) {
        Some(condition) => condition.message.clone().unwrap_or_else(|| condition.status.clone()),
        None => "it has not said anything".to_owned(),
    }
}
