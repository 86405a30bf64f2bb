//! The inventory as the operator wrote it.
//!
//! In: the text of `inventory.yaml`, and the environment that it names variables of. The way: documents with variables in place
//! ([`yaml`], [`substitute`]), one ([`documents`]), hosts with the fields of their groups ([`groups`]), typed. Out: an
//! [`Inventory`] whose values know their line and column, or every problem of the file at once. Defaults and rules that span fields are the business of [`crate::cluster`].

mod backup;
pub mod decode;
mod documents;
pub mod edit;
mod groups;
pub mod hooks;
mod registries;
pub mod schema;
mod ssh;
pub mod substitute;
pub mod yaml;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

pub use backup::Backup;
pub use decode::Sink;
pub use decode::{At, Problem, Problems};
use decode::{Fields, pick, text};
use groups::Groups;
pub use registries::{Proxy, Registry};
use ssh::ssh;
pub use ssh::{Bastion, HostKeyChecking, Secret, Ssh};
use substitute::{Environment, Variables};
use yaml::{Node, Pos, Value};

#[derive(Clone, Debug)]
pub struct Inventory {
    pub cluster: Option<At<String>>,
    pub version: Option<At<String>>,
    pub bundle: Option<PathBuf>,
    pub bundle_key: Option<At<String>>,
    pub ssh: Ssh,
    pub hosts: Vec<Host>,
    pub hosts_pos: Pos,
    pub etcd: Option<Etcd>,
    pub network: Network,
    pub ingress_enabled: Option<bool>,
    pub storage_default_class: Option<bool>,
    pub wordpress: Option<WordPress>,
    pub backup: Option<Backup>,
    pub registries: Vec<Registry>,
    pub proxy: Option<Proxy>,
    pub limits: Limits,
    pub hooks: Vec<hooks::Hook>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    ControlPlane,
    Worker,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub path: String,
    pub name: Option<At<String>>,
    pub address: Option<At<String>>,
    pub node_address: Option<At<IpAddr>>,
    pub roles: Vec<At<Role>>,
    pub roles_pos: Pos,
    pub labels: Vec<(At<String>, At<String>)>,
    pub taints: Vec<At<String>>,
    /// The names of those that it belongs to; what they say is in the other fields.
    pub groups: Vec<String>,
    pub ssh: Ssh,
}

/// An etcd that somebody else runs.
#[derive(Clone, Debug)]
pub struct Etcd {
    pub endpoints: Vec<At<String>>,
    pub endpoints_pos: Pos,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    #[default]
    Vxlan,
    HostGateway,
}

#[derive(Clone, Debug, Default)]
pub struct Network {
    pub pod_cidr: Option<At<Ipv4Net>>,
    pub service_cidr: Option<At<Ipv4Net>>,
    pub backend: Option<Backend>,
    pub domain: Option<At<String>>,
}

#[derive(Clone, Debug, Default)]
pub struct WordPress {
    pub enabled: Option<bool>,
    pub host: Option<At<String>>,
    pub wordpress_image: Option<String>,
    pub mariadb_image: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub hosts: Option<At<usize>>,
    pub uploads: Option<At<usize>>,
    pub peers: Option<bool>,
    pub connect_timeout: Option<At<Seconds>>,
    pub host_timeout: Option<At<Seconds>>,
    pub ready_timeout: Option<At<Seconds>>,
}

/// `90`, `90s`, `5m` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl std::str::FromStr for Seconds {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
            Some(number) => (number, text.as_bytes()[text.len() - 1]),
            None => (text, b's'),
        };
        let factor = match unit {
            b'm' => 60,
            b'h' => 3600,
            _ => 1,
        };
        let value: u64 = number.parse().map_err(|_| ())?;
        if value == 0 { Err(()) } else { value.checked_mul(factor).map(Seconds).ok_or(()) }
    }
}

/// Decodes `text`; problems go to `sink`. `None` only when the text is no YAML at all, or names variables that are not set.
pub fn decode(text: &str, sink: &mut Sink) -> Option<Inventory> {
    decode_with(text, &Environment, sink)
}

/// As [`decode`], with these variables.
pub fn decode_with(text: &str, variables: &dyn Variables, sink: &mut Sink) -> Option<Inventory> {
    let node = match yaml::documents(text, variables) {
        Ok(documents) => documents::join(documents, sink),
        Err(faults) => {
            faults.into_iter().for_each(|(pos, message)| sink.add(pos, "", message));
            return None;
        }
    };
    let mut root = Fields::open(&node, "", sink);
    let groups = Groups::read(&mut root, sink);
    let inventory = Inventory {
        cluster: root.required("cluster", sink),
        version: root.string("version", sink),
        bundle: root.string("bundle", sink).map(|at| PathBuf::from(at.value)),
        bundle_key: root.string("bundleKey", sink),
        ssh: root
            .section("ssh", sink)
            .map(|mut fields| {
                let ssh = ssh(&mut fields, sink);
                fields.finish(sink);
                ssh
            })
            .unwrap_or_default(),
        hosts_pos: root.node("hosts").map_or(root.pos, |node| node.pos),
        hosts: root.list("hosts", sink).into_iter().map(|(path, node)| host(node, path, &groups, sink)).collect(),
        etcd: root.section("etcd", sink).map(|fields| etcd(fields, sink)),
        network: root.section("network", sink).map(|fields| network(fields, sink)).unwrap_or_default(),
        ingress_enabled: root.section("ingress", sink).and_then(|fields| single_boolean(fields, "enabled", sink)),
        storage_default_class: root
            .section("storage", sink)
            .and_then(|fields| single_boolean(fields, "defaultClass", sink)),
        wordpress: root.section("sample", sink).and_then(|mut fields| {
            let wordpress = fields.section_even_if_empty("wordpress", sink).map(|fields| wordpress(fields, sink));
            fields.finish(sink);
            wordpress
        }),
        backup: root.section("backup", sink).map(|fields| backup::backup(fields, sink)),
        registries: root
            .list("registries", sink)
            .into_iter()
            .map(|(path, node)| registries::registry(node, path, sink))
            .collect(),
        proxy: root.section("proxy", sink).map(|fields| registries::proxy(fields, sink)),
        limits: root.section("limits", sink).map(|fields| limits(fields, sink)).unwrap_or_default(),
        hooks: root.list("hooks", sink).into_iter().map(|(path, node)| hooks::hook(node, path, sink)).collect(),
    };
    root.finish(sink);
    Some(inventory)
}

