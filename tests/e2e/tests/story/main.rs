//! A cluster's first day: what goes wrong before it stands, its birth, its use, its accidents, its end.

mod accidents;
mod bad_input;
mod clients;
mod drift;
mod ending;
mod helping;
mod merging;
mod neighbours;
mod nodes;
mod using;

use std::process::ExitCode;

use anyhow::{Context, Result};
use e2e::operator::{Artifacts, Inventory, Operator};
use e2e::scenario::{Runner, Scenario, play};
use e2e::snapshot::Snapshot;
use lab::{Lab, Release};

/// Hosts of the cluster; one more waits beside it.
const NODES: usize = 3;
/// The control plane is of one release of Debian, workers of both, and another one may come.
const HOSTS: [Release; NODES + 1] = [Release::Bookworm, Release::Bookworm, Release::Trixie, Release::Trixie];

/// Everything the scenarios share.
pub struct Story {
    pub lab: Lab,
    pub operator: Operator,
    pub inventory: Inventory,
    pub before: Vec<Snapshot>,
}

fn main() -> ExitCode {
    play(begin, tell, |story| story.lab.down())
}

fn begin() -> Result<Story> {
    let artifacts = Artifacts::from_env()?;
    let lab = Lab::up_of(&HOSTS).context("cannot boot four hosts")?;
    let mut inventory = Inventory::of(&lab, &artifacts);
    inventory.hosts.truncate(NODES);
    let operator = Operator::new(&lab, "operator", artifacts)?;
    for host in lab.hosts() {
        ending::place_foreign_things(host)?;
    }
    let before = lab.hosts().iter().map(Snapshot::take).collect::<Result<_>>()?;
    Ok(Story { lab, operator, inventory, before })
}

/// Refused or failed before there is a cluster.
const BEFORE: [(&str, Scenario<Story>); 10] = [
    ("an inventory's errors are all told, with line and column", bad_input::inventory_errors),
    ("a wrong key is told apart from an unreachable host", bad_input::wrong_key),
    ("an unreachable host is named and nothing is begun", bad_input::unreachable_host),
    ("a changed host key stops that host", bad_input::changed_host_key),
    ("a wrong sudo password is told", bad_input::wrong_sudo_password),
    ("a port in use is told with its process", bad_input::port_in_use),
    ("what others have on a host is told, with the commands that help", neighbours::told_with_what_to_do),
    ("a corrupt bundle is refused before any host is touched", bad_input::corrupt_bundle),
    ("a full disk is told and loses nothing", bad_input::full_disk),
    ("nothing of all this has changed a host", bad_input::hosts_are_untouched),
];

const BIRTH: [(&str, Scenario<Story>); 2] = [
    ("an installer killed half-way is simply run again", using::killed_and_run_again),
    ("up on a finished cluster changes nothing", using::up_again),
];

const LIFE: [(&str, Scenario<Story>); 23] = [
    ("everything is Running and Ready", using::everything_is_ready),
    ("kubectl reads, writes, watches and describes", using::kubectl_basics),
    ("a Deployment rolls out, scales and rolls on", using::deployments),
    ("StatefulSet, DaemonSet and Job do their work", using::workloads),
    ("ownership, finalizers and namespaces are cleaned up", using::garbage),
    ("logs and exec reach a container", using::logs_and_exec),
    ("every client there is reads, writes and streams", clients::every_client),
    ("the required behaviours of Kubernetes hold, all of them", clients::required_behaviours),
    ("kubectl finds the cluster beside others in a merged kubeconfig", merging::into_a_kubeconfig_with_other_clusters),
    ("nobody without credentials or rights gets in", using::security),
    ("doctor finds nothing where all is well", helping::nothing_is_wrong),
    ("logs and exec reach every host", helping::logs_and_exec),
    ("accidents of one time are all told by doctor, and gone when mended", helping::accidents_are_found),
    ("a report has everything but secrets", helping::report_without_secrets),
    ("hooks run before and after, and stop a run that goes on later", helping::hooks),
    ("what was changed by hand is told exactly, and mended", drift::told_and_mended),
    ("an addon that is switched off goes, and nothing else", drift::addon_switched_off),
    ("an unreachable host holds up nobody if the operator says so", bad_input::without_an_unreachable_host),
    ("a worker joins and leaves, and the others are not touched", nodes::joins_and_leaves),
    ("a killed control plane comes back by itself", accidents::control_plane_killed),
    ("a killed kubelet leaves containers running", accidents::kubelet_killed),
    ("a worker loses power and comes back", accidents::worker_power_cut),
    ("an image whose import was cut short is imported anew", accidents::import_cut_short),
];

const END: [(&str, Scenario<Story>); 5] = [
    ("down --keep-data keeps the volumes", ending::keep_data),
    ("a control plane that cannot start is told soon, with its own words", ending::control_plane_that_cannot_start),
    ("the next up finds the kept data", ending::up_over_kept_data),
    ("down leaves the hosts as they were", ending::down_restores),
    ("the same with a sudo user: up, plan, status, validate, down", ending::as_sudo_user),
];

fn tell(runner: &mut Runner, story: &Story) {
    runner.each(&BEFORE[..], story);
    if runner.each(&BIRTH[..], story) {
        runner.each(&LIFE[..], story);
    } else {
        for (name, _) in LIFE {
            runner.not_run(name, BIRTH[0].0);
        }
    }
    runner.each(&END[..], story);
}
