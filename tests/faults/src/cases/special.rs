//! What needs more than one blow: two operators, another machine in a host's place, another operator's machine.
//!
//! Not clocks that differ: the hosts and this machine share one kernel with one clock, and executables without libc's loader take no
//! other. That preflight refuses them is a test of the installer.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::operator::{Inventory, Operator};
use lab::Host;

use crate::events::{Mark, Ran, follow, tail};
use crate::fault::Fault;
use crate::matrix::Outcome;
use crate::site::{DOWN, Site, State, UP, artifacts};

const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
pub struct Special {
    pub command: &'static str,
    pub step: &'static str,
    pub fault: &'static str,
    pub begins: State,
    pub run: fn(&mut Site) -> Result<Outcome>,
}

pub const ALL: [Special; 7] = [
    special("up", "connecting", "two operators, one directory", State::Whole, one_directory),
    special("up, down", "connecting", "the state directory is elsewhere", State::Whole, without_state),
    special("up", "after it", "another machine at h2's address", State::Whole, swapped_worker),
    special("upgrade, drained", "the runtime restarts", "the new one does not start", State::Newer, broken_runtime),
    special("up", "hosts work", "two operators, two copies", State::Bare, two_copies),
    special("up", "after it", "another machine at h1's address", State::Whole, swapped_control_plane),
    special("up", "hosts work", "goes on from another machine", State::Bare, moved),
];

/// That with this fault.
pub fn named(fault: &str) -> Result<Special> {
    ALL.into_iter().find(|special| special.fault == fault).with_context(|| format!("no case {fault:?}"))
}

const fn special(
    command: &'static str,
    step: &'static str,
    fault: &'static str,
    begins: State,
    run: fn(&mut Site) -> Result<Outcome>,
) -> Special {
    Special { command, step, fault, begins, run }
}

fn refused(started: Instant) -> Outcome {
    Outcome { first: "refused, with the way out".into(), ended: started.elapsed().as_secs_f64(), ..Outcome::default() }
}

/// The cluster is whole with nothing done about it; how long that took.
fn still_whole(site: &mut Site) -> Result<f64> {
    let started = Instant::now();
    site.becomes(site.state)?;
    Ok(started.elapsed().as_secs_f64())
}

/// The second is told of the first, whom it does not disturb.
fn one_directory(site: &mut Site) -> Result<Outcome> {
    let started = Instant::now();
    let mut said = None;
    let first = follow(site.operator.start(&UP)?, &Mark::Event("phase", "connecting"), LIMIT, |_| {
        said = Some(
            site.operator
                .fails_saying(&DOWN, &["kinstall up", "has worked on this cluster since", "wait for its end"])?,
        );
        Ok(())
    })?;
    ensure!(first.code == Some(0) && said.is_some(), "the first ended with {:?}", first.code);
    let outcome = refused(started);
    Ok(Outcome { healed: still_whole(site)?, ..outcome })
}

/// An operator who has the inventory and nothing else is a stranger to the hosts.
fn without_state(site: &mut Site) -> Result<Outcome> {
    let started = Instant::now();
    let stranger = Operator::new(&site.lab, "faults-stranger", artifacts()?)?;
    stranger.write(&site.inventory)?;
    stranger.fails_saying(&UP, &["already belongs to the kinstall cluster", "nothing was changed"])?;
    stranger.fails_saying(&DOWN, &["belongs to another cluster", "left alone"])?;
    let outcome = refused(started);
    Ok(Outcome { healed: still_whole(site)?, ..outcome })
}

/// A new machine has the address of an old one: it is not spoken to until a person says so.
fn swap(site: &mut Site, host: u32) -> Result<()> {
    let known_hosts = site.operator.path("known_hosts");
    fs::copy(site.lab.known_hosts(), &known_hosts)?;
    site.swap(host)?;
    site.operator.write(&Inventory { known_hosts, ..site.inventory.clone() })?;
    let name = format!("h{host}");
    site.operator.fails_saying(&UP, &[&name, "host key", "changed", "known_hosts", "nothing was changed"])?;
    site.operator.write(&site.inventory)
}

fn swapped_worker(site: &mut Site) -> Result<Outcome> {
    let started = Instant::now();
    swap(site, 2)?;
    let outcome = refused(started);
    let started = Instant::now();
    site.operator.ok(&UP).context("the new machine was accepted")?;
    site.is_whole()?;
    Ok(Outcome { healed: started.elapsed().as_secs_f64(), ..outcome })
}

