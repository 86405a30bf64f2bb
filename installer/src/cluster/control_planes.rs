//! The control planes: how many there may be, where their store is, and how they are reached.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Cluster, Host, expand};
use crate::inventory::{At, Etcd, Inventory, Role, Sink};

/// Where every node's balancer listens, on 127.0.0.1.
pub const BALANCER_PORT: u16 = 6444;
pub const ETCD_CLIENT_PORT: u16 = 2379;
pub const ETCD_PEER_PORT: u16 = 2380;
const API_PORT: u16 = 6443;

/// An etcd that somebody else runs: its client URLs, and files on this machine.
#[derive(Clone, Debug)]
pub struct ExternalEtcd {
    pub endpoints: Vec<String>,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

impl Cluster {
    /// In the inventory's order; there is always one.
    pub fn control_planes(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.control_plane)
    }

    pub fn several_control_planes(&self) -> bool {
        self.control_planes().count() > 1
    }

    /// Whether the control planes' hosts run etcd.
    pub fn runs_etcd(&self) -> bool {
        self.several_control_planes() && self.external_etcd.is_none()
    }

    /// Where etcd is reached from this control plane, the nearest first; none with the embedded store.
    pub fn etcd_endpoints(&self, host: &Host) -> Vec<String> {
        match &self.external_etcd {
            Some(external) => external.endpoints.clone(),
            None if self.runs_etcd() => {
                self.own_first(host).map(|host| https(host.node_address, ETCD_CLIENT_PORT)).collect()
            }
            None => Vec::new(),
        }
    }

    /// The addresses of the API servers for a host's balancer, its own first.
    pub fn api_addresses(&self, host: &Host) -> Vec<String> {
        self.own_first(host).map(|host| socket(host.node_address, API_PORT)).collect()
    }

    /// Every control plane's API server, as the operator reaches it.
    pub fn api_urls(&self) -> Vec<(&Host, String)> {
        self.control_planes().map(|host| (host, https(host.node_address, API_PORT))).collect()
    }

    /// The API server for what runs on the nodes: the only one, or the node's own balancer.
    pub fn node_api_url(&self) -> anyhow::Result<String> {
        if self.several_control_planes() {
            return Ok(format!("https://127.0.0.1:{BALANCER_PORT}"));
        }
        let host = self.control_planes().next().context("the inventory names no control-plane host")?;
        Ok(https(host.node_address, API_PORT))
    }

    fn own_first<'a>(&'a self, own: &'a Host) -> impl Iterator<Item = &'a Host> {
        let is_own = |host: &&Host| host.name == own.name;
        self.control_planes().filter(is_own).chain(self.control_planes().filter(move |host| host.name != own.name))
    }
}

impl Host {
    pub fn etcd_peer_url(&self) -> String {
        https(self.node_address, ETCD_PEER_PORT)
    }

    pub fn etcd_client_url(&self) -> String {
        https(self.node_address, ETCD_CLIENT_PORT)
    }
}

fn https(address: IpAddr, port: u16) -> String {
    format!("https://{}", socket(address, port))
}

fn socket(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// As many control planes as can decide by majority. Where etcd is somebody else's the majority is not theirs to find.
pub fn check_number(inventory: &Inventory, sink: &mut Sink) {
    const MOST: usize = 5;
    let control_planes: Vec<_> = inventory
        .hosts
        .iter()
        .flat_map(|host| host.roles.iter().map(move |role| (host, role)))
        .filter(|(_, role)| role.value == Role::ControlPlane)
        .collect();
    let refused = match control_planes.len() {
        0 => return sink.add(inventory.hosts_pos, "hosts", "one host needs `role: controlPlane`"),
        _ if inventory.etcd.is_some() => return,
        2 => {
            "two control planes are worse than one: when either is lost the other has no majority; give one, three or five hosts this role"
        }
        4 => {
            "four control planes are worse than three: their majority is three, so they too can only lose one, and there are more to lose; give three or five hosts this role"
        }
        number if number > MOST => {
            "more than five control planes only make every write slower: a majority has to confirm it; give five hosts this role"
        }
        _ => return,
    };
    if let Some((host, last)) = control_planes.last() {
        sink.add(last.pos, format!("{}.role", host.path), refused);
    }
}

/// The section `etcd`; without one that is whole there is none, and the problems say why.
pub fn external_etcd(written: &Etcd, directory: &Path, sink: &mut Sink) -> Option<ExternalEtcd> {
    if written.endpoints.is_empty() {
        sink.add(written.endpoints_pos, "etcd.endpoints", "name at least one, such as https://10.99.0.21:2379");
    }
    for At { value, pos } in &written.endpoints {
        let authority = value.strip_prefix("https://").and_then(|rest| rest.parse::<http::uri::Authority>().ok());
        if authority.is_none_or(|authority| authority.port().is_none()) {
            sink.add(*pos, "etcd.endpoints", format!("expected https://host:port, found {value:?}"));
        }
    }
    let file = |path: &Option<PathBuf>| path.clone().map(|path| expand(path, directory));
    Some(ExternalEtcd {
        endpoints: written.endpoints.iter().map(|at| at.value.clone()).collect(),
        ca_file: file(&written.ca_file)?,
        cert_file: file(&written.cert_file)?,
        key_file: file(&written.key_file)?,
    })
}
