use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ipnet::Ipv4Net;
use serde::Deserialize;

/// The agent's configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// How to reach the API server, as system:kinstall:cni-agent.
    pub kubeconfig: PathBuf,
    /// This node's name in the API.
    pub node_name: String,
    /// This node's address: the tunnel's local end.
    pub node_ip: Ipv4Addr,
    /// Where pods are, on all nodes; what leaves it is masqueraded.
    pub cluster_cidr: Ipv4Net,
    /// How pods of other nodes are reached.
    #[serde(default)]
    pub backend: Backend,
    /// The UDP port of VXLAN.
    #[serde(default = "vxlan_port")]
    pub vxlan_port: u16,
    /// The VXLAN network identifier.
    #[serde(default = "vni")]
    pub vni: u32,
    /// The pods' MTU; 0: that of the link with the node's address, less the tunnel's 50 bytes.
    #[serde(default)]
    pub mtu: u32,
    /// Where the container runtime reads CNI configurations.
    #[serde(default = "conf_dir")]
    pub cni_conf_dir: PathBuf,
    /// Where the container runtime finds the plugin `kinstall-cni`.
    #[serde(default = "bin_dir")]
    pub cni_bin_dir: PathBuf,
    /// Where the plugin keeps its reservations.
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    /// How often to see whether the routes are still there: the kernel drops them when addresses change.
    #[serde(default = "route_check_seconds")]
    pub route_check_seconds: u32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A tunnel between nodes; works on every network.
    #[default]
    Vxlan,
    /// Plain routes through the other nodes' addresses; all nodes must share one link.
    HostGw,
}

fn vxlan_port() -> u16 {
    8472
}

fn vni() -> u32 {
    1
}

fn route_check_seconds() -> u32 {
    30
}

fn conf_dir() -> PathBuf {
    crate::CONF_DIR.into()
}

fn bin_dir() -> PathBuf {
    "/opt/kinstall/current/cni/bin".into()
}

fn data_dir() -> PathBuf {
    crate::DATA_DIR.into()
}

impl Config {
    pub(crate) fn route_check(&self) -> Duration {
        Duration::from_secs(self.route_check_seconds.max(1).into())
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_yaml::from_str(&text)
            .with_context(|| format!("{} is not a configuration of the network agent", path.display()))
    }
}
