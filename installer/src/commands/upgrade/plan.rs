//! What an upgrade does, host by host, in which order.

use hoststate::wire::{Action, Change};
use hoststate::{HostManifest, HostState};

use super::versions::Versions;
use crate::cli::Upgrade;
use crate::cluster::Host;
use crate::commands::plan::text::{self, Depth};
use crate::desired::{CONTAINERD, ETCD, KUBELET};

/// One host's share.
pub struct Step<'a> {
    pub host: &'a Host,
    pub state: HostState,
    pub changes: Vec<Change>,
    /// What it had before.
    pub from: String,
    /// `0.1.0 → 0.2.0 (Kubernetes 1.37.0)`
    versions: String,
    /// The state is applied already, but was not looked at, or what it replaced is still there.
    pub unfinished: bool,
    pub drains: bool,
    /// What starts pods there is, or may be, another process than before.
    pub starts_pods_anew: bool,
    pub restarts_etcd: bool,
}

impl<'a> Step<'a> {
    pub fn new(
        host: &'a Host,
        manifest: &HostManifest,
        to: Versions<'_>,
        (state, changes): (HostState, Vec<Change>),
        arguments: &Upgrade,
    ) -> Self {
        let from = Versions::of_host(manifest);
        let unfinished = manifest.previous.is_some() || !manifest.complete || from.kinstall != to.kinstall;
        let drains = (unfinished || !changes.is_empty()) && drains(&changes, arguments);
        let interrupted = manifest.previous.is_some() || !manifest.complete;
        let starts_pods_anew = interrupted || touches(&changes, CONTAINERD) || touches(&changes, KUBELET);
        let restarts_etcd = touches(&changes, ETCD);
        let (versions, from) = (from.describe(to), from.kinstall.to_owned());
        Self { host, versions, from, state, changes, unfinished, drains, starts_pods_anew, restarts_etcd }
    }

    pub fn is_done(&self) -> bool {
        self.changes.is_empty() && !self.unfinished
    }

    /// `full`: with every single change.
    pub fn describe(&self, full: bool) -> String {
        if self.is_done() {
            return format!("{}: nothing to change\n", self.host.name);
        }
        let role = if self.host.control_plane { "control plane" } else { "worker" };
        let drained = if self.drains { "drained" } else { "not drained, its containers run on" };
        format!(
            "{}: {}, {role}, {drained}\n  {}",
            self.host.name,
            self.versions,
            text::host(&self.state, &self.changes, if full { Depth::Changes } else { Depth::Counts })
        )
    }
}

/// A runtime that restarts below its containers leaves them alone, but if it does not come back nobody can end or start any.
fn drains(changes: &[Change], arguments: &Upgrade) -> bool {
    !arguments.no_drain && (arguments.drain || touches(changes, CONTAINERD))
}

/// Whether a unit is restarted, or started.
fn touches(changes: &[Change], unit: &str) -> bool {
    let is_it = |change: &Change| change.resource.strip_prefix("unit ") == Some(unit);
    changes.iter().any(|change| is_it(change) && change.action != Action::None)
}

/// Control planes in the order of the inventory, then the workers.
pub fn in_order<'a>(mut steps: Vec<Step<'a>>) -> (Vec<Step<'a>>, Vec<Step<'a>>) {
    steps.retain(|step| !step.is_done());
    steps.into_iter().partition(|step| step.host.control_plane)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn arguments(more: &[&str]) -> Upgrade {
        let cli = Cli::try_parse_from([&["kinstall", "upgrade"], more].concat()).unwrap();
        let Command::Upgrade(arguments) = cli.command else { unreachable!() };
        arguments
    }

    #[test]
    fn only_a_restart_of_the_runtime_drains_unless_the_operator_says_otherwise() {
        let change = |resource: &str, action| Change::new(resource, action, "");
        let components = [change("unit kinstall-kubelet.service", Action::Restart)];
        let runtime = [change("unit kinstall-containerd.service", Action::Restart)];
        for (changes, more, expected) in [
            (&components, &[][..], false),
            (&runtime, &[], true),
            (&components, &["--drain"], true),
            (&runtime, &["--no-drain"], false),
        ] {
            assert_eq!(drains(changes, &arguments(more)), expected, "{changes:?} {more:?}");
        }
        assert!(Cli::try_parse_from(["kinstall", "upgrade", "--drain", "--no-drain"]).is_err());
    }
}