fn host(node: &Node, path: String, groups: &Groups<'_>, sink: &mut Sink) -> Host {
    let complete = groups.complete(node);
    let mut fields = Fields::open(&complete, path.clone(), sink);
    let host = Host {
        path,
        name: fields.required("name", sink),
        address: fields.required("address", sink),
        node_address: fields.parsed("nodeAddress", "an IP address", sink),
        roles: roles(&mut fields, sink),
        roles_pos: fields.pos,
        labels: fields.strings("labels", sink),
        taints: fields.texts("taints", sink),
        groups: groups.check(&mut fields, sink),
        ssh: ssh(&mut fields, sink),
    };
    fields.finish(sink);
    host
}

/// `role: worker` or `roles: [controlPlane, worker]`.
fn roles(fields: &mut Fields<'_>, sink: &mut Sink) -> Vec<At<Role>> {
    const CHOICES: &[(&str, Role)] = &[("controlPlane", Role::ControlPlane), ("worker", Role::Worker)];
    one_or_many(fields, "role", "roles")
        .into_iter()
        .filter_map(|(path, node)| {
            let At { value, pos } = text(node, &path, sink)?;
            pick(&value, CHOICES).map_err(|message| sink.add(pos, path, message)).ok().map(|value| At { value, pos })
        })
        .collect()
}

/// A field that is one value or a list of such, by either of its names, each with its path.
fn one_or_many<'a>(fields: &mut Fields<'a>, one: &'static str, many: &'static str) -> Vec<(String, &'a Node)> {
    let mut nodes = Vec::new();
    for field in [one, many] {
        let path = fields.child(field);
        match fields.node(field) {
            Some(Node { value: Value::List(items), .. }) => {
                nodes.extend(items.iter().enumerate().map(|(index, node)| (format!("{path}[{index}]"), node)));
            }
            Some(node) => nodes.push((path, node)),
            None => {}
        }
    }
    nodes
}

fn etcd(mut fields: Fields<'_>, sink: &mut Sink) -> Etcd {
    let mut file = |name| fields.required(name, sink).map(|at| PathBuf::from(at.value));
    let (ca_file, cert_file, key_file) = (file("caFile"), file("certFile"), file("keyFile"));
    let etcd = Etcd {
        endpoints_pos: fields.node("endpoints").map_or(fields.pos, |node| node.pos),
        endpoints: fields.texts("endpoints", sink),
        ca_file,
        cert_file,
        key_file,
    };
    fields.finish(sink);
    etcd
}

fn network(mut fields: Fields<'_>, sink: &mut Sink) -> Network {
    let network = Network {
        pod_cidr: fields.parsed("podCidr", "an IPv4 range such as 10.244.0.0/16", sink),
        service_cidr: fields.parsed("serviceCidr", "an IPv4 range such as 10.96.0.0/16", sink),
        backend: fields.choice("backend", &[("vxlan", Backend::Vxlan), ("host-gw", Backend::HostGateway)], sink),
        domain: fields.string("domain", sink),
    };
    fields.finish(sink);
    network
}

fn single_boolean(mut fields: Fields<'_>, field: &'static str, sink: &mut Sink) -> Option<bool> {
    let value = fields.boolean(field, sink);
    fields.finish(sink);
    value
}

fn wordpress(mut fields: Fields<'_>, sink: &mut Sink) -> WordPress {
    let mut wordpress = WordPress {
        enabled: fields.boolean("enabled", sink),
        host: fields.string("host", sink),
        ..WordPress::default()
    };
    if let Some(mut images) = fields.section("images", sink) {
        wordpress.wordpress_image = images.string("wordpress", sink).map(|at| at.value);
        wordpress.mariadb_image = images.string("mariadb", sink).map(|at| at.value);
        images.finish(sink);
    }
    fields.finish(sink);
    wordpress
}

fn limits(mut fields: Fields<'_>, sink: &mut Sink) -> Limits {
    const DURATION: &str = "a duration such as 30s, 5m or 1h";
    let limits = Limits {
        hosts: fields.parsed("hosts", "a number", sink),
        uploads: fields.parsed("uploads", "a number", sink),
        peers: fields.boolean("peers", sink),
        connect_timeout: fields.parsed("connectTimeout", DURATION, sink),
        host_timeout: fields.parsed("hostTimeout", DURATION, sink),
        ready_timeout: fields.parsed("readyTimeout", DURATION, sink),
    };
    fields.finish(sink);
    limits
}
