//! The command line of `kinstall node`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Bundled;

#[derive(Clone, Debug, Args)]
pub struct NodeCommand {
    #[command(subcommand)]
    pub command: NodeSubcommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum NodeSubcommand {
    /// Show nodes, their roles, and what their hosts say of themselves
    List,
    /// Write hosts into the inventory and make nodes of them; no other host is touched for workers
    ///
    /// Control planes come in such numbers that three or five result: give several names, and as many --address. A run that ends
    /// half-way is finished by the same command again, or by `kinstall up`.
    Add(NodeAdd),
    /// Drain nodes, take them out of the cluster and the inventory, and bring their hosts back to what they were
    ///
    /// A run that ends half-way leaves the node cordoned; the same command again finishes it.
    Remove(NodeRemove),
    /// Put another host in a node's place: it takes over what the inventory says of the old one
    ///
    /// The old host may be dead. While it lives the new one comes first; of control planes so too, unless the old one is dead:
    /// then its member of etcd goes first.
    Replace(NodeReplace),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NodeRole {
    #[value(name = "worker")]
    Worker,
    #[value(name = "controlPlane", alias = "control-plane")]
    ControlPlane,
}

impl NodeRole {
    /// As inventories write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::ControlPlane => "controlPlane",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct NodeAdd {
    /// The new nodes' names
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// What SSH dials: an address or a name; once for each NAME, in their order
    #[arg(long = "address", required = true, value_name = "ADDRESS")]
    pub addresses: Vec<String>,
    #[arg(long, value_enum, default_value_t = NodeRole::Worker)]
    pub role: NodeRole,
    /// A label of the node; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// A taint of the node, as key=value:Effect; may be repeated
    #[arg(long = "taint", value_name = "TAINT")]
    pub taints: Vec<String>,
    /// Another field of the host in the inventory, such as user=admin, port=2222 or nodeAddress=10.0.0.5; may be repeated
    #[arg(long = "var", value_name = "FIELD=VALUE", value_parser = pair)]
    pub variables: Vec<(String, String)>,
    #[command(flatten)]
    pub bundled: Bundled,
}

/// How a node is seen off.
#[derive(Clone, Debug, Args)]
pub struct Draining {
    /// How long the pods of one node may take to go: 90s, 5m, 1h
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
    /// Remove for good: pods that no controller creates again, volumes on the node's disk, and, when the time is up, pods
    /// that disruption budgets hold back; and remove nodes whose hosts cannot be reached from the API all the same
    #[arg(long)]
    pub force: bool,
    /// Evict pods although what they keep in emptyDir volumes is lost
    #[arg(long)]
    pub delete_emptydir_data: bool,
}

#[derive(Clone, Debug, Args)]
pub struct NodeRemove {
    /// The nodes' names
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub bundled: Bundled,
    #[command(flatten)]
    pub draining: Draining,
    /// Leave the hosts in the inventory: the next `kinstall up` makes nodes of them again
    #[arg(long)]
    pub keep_in_inventory: bool,
}

#[derive(Clone, Debug, Args)]
pub struct NodeReplace {
    /// The node that goes
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The node that comes; the same name is possible
    #[arg(value_name = "NEW")]
    pub new: String,
    /// The new host's address; left out when another machine has the old one's
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// The address other hosts reach the new one by, where the inventory gives one for the old one
    #[arg(long, value_name = "ADDRESS")]
    pub node_address: Option<String>,
    #[command(flatten)]
    pub bundled: Bundled,
    #[command(flatten)]
    pub draining: Draining,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// A whole number and s, m or h.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let seconds = units.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(unit)?.parse::<u64>().ok().and_then(|number| number.checked_mul(*seconds))
    });
    match seconds {
        // tokio's clock ends somewhere
        Some(seconds) if (1..=7 * 86400).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err("expected a time between 1s and 168h, such as 90s, 5m or 1h".into()),
    }
}
