//! Watches the API and keeps routes and policies in step.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use client::mirror::Mirror;
use futures::stream::select_all;
use futures::{FutureExt, Stream, StreamExt};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use netlink::nftables::{self, Batch};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::config::Config;
use super::overlay::Peer;
use super::{cache, conflist, masquerade, overlay, policy};

/// What the kernel refused is tried again after this, unless something changes before.
const RETRY: Duration = Duration::from_secs(2);
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// One at a time, on its way from a watch to a mirror: its size does not matter.
#[allow(clippy::large_enum_variant)]
enum Update {
    Node(Event<core::Node>),
    Pod(Event<core::Pod>),
    Namespace(Event<core::Namespace>),
    Policy(Event<networking::NetworkPolicy>),
}

/// Never returns but by an error at the start.
pub async fn run(config: Config) -> anyhow::Result<()> {
    require_forwarding()?;
    let plugin = config.cni_bin_dir.join("kinstall-cni");
    if !plugin.exists() {
        tracing::warn!(path = %plugin.display(), "the network plugin is not there; no pod can start before it is");
    }
    if !policies_are_enforced()? {
        // The runtime would start pods that no policy guards.
        conflist::remove(&config)?;
    }
    // the runtime is not ours to hold up
    if let Err(error) = cache::remove_torn(cache::DIRECTORY.as_ref()) {
        tracing::error!("cannot look through {}: {error}", cache::DIRECTORY);
    }
    masquerade::ensure(config.cluster_cidr).context("cannot write the masquerading table")?;
    let client = client::from_kubeconfig(&config.kubeconfig).await?;
    // The API server may start later than this node; the node becomes Ready only with the plugin's configuration.
    notify::ready();

    let mut updates = updates(&client);
    let mut checks = tokio::time::interval(config.route_check());
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let changed = Arc::new(Notify::new());
    let notifier = changed.clone();
    netlink::changes::watch(move || notifier.notify_one()).context("cannot listen for changes of the network")?;
    let mut agent = Agent::default();
    loop {
        tokio::select! {
            Some(update) = updates.next() => agent.seen.extend(Some(update)),
            _ = checks.tick() => agent.check_network = true,
            () = changed.notified() => agent.check_network = true,
            () = tokio::time::sleep(RETRY), if agent.failed => {}
        }
        while let Some(Some(update)) = updates.next().now_or_never() {
            agent.seen.extend(Some(update));
        }
        let result = agent.sync(&config);
        agent.failed = result.is_err();
        if let Err(error) = result {
            tracing::error!("{error:#}");
        }
    }
}

/// Whether an agent has written the policies since the machine started: the table outlives the agent, not the kernel.
fn policies_are_enforced() -> anyhow::Result<bool> {
    let mut probe = Batch::new();
    probe.create_table_exclusively(policy::TABLE);
    probe.delete_table(policy::TABLE);
    match probe.commit() {
        Ok(()) => Ok(false),
        Err(error) if error.is_exists() => Ok(true),
        Err(error) => Err(error).context("cannot ask for the policy table"),
    }
}

/// The installer sets it; if something unset it, no pod would have a network.
fn require_forwarding() -> anyhow::Result<()> {
    let now = std::fs::read_to_string(IP_FORWARD).with_context(|| format!("cannot read {IP_FORWARD}"))?;
    if now.trim() == "1" {
        return Ok(());
    }
    tracing::warn!("IPv4 forwarding was off; turning it on");
    std::fs::write(IP_FORWARD, "1").with_context(|| format!("cannot set {IP_FORWARD}: set net.ipv4.ip_forward=1"))
}

/// The mirrors of what the network depends on.
#[derive(Default)]
struct Seen {
    nodes: Mirror<NodeInfo>,
    pods: Mirror<policy::Pod>,
    namespaces: Mirror<policy::Namespace>,
    policies: Mirror<policy::Policy>,
}

#[derive(Clone, Debug, PartialEq)]
struct NodeInfo {
    ip: Option<Ipv4Addr>,
    pod_cidr: Ipv4Net,
}

impl NodeInfo {
    fn reduce(node: &core::Node) -> Option<Self> {
        let spec = node.spec.as_ref()?;
        let cidrs = spec.pod_cidr.iter().chain(spec.pod_cidrs.iter().flatten());
        let pod_cidr = cidrs.filter_map(|cidr| cidr.parse::<Ipv4Net>().ok()).next()?.trunc();
        let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref()).into_iter().flatten();
        let ip = addresses.filter(|a| a.type_ == "InternalIP").find_map(|a| a.address.parse().ok());
        Some(Self { ip, pod_cidr })
    }
}

