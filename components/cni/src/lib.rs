//! The pod network of one node: the CNI plugin, and the agent that connects the nodes.
//!
//! `plugin_main` is what the container runtime executes for each pod (CNI specification 1.1): it gives the pod an address of
//! the node's podCIDR and a routed link, and forwards host ports. `run` is the node's agent: it watches Nodes, Pods,
//! Namespaces and NetworkPolicies, writes the plugin's configuration once the node has a podCIDR, keeps a route to
//! every other node (VXLAN or direct), masquerades what leaves the cluster, and enforces NetworkPolicies in nftables.
//! Why pods are routed and not bridged: docs/decisions/0003-routed-pods.md. IPv4.
//!
//! Depends on `netlink` for the kernel and on kube-rs; on no server crate.

pub mod agent;
mod plugin;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use netlink::rtnl::Rtnl;
use netlink::{IgnoreMissing, nftables};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

pub use agent::{Backend, Config};
pub use plugin::{plugin_main, restore_routes};

/// Signs every link we make; whoever cleans up goes by it.
const ALIAS: &str = "kinstall";
/// Marks the agent's routes in the kernel (`rt_protos`); no known routing daemon uses the number.
const ROUTE_PROTO: u8 = 208;
/// The configuration's name within the directory the container runtime reads.
pub const CONFLIST: &str = "10-kinstall.conflist";
const DATA_DIR: &str = "/var/lib/kinstall/cni";
const CONF_DIR: &str = "/etc/kinstall/cni/net.d";

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The configuration file (YAML).
    #[arg(long, required_unless_present = "cleanup")]
    pub config: Option<PathBuf>,
    /// Remove everything the agent and the plugin made on this host, then end.
    #[arg(long, hide = true)]
    pub cleanup: bool,
}

/// Runs the agent until SIGTERM. Links, routes and rules stay: traffic goes on while the agent restarts.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = args.config.as_deref().map(Config::read).transpose()?;
    if args.cleanup {
        return match config {
            Some(config) => cleanup_at(&config.cni_conf_dir, &config.data_dir),
            None => cleanup(),
        };
    }
    let Some(config) = config else { bail!("--config is missing") };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("cannot listen for SIGTERM")?;
    tokio::select! {
        result = agent::run(config) => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Removes everything that agent and plugin made on this host, at the usual paths; what others made stays.
pub fn cleanup() -> anyhow::Result<()> {
    cleanup_at(Path::new(CONF_DIR), Path::new(DATA_DIR))
}

/// The same for other directories.
pub fn cleanup_at(conf_dir: &Path, data_dir: &Path) -> anyhow::Result<()> {
    // First the configuration, so that the runtime starts no further pod.
    remove(&conf_dir.join(CONFLIST), |path| std::fs::remove_file(path))?;
    for table in [plugin::HOSTPORT_TABLE, agent::MASQUERADE_TABLE, agent::POLICY_TABLE] {
        nftables::delete(table).with_context(|| format!("cannot delete nftables table {table}"))?;
    }
    let mut rt = Rtnl::open()?;
    for route in rt.routes(ROUTE_PROTO)? {
        rt.delete_route(&route).ignore_missing()?;
    }
    for link in rt.links()?.into_iter().filter(|link| link.alias.as_deref().is_some_and(is_ours)) {
        rt.delete_link(&link.name).ignore_missing()?;
    }
    for pod in plugin::peek(data_dir).iter().filter(|pod| is_made_by_the_runtime(&pod.netns)) {
        end_namespace(&pod.netns)?;
    }
    remove(data_dir, |path| std::fs::remove_dir_all(path))
}

/// containerd makes one for each pod and keeps it by a mount; once the runtime is gone, nobody takes it away.
fn is_made_by_the_runtime(netns: &Path) -> bool {
    let (dir, name) = (netns.parent(), netns.file_name().and_then(|name| name.to_str()));
    [Some(Path::new("/run/netns")), Some(Path::new("/var/run/netns"))].contains(&dir)
        && name.is_some_and(|name| name.starts_with("cni-"))
}

/// Takes the name away; the namespace itself ends with its last process.
fn end_namespace(netns: &Path) -> anyhow::Result<()> {
    match umount2(netns, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno).with_context(|| format!("cannot unmount {}", netns.display())),
    }
    remove(netns, |path| std::fs::remove_file(path))
}

fn is_ours(alias: &str) -> bool {
    alias == ALIAS || alias.strip_prefix(ALIAS).is_some_and(|rest| rest.starts_with(' '))
}

fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    match how(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
