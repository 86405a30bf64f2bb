//! What needs more than one blow: two operators, another machine in a host's place, another operator's machine.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::operator::{Inventory, Operator};
use lab::Host;

use super::struck::{Command, GONE};
use crate::events::{Mark, follow, tail};
use crate::fault::Fault;
use crate::matrix::Outcome;
use crate::site::{DOWN, REMOVE, Site, State, UP, artifacts};

const LIMIT: Duration = Duration::from_secs(120);

/// What is done to a cluster in the course of a command.
type Run = fn(&mut Site, Command) -> Result<Outcome>;

#[derive(Clone, Copy)]
pub struct Special {
    pub command: Command,
    pub step: &'static str,
    pub fault: &'static str,
    pub begins: State,
    run: Run,
}

impl Special {
    pub fn run(&self, site: &mut Site) -> Result<Outcome> {
        (self.run)(site, self.command)
    }
}

const ONE_DIRECTORY: &str = "two operators, one directory";
const TWO_COPIES: &str = "two operators, two copies";
const MOVED: &str = "goes on from another machine";

pub const ALL: [Special; 21] = [
    special(Command::Up, "after it", ONE_DIRECTORY, State::Whole, one_directory),
    special(Command::Up, "after it", "the state directory is elsewhere", State::Whole, without_state),
    special(Command::Up, "after it", "another machine at h2's address", State::Whole, swapped_worker),
    special(Command::Upgrade, "before it", "another machine at h2's address", State::Whole, swapped_before_upgrade),
    special(Command::Upgrade, "hosts work", ONE_DIRECTORY, State::Whole, one_directory),
    special(Command::Drained, "the runtime restarts", "the new one does not start", State::Newer(1), broken_runtime),
    special(Command::Down, "hosts work", ONE_DIRECTORY, State::Whole, one_directory),
    special(Command::Up, "hosts work", TWO_COPIES, State::Bare, two_copies),
    special(Command::Upgrade, "hosts work", TWO_COPIES, State::Whole, two_copies),
    special(Command::Down, "hosts work", TWO_COPIES, State::Whole, two_copies),
    special(Command::Up, "hosts work", MOVED, State::Bare, moved),
    special(Command::Remove, "hosts work", ONE_DIRECTORY, State::Whole, one_directory),
    special(Command::Remove, "hosts work", TWO_COPIES, State::Whole, two_copies),
    special(Command::Remove, "hosts work", MOVED, State::Whole, moved),
    special(Command::Remove, "before it", "another machine at h3's address", State::Whole, swapped_before_removal),
    special(Command::Upgrade, "hosts work", MOVED, State::Whole, moved),
    special(Command::Down, "hosts work", MOVED, State::Whole, moved),
    special(Command::Down, "before it", "another machine at h2's address", State::Whole, swapped_before_down),
    special(Command::Up, "hosts work", "killed, then taken down", State::Bare, half_installed),
    special(Command::Up, "after it", "another machine at h1's address", State::Whole, swapped_control_plane),
    special(Command::Grow, "etcd starts", "another machine at h1's address", State::Whole, swapped_founder),
];

/// That with this fault.
pub fn named(command: Command, fault: &str) -> Result<Special> {
    let found = ALL.into_iter().find(|special| special.command == command && special.fault == fault);
    found.with_context(|| format!("no case {fault:?} of {command}"))
}

