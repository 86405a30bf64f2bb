//! The controllers: what makes the cluster become what its objects say.
//!
//! In: a Kubernetes client and a [`Config`]. Out: writes to the API. The controllers are pure clients of the API (kube-rs and
//! k8s-openapi); this crate depends on no server code, only on `certs` for signing, `cron` for schedules and `quota` for what
//! objects count. `core` holds the shared machinery: one
//! informer for each kind, event-driven queues; every other module is one controller: pure rules with tests, and a thin part
//! that reads and writes. Behaviour is kube-controller-manager's.

mod bootstrap_tokens;
mod cluster_role_aggregation;
mod core;
mod cronjob;
mod csr;
mod daemonset;
mod deployment;
mod endpoints;
mod gc;
mod job;
mod namespace;
mod nodes;
mod pdb;
mod replicas;
mod resource_quota;
mod resources;
mod rootca;
mod service_cidrs;
mod serviceaccount;
mod statefulset;
mod volumes;

// the code of kinds that others use too comes from there (see client::kinds)
use client as _;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use ipnet::IpNet;
use kube::Client;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::core::events::Recorder;
use crate::core::{Ctx, Informers};
use crate::resources::Resources;

/// What the controllers need to know. Written in the control plane's configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where pods get their addresses from; every node receives a part of it.
    #[serde(default = "default_cluster_cidr")]
    pub cluster_cidr: IpNet,
    /// The prefix length of a node's part.
    #[serde(default = "default_node_mask")]
    pub node_cidr_mask_size: u8,
    /// Where Services get their addresses from: no node may serve as one of them.
    #[serde(default = "default_service_cidr")]
    pub service_cidr: IpNet,
    /// The certificate and key that sign certificate requests. The key is read once, at the start.
    pub cluster_signing_cert_file: PathBuf,
    pub cluster_signing_key_file: PathBuf,
    /// What pods verify the API server with; published in every namespace as `kube-root-ca.crt`.
    pub root_ca_file: PathBuf,
}

fn default_cluster_cidr() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 244, 0, 0), 16))
}

fn default_service_cidr() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 96, 0, 0), 16))
}

fn default_node_mask() -> u8 {
    24
}

impl Config {
    fn check(&self) -> anyhow::Result<()> {
        let (cluster, node) = (self.cluster_cidr.prefix_len(), self.node_cidr_mask_size);
        let longest = self.cluster_cidr.max_prefix_len();
        anyhow::ensure!(
            node >= cluster && node <= longest,
            "nodeCidrMaskSize {node} does not lie between clusterCidr's {cluster} and {longest}"
        );
        Ok(())
    }
}

/// Runs every controller until `shutdown` completes. Whoever elects a leader calls this while leading.
pub async fn run(client: Client, config: Config, shutdown: impl Future) -> anyhow::Result<()> {
    config.check()?;
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let ca = certs::Ca::from_pem(&read(&config.cluster_signing_cert_file)?, &read(&config.cluster_signing_key_file)?)
        .context("cannot use the signing certificate authority")?;
    let root_ca = read(&config.root_ca_file)?;
    let mut tasks = JoinSet::new();
    let (events, writer) = Recorder::new(client.clone());
    tasks.spawn(writer);
    let ctx = Ctx { client: client.clone(), informers: Arc::new(Informers::new()), events, config: Arc::new(config) };
    start(&ctx, &mut tasks, ca, root_ca);
    // Handlers are in place; now the watches may deliver.
    ctx.informers.start(&client, &mut tasks);
    tracing::info!("controllers started");
    let ended = tokio::select! {
        _ = shutdown => Ok(()),
        Some(ended) = tasks.join_next() => {
            ended.context("a controller task failed").and_then(|()| anyhow::bail!("a controller task ended by itself"))
        }
    };
    // whoever leads next must not meet what this one still does
    tasks.shutdown().await;
    ended
}

fn start(ctx: &Ctx, tasks: &mut JoinSet<()>, ca: certs::Ca, root_ca: String) {
    let resources = Resources::new(ctx.client.clone());
    deployment::start(ctx, tasks);
    replicas::start(ctx, tasks);
    statefulset::start(ctx, tasks);
    daemonset::start(ctx, tasks);
    job::start(ctx, tasks);
    cronjob::start(ctx, tasks);
    resource_quota::start(ctx, tasks, resources.clone());
    endpoints::start(ctx, tasks);
    namespace::start(ctx, tasks, resources.clone());
    serviceaccount::start(ctx, tasks);
    rootca::start(ctx, tasks, root_ca);
    gc::start(ctx, tasks, resources);
    nodes::ipam::start(ctx, tasks);
    nodes::lifecycle::start(ctx, tasks);
    nodes::evict::start(ctx, tasks);
    nodes::podgc::start(ctx, tasks);
    volumes::start(ctx, tasks);
    csr::start(ctx, tasks, ca);
    pdb::start(ctx, tasks);
    cluster_role_aggregation::start(ctx, tasks);
    service_cidrs::start(ctx, tasks);
    bootstrap_tokens::start(ctx, tasks);
}
