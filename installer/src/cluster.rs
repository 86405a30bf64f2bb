//! The cluster as it shall be: every default explicit, every rule of the inventory checked.
//!
//! In: an [`Inventory`]. Out: a [`Cluster`] or every problem of the file. Reads no file but the inventory itself.

mod backup;
mod control_planes;
pub mod hooks;
mod registries;
mod ssh;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
pub use backup::BackupPlan;
pub use control_planes::{BALANCER_PORT, ETCD_CLIENT_PORT, ETCD_PEER_PORT, ExternalEtcd};
use ipnet::Ipv4Net;
pub use registries::{Proxy, Registry};
use serde::{Deserialize, Serialize};
pub use ssh::{Bastion, Become, ConfigFile, Said, Secret, Ssh};

use crate::bundle::Signer;
use crate::inventory::substitute::{Environment, Variables};
use crate::inventory::{self, At, Backend, Inventory, Problems, Role, Sink};

pub const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane:NoSchedule";
/// What the API server of this version of kinstall speaks.
pub const KUBERNETES_VERSION: &str = "v1.37";

#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    /// The inventory's directory; relative paths in it start here, and `.kinstall/` lives here.
    pub directory: PathBuf,
    pub bundle: Option<PathBuf>,
    /// Who has to have signed it.
    pub bundle_key: Option<Signer>,
    pub registries: Vec<Registry>,
    pub proxy: Option<Proxy>,
    pub hosts: Vec<Host>,
    /// The etcd that somebody else runs for this cluster.
    pub external_etcd: Option<ExternalEtcd>,
    pub network: Network,
    pub ingress: bool,
    pub storage_default_class: bool,
    pub wordpress: Option<WordPress>,
    /// Scheduled backups, if any.
    pub backup: Option<BackupPlan>,
    pub limits: Limits,
    pub hooks: Vec<hooks::Hook>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    pub name: String,
    /// What SSH dials: an address, a name, or an alias of ssh_config.
    pub address: String,
    /// The address the node is known by in the cluster.
    pub node_address: IpAddr,
    pub control_plane: bool,
    pub worker: bool,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<String>,
    /// The inventory's groups that it belongs to.
    #[serde(default)]
    pub groups: Vec<String>,
    pub ssh: Ssh,
}

#[derive(Clone, Debug)]
pub struct Network {
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub backend: Backend,
    pub domain: String,
}

impl Network {
    /// The address of Service `default/kubernetes`: the range's first.
    pub fn kubernetes_ip(&self) -> Ipv4Addr {
        self.nth(1)
    }

    /// The address of Service `kube-system/kube-dns`: the range's tenth.
    pub fn dns_ip(&self) -> Ipv4Addr {
        self.nth(10)
    }

    fn nth(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()).saturating_add(offset))
    }
}

#[derive(Clone, Debug)]
pub struct WordPress {
    /// The Ingress rule's host; empty means any.
    pub host: String,
    pub wordpress_image: Option<String>,
    pub mariadb_image: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub hosts: usize,
    pub uploads: usize,
    /// Hosts pass the bundle on to each other.
    pub peers: bool,
    pub connect_timeout: Duration,
    pub host_timeout: Duration,
    pub ready_timeout: Duration,
}

impl Cluster {
    /// Reads and resolves an inventory file.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the inventory {}; name another with -i, or write one with `kinstall init`",
                path.display()
            )
        })?;
        let absolute = std::path::absolute(path).with_context(|| format!("cannot resolve {}", path.display()))?;
        let directory = absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        Ok(Self::parse(&text, &path.display().to_string(), &directory)?)
    }

    pub fn parse(text: &str, file: &str, directory: &Path) -> Result<Self, Problems> {
        Self::parse_with(text, &Environment, file, directory)
    }

    /// As [`Cluster::parse`], with these variables in the place of the environment's.
    pub fn parse_with(text: &str, variables: &dyn Variables, file: &str, directory: &Path) -> Result<Self, Problems> {
        let mut sink = Sink::default();
        let cluster = inventory::decode_with(text, variables, &mut sink)
            .and_then(|inventory| resolve(inventory, directory, &mut sink));
        sink.result(file)?;
        cluster.ok_or_else(|| Problems { file: file.to_owned(), list: Vec::new() })
    }
}

