//! The service proxy of one node: every Service becomes translation rules in nftables.
//!
//! In: Services, EndpointSlices and the node itself, watched through the Kubernetes API. Out: the table `ip
//! kinstall-proxy`, one route for the Service CIDR, and the health of both over HTTP. Between them is one pure function,
//! `table::desired`; its result is compared with what the kernel has and only the difference is sent, as one transaction.
//! Behaviour is kube-proxy's (KEP-3866, nftables mode). IPv4.
//!
//! Depends on `netlink` for the kernel and on kube-rs; on no server crate.

mod balance;
mod config;
mod health;
mod model;
mod route;
mod select;
mod stale;
mod sync;
pub mod table;
mod watch;

use std::path::PathBuf;

use anyhow::{Context, bail};

pub use config::Config;
pub use model::{Endpoint, Node, Port, Service, Slice, SlicePort, State};

/// The nftables table the proxy owns; it touches no other.
pub const TABLE: &str = "kinstall-proxy";

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The configuration file (YAML).
    #[arg(long, required_unless_present = "cleanup")]
    pub config: Option<PathBuf>,
    /// Remove everything the proxy made on this host, then end.
    #[arg(long, hide = true)]
    pub cleanup: bool,
}

/// Runs until SIGTERM. The rules stay: traffic goes on while the proxy restarts.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if args.cleanup {
        return cleanup();
    }
    let Some(path) = args.config else { bail!("--config is missing") };
    let config = Config::read(&path)?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("cannot listen for SIGTERM")?;
    tokio::select! {
        result = watch::run(config) => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Lets the node itself reach cluster IPs even if it has no default route. Says whether that was missing.
pub fn route_service_cidr(node: &Node) -> netlink::Result<bool> {
    route::ensure(node.service_cidr, node.ip)
}

/// Removes the proxy's table and route; everything else on the host stays.
pub fn cleanup() -> anyhow::Result<()> {
    netlink::nftables::delete(TABLE).context("cannot delete the proxy's nftables table")?;
    route::delete().context("cannot delete the proxy's route")
}
