use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ipnet::Ipv4Net;
use serde::Deserialize;

/// The proxy's configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// How to reach the API server, as system:kube-proxy.
    pub kubeconfig: PathBuf,
    /// This node's name in the API.
    pub node_name: String,
    /// This node's address: the source of its own connections to Services.
    pub node_ip: Ipv4Addr,
    /// Where pods are; other sources are masqueraded, so that answers find their way back.
    pub cluster_cidr: Ipv4Net,
    /// Where cluster IPs are; an address in it that no Service has is refused.
    pub service_cidr: Ipv4Net,
    /// NodePorts answer only on local addresses in these networks; empty: on all but the loopback.
    #[serde(default)]
    pub node_port_addresses: Vec<Ipv4Net>,
    /// Where `/healthz` is served.
    #[serde(default = "healthz")]
    pub healthz_bind_address: SocketAddr,
    /// How often to see whether the Service CIDR still has its route: the kernel drops it when addresses change.
    #[serde(default = "route_check_seconds")]
    pub route_check_seconds: u32,
}

fn route_check_seconds() -> u32 {
    30
}

fn healthz() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10256))
}

impl Config {
    pub(crate) fn route_check(&self) -> Duration {
        Duration::from_secs(self.route_check_seconds.max(1).into())
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_yaml::from_str(&text).with_context(|| format!("{} is not a proxy configuration", path.display()))
    }
}
