//! Watches the API and keeps the kernel in step.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use client::mirror::Mirror;
use futures::stream::select_all;
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

use crate::config::Config;
use crate::health::{Health, Servers};
use crate::model::{Node, Service, Slice, State};
use crate::sync::Syncer;
use crate::table;

/// A transaction the kernel refused is tried again after this, unless something changes before.
const RETRY: Duration = Duration::from_secs(2);

/// One at a time, on its way from a watch to a mirror: its size does not matter.
#[allow(clippy::large_enum_variant)]
enum Update {
    Service(Event<core::Service>),
    Slice(Event<discovery::EndpointSlice>),
    Node(Event<core::Node>),
}

/// Never returns but by an error at the start.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let health = Health::starting();
    let mut servers = Servers::default();
    servers
        .serve_healthz(config.healthz_bind_address, health.clone())
        .await
        .with_context(|| format!("cannot serve healthz on {}", config.healthz_bind_address))?;
    let mut seen = Seen::new(&config);
    crate::route_service_cidr(&seen.node).context("cannot set the route of the Service CIDR")?;
    let client = client::from_kubeconfig(&config.kubeconfig).await?;
    // The API server may start later than this node; what depends on the rules asks healthz.
    notify::ready();

    let mut updates = updates(&client, &config.node_name);
    let mut checks = tokio::time::interval(config.route_check());
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let changed = Arc::new(Notify::new());
    let notifier = changed.clone();
    netlink::changes::watch(move || notifier.notify_one()).context("cannot listen for changes of the routes")?;
    let mut syncer = Syncer::default();
    let mut failed = false;
    loop {
        tokio::select! {
            Some(update) = updates.next() => seen.take(update),
            () = due(&mut checks, &changed) => {
                check_route(&seen.node);
                if !failed {
                    continue;
                }
            }
            () = tokio::time::sleep(RETRY), if failed => {}
        }
        // Whatever else has arrived belongs to the same transaction.
        while let Some(Some(update)) = updates.next().now_or_never() {
            seen.take(update);
        }
        if !seen.complete() {
            continue;
        }
        let state = State {
            services: std::mem::take(&mut seen.services.objects),
            slices: std::mem::take(&mut seen.slices.objects),
        };
        let desired = table::desired(&seen.node, &state);
        State { services: seen.services.objects, slices: seen.slices.objects } = state;
        servers.set_checks(&desired.health_checks).await;
        let result = syncer.apply(desired, config.node_ip);
        failed = result.is_err();
        health.set(result.err().map(|error| {
            tracing::error!("{error:#}");
            format!("{error:#}")
        }));
    }
}

/// When the kernel says that something has changed, and now and then.
async fn due(checks: &mut Interval, changed: &Notify) {
    tokio::select! {
        _ = checks.tick() => {}
        () = changed.notified() => {}
    }
}

/// The kernel drops the route without a word when the host's addresses change; others take away what they did not make.
fn check_route(node: &Node) {
    match crate::route_service_cidr(node) {
        Ok(false) => {}
        Ok(true) => tracing::info!("the route of the Service CIDR was set again"),
        Err(error) => tracing::warn!(%error, "cannot set the route of the Service CIDR"),
    }
}

/// The mirrors of what the rules depend on.
struct Seen {
    services: Mirror<Service>,
    slices: Mirror<Slice>,
    node: Node,
}

impl Seen {
    fn new(config: &Config) -> Self {
        let node = Node {
            name: config.node_name.clone(),
            ip: config.node_ip,
            zone: None,
            cluster_cidr: config.cluster_cidr,
            service_cidr: config.service_cidr,
            node_port_addresses: config.node_port_addresses.clone(),
        };
        Self { services: Mirror::default(), slices: Mirror::default(), node }
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Service(event) => self.services.apply(event, Service::reduce),
            Update::Slice(event) => self.slices.apply(event, Slice::reduce),
            Update::Node(Event::Apply(node) | Event::InitApply(node)) => {
                self.node.zone = node.metadata.labels.unwrap_or_default().remove("topology.kubernetes.io/zone");
            }
            Update::Node(_) => {}
        }
    }

    fn complete(&self) -> bool {
        self.services.complete && self.slices.complete
    }
}

fn updates(client: &Client, node_name: &str) -> impl Stream<Item = Update> + Unpin + use<> {
    const NOT_OURS: &str = "!service.kubernetes.io/service-proxy-name";
    const HEADLESS: &str = "!service.kubernetes.io/headless";
    let services = watcher(Api::<core::Service>::all(client.clone()), watcher::Config::default().labels(NOT_OURS));
    let slices = watcher(
        Api::<discovery::EndpointSlice>::all(client.clone()),
        watcher::Config::default().labels(&format!("{HEADLESS},{NOT_OURS}")),
    );
    let nodes = watcher(
        Api::<core::Node>::all(client.clone()),
        watcher::Config::default().fields(&format!("metadata.name={node_name}")),
    );
    select_all([
        good(services.default_backoff(), Update::Service).boxed(),
        good(slices.default_backoff(), Update::Slice).boxed(),
        good(nodes.default_backoff(), Update::Node).boxed(),
    ])
}

/// A watch that fails is taken up again by itself; the rules stay as they are meanwhile.
fn good<K: Send + 'static>(
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    wrap: fn(Event<K>) -> Update,
) -> impl Stream<Item = Update> + Send + 'static {
    stream.filter_map(move |event| {
        std::future::ready(match event {
            Ok(event) => Some(wrap(event)),
            Err(error) => {
                tracing::warn!(%error, "a watch failed and is taken up again");
                None
            }
        })
    })
}