/// The only store went with the machine: to begin with an empty one is for a person to decide.
fn swapped_control_plane(site: &mut Site) -> Result<Outcome> {
    let started = Instant::now();
    swap(site, 1)?;
    site.operator.fails_saying(&UP, &["h1", "store", "nothing was changed"])?;
    let outcome = refused(started);
    let started = Instant::now();
    site.operator.ok(&DOWN).context("the old cluster is given up")?;
    site.is_bare()?;
    Ok(Outcome { healed: started.elapsed().as_secs_f64(), ..outcome })
}

/// This host's container runtime does not start while this version is the current one.
fn break_runtime(host: &Host, version: &str) -> Result<()> {
    let unit = format!("[Service]\nExecStartPre=/bin/sh -c 'readlink /opt/kinstall/current | grep -vxF {version}'\n");
    let script =
        format!("mkdir -p {BROKEN} && cat > {BROKEN}/broken.conf <<'END' && systemctl daemon-reload\n{unit}END\n");
    host.ssh_ok(&script).map(drop)
}

/// What systemd adds to the unit; gone after a restart of the host.
const BROKEN: &str = "/run/systemd/system/kinstall-containerd.service.d";

/// The first host goes back by itself, no other is begun, and all of it works as before.
fn broken_runtime(site: &mut Site) -> Result<Outcome> {
    let (old, new) = (site.version()?, site.version_of(State::Newest)?);
    let host = site.lab.host(1).clone();
    break_runtime(&host, &new)?;
    let started = Instant::now();
    let begun = |host: &str| format!("\"host\":\"{host}\",\"index\"");
    let (first, back) = (begun("h1"), format!("it is back at {old}"));
    let words = [first.as_str(), "kinstall-containerd", &back, "the upgrade has stopped"];
    let said = site.operator.fails_saying(&site.upgrade(State::Newest), &words)?;
    ensure!(!said.contains(&begun("h2")), "another host was begun:\n{}", tail(&said, 30));
    let ended = started.elapsed().as_secs_f64();
    host.ssh_ok(&format!("rm -r {BROKEN} && systemctl daemon-reload"))?;
    Ok(Outcome { first: format!("back at {old}, told"), ended, healed: still_whole(site)?, ..Outcome::default() })
}

fn killed_at(site: &Site, event: usize) -> Result<Ran> {
    follow(site.operator.start(&UP)?, &Mark::Nth(event), LIMIT, |child| Fault::Killed.strike(&site.lab, child))
}

/// Another directory with all that the operator's has.
fn copy(site: &Site, name: &str) -> Result<Operator> {
    let operator = Operator::new(&site.lab, name, artifacts()?)?;
    let copied =
        Command::new("cp").arg("-a").arg(site.operator.directory.join(".")).arg(&operator.directory).status()?;
    ensure!(copied.success(), "cannot copy {}", site.operator.directory.display());
    Ok(operator)
}

/// Hosts take one of them at a time; whoever comes too late is told, and finds everything done.
fn two_copies(site: &mut Site) -> Result<Outcome> {
    ensure!(killed_at(site, 12)?.code.is_none(), "the first run was not killed");
    let other = copy(site, "faults-copy")?;
    let started = Instant::now();
    let (one, two) = (site.operator.start(&UP)?, other.start(&UP)?);
    let second = std::thread::spawn(move || follow(two, &Mark::Nth(0), LIMIT, |_| Ok(())));
    let one = follow(one, &Mark::Nth(0), LIMIT, |_| Ok(()))?;
    let two = second.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    for ran in [&one, &two] {
        ensure!(
            ran.code == Some(0) || (ran.code == Some(1) && ran.errors().contains("another kinstall is working")),
            "it ended with {:?}:\n{}",
            ran.code,
            tail(&ran.said, 10)
        );
    }
    let first = match (one.code, two.code) {
        (Some(0), Some(0)) => "one after the other",
        _ => "one refused, told",
    };
    let ended = started.elapsed().as_secs_f64();
    let started = Instant::now();
    other.ok(&UP)?;
    site.operator.ok(&UP)?;
    site.is_whole()?;
    Ok(Outcome { first: first.into(), ended, healed: started.elapsed().as_secs_f64(), ..Outcome::default() })
}

/// The laptop dies with the installer; a copy of its directory goes on.
fn moved(site: &mut Site) -> Result<Outcome> {
    ensure!(killed_at(site, 60)?.code.is_none(), "the first run was not killed");
    let started = Instant::now();
    let other = copy(site, "faults-moved")?;
    remove(&site.operator.directory)?;
    site.operator = other;
    site.operator.ok(&UP)?;
    site.is_whole()?;
    Ok(Outcome { first: "killed".into(), healed: started.elapsed().as_secs_f64(), ..Outcome::default() })
}

fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))
}