impl Extend<Update> for Seen {
    fn extend<I: IntoIterator<Item = Update>>(&mut self, updates: I) {
        for update in updates {
            match update {
                Update::Node(event) => self.nodes.apply(event, NodeInfo::reduce),
                Update::Pod(event) => self.pods.apply(event, policy::Pod::reduce),
                Update::Namespace(event) => self.namespaces.apply(event, policy::Namespace::reduce),
                Update::Policy(event) => self.policies.apply(event, policy::Policy::reduce),
            }
        }
    }
}

#[derive(Default)]
struct Agent {
    seen: Seen,
    /// The network the kernel was given: own podCIDR and peers; with them, the pods' MTU.
    network: Option<((Ipv4Net, Vec<Peer>), u32)>,
    /// The kernel is to be asked whether it still has that network.
    check_network: bool,
    /// The policy table the kernel has.
    policies: Option<nftables::Table>,
    failed: bool,
}

impl Agent {
    fn sync(&mut self, config: &Config) -> anyhow::Result<()> {
        let network = self.sync_network(config);
        let policies = self.sync_policies(config);
        network.and(policies)?;
        self.invite_pods(config)
    }

    fn sync_network(&mut self, config: &Config) -> anyhow::Result<()> {
        let nodes = &self.seen.nodes;
        let own = nodes.objects.get(&(String::new(), config.node_name.clone()));
        let (true, Some(own)) = (nodes.complete, own) else { return Ok(()) };
        let others = nodes.objects.iter().filter(|((_, name), _)| *name != config.node_name);
        let mut peers: Vec<_> =
            others.filter_map(|(_, node)| Some(Peer { ip: node.ip?, pod_cidr: node.pod_cidr })).collect();
        peers.retain(|peer| peer.ip != config.node_ip);
        peers.sort_unstable();
        let wanted = (own.pod_cidr, peers);
        let given = self.network.as_ref().is_some_and(|(network, _)| *network == wanted);
        if given && !self.check_network {
            return Ok(());
        }
        self.network = None;
        let mtu = overlay::ensure(config, wanted.0, &wanted.1).context("cannot connect to the other nodes")?;
        if self.check_network {
            let pods = crate::restore_routes(&config.data_dir, config.node_ip)?;
            if pods > 0 {
                tracing::info!(pods, "routes to this node's pods were set again");
            }
        }
        self.network = Some((wanted, mtu));
        self.check_network = false;
        Ok(())
    }

    /// Pods may come once they are connected and guarded; the runtime starts them as soon as this file is there.
    fn invite_pods(&self, config: &Config) -> anyhow::Result<()> {
        match (&self.network, &self.policies) {
            (Some(((pod_cidr, _), mtu)), Some(_)) => conflist::write(config, *pod_cidr, *mtu),
            _ => Ok(()),
        }
    }

    fn sync_policies(&mut self, config: &Config) -> anyhow::Result<()> {
        let Seen { pods, namespaces, policies, .. } = &mut self.seen;
        if !(pods.complete && namespaces.complete && policies.complete) {
            return Ok(());
        }
        // The state is lent to the pure function and taken back, so that nothing is copied.
        let state = policy::State {
            pods: std::mem::take(&mut pods.objects),
            namespaces: std::mem::take(&mut namespaces.objects),
            policies: std::mem::take(&mut policies.objects),
        };
        let table = policy::desired(&state, &config.node_name);
        (pods.objects, namespaces.objects, policies.objects) = (state.pods, state.namespaces, state.policies);
        match self.policies.take() {
            None => nftables::replace(&table),
            Some(before) => nftables::update(&before, &table).map(drop).or_else(|error| {
                tracing::warn!(%error, "an update of the policy table failed; exchanging the whole table");
                nftables::replace(&table)
            }),
        }
        .context("cannot write the policy table")?;
        self.policies = Some(table);
        Ok(())
    }
}

fn updates(client: &Client) -> impl Stream<Item = Update> + Unpin + use<> {
    fn watch<K>(client: &Client, wrap: fn(Event<K>) -> Update) -> futures::stream::BoxStream<'static, Update>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Send
            + Sync
            + serde::de::DeserializeOwned
            + 'static,
    {
        let stream = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
        // A watch that fails is taken up again by itself; the kernel keeps what it has meanwhile.
        let good = stream.filter_map(move |event| {
            std::future::ready(
                event.map(wrap).map_err(|error| tracing::warn!(%error, "a watch failed and is taken up again")).ok(),
            )
        });
        good.boxed()
    }
    select_all([
        watch(client, Update::Node),
        watch(client, Update::Pod),
        watch(client, Update::Namespace),
        watch(client, Update::Policy),
    ])
}