const fn special(command: Command, step: &'static str, fault: &'static str, begins: State, run: Run) -> Special {
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
fn one_directory(site: &mut Site, command: Command) -> Result<Outcome> {
    let started = Instant::now();
    let mut said = None;
    let second = if command == Command::Down { &UP[..] } else { &DOWN[..] };
    let first = follow(site.operator.start(&command.args(site))?, &Mark::Event("phase", ""), LIMIT, |_| {
        let words = ["has worked on this cluster since", "wait for its end"];
        said = Some(site.operator.fails_saying(second, &words)?);
        Ok(())
    })?;
    ensure!(first.code == Some(0) && said.is_some(), "the first ended with {:?}", first.code);
    let outcome = refused(started);
    let started = Instant::now();
    command.is_done(site)?;
    Ok(Outcome { healed: started.elapsed().as_secs_f64(), ..outcome })
}

/// An operator who has the inventory and nothing else is a stranger to the hosts.
fn without_state(site: &mut Site, _: Command) -> Result<Outcome> {
    let started = Instant::now();
    let stranger = Operator::new(&site.lab, "faults-stranger", artifacts()?)?;
    stranger.write(&site.inventory)?;
    stranger.fails_saying(&UP, &["already belongs to the kinstall cluster", "nothing was changed"])?;
    stranger.fails_saying(&DOWN, &["belongs to another cluster", "left alone"])?;
    let outcome = refused(started);
    Ok(Outcome { healed: still_whole(site)?, ..outcome })
}

/// A new machine has the address of an old one: it is not spoken to until a person says so.
fn swap(site: &mut Site, host: u32, args: &[&str]) -> Result<Outcome> {
    let started = Instant::now();
    let known_hosts = site.operator.path("known_hosts");
    fs::copy(site.lab.known_hosts(), &known_hosts)?;
    site.swap(host)?;
    site.operator.write(&Inventory { known_hosts, ..site.inventory.clone() })?;
    let name = format!("h{host}");
    site.operator.fails_saying(args, &[&name, "host key", "changed", "known_hosts"])?;
    site.operator.write(&site.inventory)?;
    Ok(refused(started))
}

/// Runs it, then looks whether it did all that it is for.
fn finish(site: &mut Site, command: Command, outcome: Outcome) -> Result<Outcome> {
    let started = Instant::now();
    command.again(site, &site.operator).context("the new machine was accepted")?;
    command.is_done(site)?;
    Ok(Outcome { healed: started.elapsed().as_secs_f64(), ..outcome })
}

fn swapped_worker(site: &mut Site, command: Command) -> Result<Outcome> {
    let outcome = swap(site, 2, &UP)?;
    finish(site, command, outcome)
}

/// Nobody makes a node of it in passing.
fn swapped_before_upgrade(site: &mut Site, command: Command) -> Result<Outcome> {
    let args: Vec<_> = command.args(site).into_iter().map(str::to_owned).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let outcome = swap(site, 2, &args)?;
    site.operator.fails_saying(&args, &["h2", "run `kinstall up` first"])?;
    site.operator.ok(&UP)?;
    finish(site, command, outcome)
}

/// The node is taken out of the cluster, and the machine is left as it is.
fn swapped_before_removal(site: &mut Site, command: Command) -> Result<Outcome> {
    let outcome = swap(site, 3, &REMOVE)?;
    finish(site, command, outcome)
}

fn swapped_before_down(site: &mut Site, command: Command) -> Result<Outcome> {
    let outcome = swap(site, 2, &DOWN)?;
    finish(site, command, outcome)
}

/// The only store went with the machine: to begin with an empty one is for a person to decide.
fn swapped_control_plane(site: &mut Site, _: Command) -> Result<Outcome> {
    let outcome = swap(site, 1, &UP)?;
    site.operator.fails_saying(&UP, &["h1", "store", "nothing was changed"])?;
    finish(site, Command::Down, outcome)
}

/// It goes when the others know that they get the store from it, and before they have: `up` does not wait for what is gone.
fn swapped_founder(site: &mut Site, command: Command) -> Result<Outcome> {
    site.operator.write(&site.grown())?;
    let started = Instant::now();
    let mark = Mark::Step("h1".into(), "unit kinstall-etcd");
    let ran = follow(site.operator.start(&command.args(site))?, &mark, LIMIT, |_| site.lab.host(1).poweroff())?;
    ensure!(ran.struck.is_some() && ran.code != Some(0), "it ended with {:?}:\n{}", ran.code, tail(&ran.said, 10));
    let ended = started.elapsed().as_secs_f64();
    site.swap(1)?;
    let words = ["h1 had this cluster's store", "kinstall restore", "kinstall down", "nothing was changed"];
    site.operator.fails_saying(&UP, &words)?;
    finish(site, Command::Down, Outcome { first: "refused, with the way out".into(), ended, ..Outcome::default() })
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
fn broken_runtime(site: &mut Site, _: Command) -> Result<Outcome> {
    let (old, new) = (site.version(), site.version_of(State::Newest));
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

/// Killed after this many events.
fn killed_at(site: &Site, command: Command, event: usize) -> Result<()> {
    let child = site.operator.start(&command.args(site))?;
    let ran = follow(child, &Mark::Nth(event), LIMIT, |child| Fault::Killed.strike(&site.lab, child))?;
    ensure!(ran.code.is_none(), "the first run was not killed: it ended with {:?}", ran.code);
    Ok(())
}

/// Another directory with all that the operator's has.
fn copy(site: &Site, name: &str) -> Result<Operator> {
    let operator = Operator::new(&site.lab, name, artifacts()?)?;
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(site.operator.directory.join("."))
        .arg(&operator.directory)
        .status()?;
    ensure!(copied.success(), "cannot copy {}", site.operator.directory.display());
    Ok(operator)
}

/// Hosts take one of them at a time; whoever comes too late is told, and finds everything done.
fn two_copies(site: &mut Site, command: Command) -> Result<Outcome> {
    killed_at(site, command, 12)?;
    let other = copy(site, "faults-copy")?;
    let started = Instant::now();
    let (one, two) = (site.operator.start(&command.args(site))?, other.start(&command.args(site))?);
    let second = std::thread::spawn(move || follow(two, &Mark::Nth(0), LIMIT, |_| Ok(())));
    let one = follow(one, &Mark::Nth(0), LIMIT, |_| Ok(()))?;
    let two = second.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    for ran in [&one, &two] {
        let told = ["another kinstall is working", GONE].iter().any(|words| ran.errors().contains(words));
        ensure!(
            ran.code == Some(0) || (ran.code == Some(1) && told),
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
    command.again(site, &other)?;
    command.again(site, &site.operator)?;
    command.is_done(site)?;
    Ok(Outcome { first: first.into(), ended, healed: started.elapsed().as_secs_f64(), ..Outcome::default() })
}

/// The laptop dies with the installer; a copy of its directory goes on.
fn moved(site: &mut Site, command: Command) -> Result<Outcome> {
    killed_at(site, command, if command == Command::Up { 60 } else { 20 })?;
    let started = Instant::now();
    // it may have moved before
    let name = if site.operator.directory.ends_with("faults-moved") { "faults-moved-on" } else { "faults-moved" };
    let other = copy(site, name)?;
    remove(&site.operator.directory)?;
    site.operator = other;
    command.again(site, &site.operator)?;
    command.is_done(site)?;
    Ok(Outcome { first: "killed".into(), healed: started.elapsed().as_secs_f64(), ..Outcome::default() })
}

/// Whoever changes their mind half-way finds the hosts as they were.
fn half_installed(site: &mut Site, command: Command) -> Result<Outcome> {
    killed_at(site, command, 60)?;
    let started = Instant::now();
    site.operator.ok(&DOWN)?;
    site.is_bare()?;
    Ok(Outcome { first: "killed".into(), healed: started.elapsed().as_secs_f64(), ..Outcome::default() })
}

fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))
}
