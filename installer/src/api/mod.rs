//! The cluster's API from outside: connect to the server that answers, apply objects, wait by watch. Speaks only the Kubernetes API
//! (kube, over the components' own client, which notices a host that is gone without a word).

pub mod apply;
mod difference;
pub mod node;
pub mod prune;
pub mod wait;

use std::time::{Duration, Instant};

use ::client::Patience;
use anyhow::{Context as _, anyhow, bail};
use futures::FutureExt as _;
use futures::future::select_ok;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use apply::{Applier, Outcome};

use crate::cluster::Cluster;

/// A host that loses power while it is spoken to answers nothing any more, not even an end. Whoever waits for an answer is told
/// after these two.
const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(3), ping: Duration::from_secs(5), answer: Duration::from_secs(5) };

/// The administrator's ways in: a client for each context of a kubeconfig.
pub struct Servers(Vec<(String, Client)>);

/// The server that was ready first.
#[derive(Clone)]
pub struct Server {
    /// Its context in the kubeconfig.
    pub context: String,
    pub client: Client,
}

impl Server {
    /// As [`Applier::apply`]; an error says on which host the server is.
    pub async fn apply(&self, cluster: &Cluster, objects: &[Value]) -> anyhow::Result<Vec<(String, Outcome)>> {
        let applied = Applier::new(self.client.clone()).apply(objects).await;
        applied.with_context(|| self.named(cluster))
    }

    /// In words: which of all it is.
    pub fn named(&self, cluster: &Cluster) -> String {
        format!("the API server on {}", self.host(cluster))
    }

    /// The only control plane has no context of its own.
    fn host<'a>(&'a self, cluster: &'a Cluster) -> &'a str {
        let named = host_of(&self.context).unwrap_or_default();
        let mut hosts = cluster.hosts.iter().filter(|host| host.control_plane).map(|host| host.name.as_str());
        let first = hosts.clone().next().unwrap_or(named);
        hosts.find(|name| *name == named).unwrap_or(first)
    }
}

/// Whom a context names: the host of one of several control planes, the administrator where there is one.
fn host_of(context: &str) -> Option<&str> {
    context.split_once('@').map(|(host, _)| host)
}

impl Servers {
    /// From a kubeconfig's text.
    pub async fn open(kubeconfig: &str) -> anyhow::Result<Self> {
        Self::with(kubeconfig, true).await
    }

    /// As [`Servers::open`]; a refusal for now (429, 503) is told instead of waited for: who watches knows better when to ask
    /// again.
    pub async fn open_unretried(kubeconfig: &str) -> anyhow::Result<Self> {
        Self::with(kubeconfig, false).await
    }

    async fn with(kubeconfig: &str, retries: bool) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::from_yaml(kubeconfig)
            .context("the administrator's kubeconfig is damaged; run `kinstall up` to write it again")?;
        let mut servers = Vec::new();
        for context in &kubeconfig.contexts {
            let options = KubeConfigOptions { context: Some(context.name.clone()), ..KubeConfigOptions::default() };
            let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await?;
            config.default_retry = retries;
            servers.push((context.name.clone(), client::connect_with(config, PATIENCE)?));
        }
        Ok(Self(servers))
    }

    /// Those that run on other hosts than these; with one control plane there is one way only.
    pub fn elsewhere(mut self, hosts: &[String]) -> Self {
        let on = |context: &str| host_of(context).is_some_and(|host| hosts.iter().any(|name| name == host));
        self.0.retain(|(context, _)| !on(context));
        self
    }

    /// The one that runs on this host; with one control plane there is one only.
    pub fn on(mut self, host: &str) -> Self {
        if self.0.len() > 1 {
            self.0.retain(|(context, _)| host_of(context) == Some(host));
        }
        self
    }

    /// Waits until `/readyz` of one of them says ok. A server that does not listen yet tells nobody, so this one asks again.
    pub async fn ready(&self, timeout: Duration) -> anyhow::Result<Server> {
        let started = Instant::now();
        loop {
            let error = match self.first().await {
                Ok(server) => return Ok(server),
                Err(error) => error,
            };
            if started.elapsed() >= timeout {
                bail!(
                    "{} ready after {} s: {error:#}; see `journalctl -u kinstall-control-plane` on the control-plane host",
                    if self.0.len() > 1 { "no API server is" } else { "the API server is not" },
                    timeout.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn first(&self) -> anyhow::Result<Server> {
        if self.0.is_empty() {
            return Err(anyhow!("the administrator's kubeconfig names no server; run `kinstall up` to write it again"));
        }
        let asking = self.0.iter().map(|(context, client)| {
            let ready = async {
                ask_ready(client).await?;
                Ok(Server { context: context.clone(), client: client.clone() })
            };
            ready.boxed()
        });
        select_ok(asking).await.map(|(server, _)| server)
    }
}

/// A kubeconfig whose current context is another of those it has.
pub fn with_current(kubeconfig: &str, context: &str) -> String {
    const KEY: &str = "current-context: ";
    kubeconfig
        .lines()
        .map(|line| if line.starts_with(KEY) { format!("{KEY}{context}\n") } else { format!("{line}\n") })
        .collect()
}

async fn ask_ready(client: &Client) -> anyhow::Result<()> {
    let request = kube::client::Body::empty();
    let request = http::Request::get("/readyz").body(request)?;
    let response =
        tokio::time::timeout(Duration::from_secs(5), client.send(request)).await.context("no answer within 5 s")??;
    if !response.status().is_success() {
        bail!("/readyz answers {}", response.status());
    }
    Ok(())
}