fn resolve(inventory: Inventory, directory: &Path, sink: &mut Sink) -> Option<Cluster> {
    let name = inventory.cluster.as_ref().map(|at| at.value.clone());
    if let Some(At { value, pos }) = &inventory.cluster {
        check_name(value, 40, *pos, "cluster", sink);
    }
    if let Some(At { value, pos }) = &inventory.version
        && !KUBERNETES_VERSION.trim_start_matches('v').eq(value.trim_start_matches('v').trim_end_matches(".0"))
    {
        sink.add(*pos, "version", format!("this kinstall installs Kubernetes {KUBERNETES_VERSION}, not {value}; remove the field or use another kinstall"));
    }
    let network = network(&inventory, sink);
    let only = inventory.hosts.len() == 1;
    check_hosts(&inventory, sink);
    let hosts: Vec<_> =
        inventory.hosts.iter().filter_map(|host| resolve_host(host, &inventory.ssh, directory, only, sink)).collect();
    check_outside_ranges(&inventory, &network, sink);
    let bundle_key = inventory
        .bundle_key
        .as_ref()
        .and_then(|At { value, pos }| Signer::parse(value).map_err(|why| sink.add(*pos, "bundleKey", why)).ok());
    let backup = inventory.backup.as_ref().and_then(|written| backup::plan(written, sink));
    let registries = registries::registries(&inventory.registries, directory, sink);
    let proxy = inventory.proxy.as_ref().and_then(|written| registries::proxy(written, sink));
    let limits = limits(&inventory.limits, sink);
    let hooks = hooks::hooks(inventory.hooks, directory, sink);
    let external_etcd = inventory.etcd.as_ref().and_then(|etcd| control_planes::external_etcd(etcd, directory, sink));
    let wordpress = inventory.wordpress.filter(|sample| sample.enabled.unwrap_or(true)).map(|sample| {
        if let Some(host) = &sample.host
            && !host.value.is_empty()
        {
            check_dns_name(&host.value, host.pos, "sample.wordpress.host", sink);
        }
        WordPress {
            host: sample.host.map_or_else(|| "wordpress.local".to_owned(), |at| at.value),
            wordpress_image: sample.wordpress_image,
            mariadb_image: sample.mariadb_image,
        }
    });
    Some(Cluster {
        name: name?,
        directory: directory.to_path_buf(),
        bundle: inventory.bundle.map(|path| expand(path, directory)),
        bundle_key,
        registries,
        proxy,
        hosts,
        external_etcd,
        network,
        ingress: inventory.ingress_enabled.unwrap_or(true),
        storage_default_class: inventory.storage_default_class.unwrap_or(true),
        wordpress,
        backup,
        limits,
        hooks,
    })
}

fn network(inventory: &Inventory, sink: &mut Sink) -> Network {
    let written = &inventory.network;
    let default = |a, b| Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), 16);
    let network = Network {
        pod_cidr: written.pod_cidr.as_ref().map_or_else(|| default(10, 244), |at| at.value.trunc()),
        service_cidr: written.service_cidr.as_ref().map_or_else(|| default(10, 96), |at| at.value.trunc()),
        backend: written.backend.unwrap_or_default(),
        domain: written.domain.as_ref().map_or_else(|| "cluster.local".to_owned(), |at| at.value.clone()),
    };
    if let Some(domain) = &written.domain {
        check_dns_name(&domain.value, domain.pos, "network.domain", sink);
    }
    if let Some(At { value, pos }) = &written.pod_cidr
        && value.prefix_len() > 22
    {
        sink.add(
            *pos,
            "network.podCidr",
            format!("{value} is too small: every node takes a /24 of it, so use /22 or larger"),
        );
    }
    if let Some(At { value, pos }) = &written.service_cidr
        && !(8..=26).contains(&value.prefix_len())
    {
        sink.add(*pos, "network.serviceCidr", format!("{value} must be between /8 and /26"));
    }
    if network.pod_cidr.contains(&network.service_cidr) || network.service_cidr.contains(&network.pod_cidr) {
        let pos =
            written.service_cidr.as_ref().or(written.pod_cidr.as_ref()).map_or_else(Default::default, |at| at.pos);
        sink.add(
            pos,
            "network",
            format!("podCidr {} and serviceCidr {} overlap", network.pod_cidr, network.service_cidr),
        );
    }
    network
}

/// Rules between hosts: names and addresses are unique, and as many control planes as can decide.
fn check_hosts(inventory: &Inventory, sink: &mut Sink) {
    if inventory.hosts.is_empty() {
        sink.add(inventory.hosts_pos, "hosts", "name at least one host");
        return;
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut addresses: HashMap<(&str, u16), usize> = HashMap::new();
    for host in &inventory.hosts {
        if let Some(At { value, pos }) = &host.name {
            check_name(value, 63, *pos, &format!("{}.name", host.path), sink);
            if let Some(line) = names.insert(value, pos.line) {
                sink.add(*pos, format!("{}.name", host.path), format!("{value:?} is already the host at line {line}"));
            }
        }
        if let Some(At { value, pos }) = &host.address {
            let port = host.ssh.port.as_ref().or(inventory.ssh.port.as_ref()).map_or(22, |at| at.value);
            if let Some(line) = addresses.insert((value, port), pos.line) {
                sink.add(*pos, format!("{}.address", host.path), format!("{value} is already the host at line {line}"));
            }
        }
    }
    control_planes::check_number(inventory, sink);
}

fn resolve_host(
    host: &inventory::Host,
    defaults: &inventory::Ssh,
    directory: &Path,
    only: bool,
    sink: &mut Sink,
) -> Option<Host> {
    let path = &host.path;
    if host.roles.is_empty() {
        sink.add(host.roles_pos, format!("{path}.role"), "is required: controlPlane, worker, or a list of both");
    }
    let control_plane = host.roles.iter().any(|role| role.value == Role::ControlPlane);
    let worker = only || host.roles.iter().any(|role| role.value == Role::Worker);
    let address = host.address.as_ref()?;
    let node_address = match (&host.node_address, address.value.parse::<IpAddr>()) {
        (Some(At { value, .. }), _) => Some(*value),
        (None, Ok(value)) => Some(value),
        (None, Err(_)) => {
            let message = format!(
                "is required because address {:?} is a name: the IP address other hosts reach this one by",
                address.value
            );
            sink.add(address.pos, format!("{path}.nodeAddress"), message);
            None
        }
    };
    if node_address.is_some_and(|address| address.is_ipv6()) {
        let (pos, field) =
            host.node_address.as_ref().map_or((address.pos, "address"), |written| (written.pos, "nodeAddress"));
        sink.add(
            pos,
            format!("{path}.{field}"),
            "clusters of this version have IPv4 addresses: keep an IPv6 `address` for SSH, and name the host's IPv4 address \
             in nodeAddress",
        );
    }
    let mut labels = BTreeMap::new();
    for (key, value) in &host.labels {
        check_label(key, value, path, sink);
        labels.insert(key.value.clone(), value.value.clone());
    }
    let mut taints: Vec<String> = host.taints.iter().filter_map(|taint| check_taint(taint, path, sink)).collect();
    if control_plane {
        labels.insert("node-role.kubernetes.io/control-plane".into(), String::new());
        if !worker {
            taints.push(CONTROL_PLANE_TAINT.into());
        }
    }
    Some(Host {
        name: host.name.as_ref()?.value.clone(),
        address: address.value.clone(),
        node_address: node_address?,
        control_plane,
        worker,
        labels,
        taints,
        groups: host.groups.clone(),
        ssh: ssh::resolve(&host.ssh, defaults, directory),
    })
}

/// Node addresses must be reachable outside of what the cluster hands out.
fn check_outside_ranges(inventory: &Inventory, network: &Network, sink: &mut Sink) {
    for host in &inventory.hosts {
        let written = host.node_address.as_ref().map(|at| (at.value, at.pos));
        let written = written.or_else(|| host.address.as_ref().and_then(|at| Some((at.value.parse().ok()?, at.pos))));
        if let Some((IpAddr::V4(address), pos)) = written {
            for (name, range) in [("podCidr", network.pod_cidr), ("serviceCidr", network.service_cidr)] {
                if range.contains(&address) {
                    sink.add(
                        pos,
                        format!("{}.address", host.path),
                        format!("{address} lies inside network.{name} {range}; choose another range"),
                    );
                }
            }
        }
    }
}

fn limits(written: &inventory::Limits, sink: &mut Sink) -> Limits {
    let mut count = |at: &Option<At<usize>>, name: &str, default: usize| match at {
        Some(At { value: 0, pos }) => {
            sink.add(*pos, format!("limits.{name}"), "expected at least 1");
            default
        }
        Some(at) => at.value,
        None => default,
    };
    let seconds = |at: &Option<At<inventory::Seconds>>, default| {
        Duration::from_secs(at.as_ref().map_or(default, |at| at.value.0))
    };
    Limits {
        hosts: count(&written.hosts, "hosts", 64),
        uploads: count(&written.uploads, "uploads", 16),
        peers: written.peers.unwrap_or(true),
        connect_timeout: seconds(&written.connect_timeout, 15),
        host_timeout: seconds(&written.host_timeout, 900),
        ready_timeout: seconds(&written.ready_timeout, 300),
    }
}

/// RFC 1123 label, as Kubernetes wants node names to be (subdomains too, which we do not need).
fn check_name(name: &str, max: usize, pos: inventory::yaml::Pos, path: &str, sink: &mut Sink) {
    if name.len() > max || !is_dns_label(name) {
        sink.add(pos, path, format!("{name:?} is no name: use up to {max} lower-case letters, digits and '-', with a letter or digit at both ends"));
    }
}

fn check_dns_name(name: &str, pos: inventory::yaml::Pos, path: &str, sink: &mut Sink) {
    if name.len() > 253 || !name.split('.').all(is_dns_label) {
        sink.add(pos, path, format!("{name:?} is no DNS name"));
    }
}

fn is_dns_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_label_value(value: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && ends(value.chars().next())
        && ends(value.chars().last())
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(|prefix| prefix.split('.').all(is_dns_label)) && !name.is_empty() && is_label_value(name)
}

fn check_label(key: &At<String>, value: &At<String>, path: &str, sink: &mut Sink) {
    if !is_label_key(&key.value) {
        sink.add(key.pos, format!("{path}.labels"), format!("{:?} is no label key", key.value));
    }
    if !is_label_value(&value.value) {
        sink.add(value.pos, format!("{path}.labels.{}", key.value), format!("{:?} is no label value", value.value));
    }
}

/// `key=value:Effect` or `key:Effect`, as kubectl writes taints.
fn check_taint(taint: &At<String>, path: &str, sink: &mut Sink) -> Option<String> {
    let good = taint.value.rsplit_once(':').is_some_and(|(left, effect)| {
        let (key, value) = left.split_once('=').unwrap_or((left, ""));
        is_label_key(key) && is_label_value(value) && ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect)
    });
    if !good {
        let message = format!(
            "expected key=value:Effect with Effect NoSchedule, PreferNoSchedule or NoExecute, found {:?}",
            taint.value
        );
        sink.add(taint.pos, format!("{path}.taints"), message);
    }
    good.then(|| taint.value.clone())
}

/// `~/x` is below the home directory, other relative paths start at the inventory's directory.
fn expand(path: PathBuf, directory: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => std::env::home_dir().unwrap_or_default().join(rest),
        Err(_) => directory.join(path),
    }
}
