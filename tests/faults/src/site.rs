//! The hosts, their cluster as it should be, and the person who works on it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::operator::{Artifacts, Inventory, Operator, artifact};
use e2e::scenario::until_ok;
use e2e::snapshot::Snapshot;
use lab::Lab;

use crate::whole;

/// One control plane and two workers.
const HOSTS: u32 = 3;
/// The one that leaves and comes back.
pub const LEAVING: &str = "h3";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Bare,
    Whole,
    /// All but [`LEAVING`].
    Smaller,
    /// All of it, with newer components.
    Newer,
    /// All of it, with a newer container runtime too.
    Newest,
    /// All of it, every host a control plane.
    Grown,
    /// A case failed half-way.
    Unknown,
}

pub struct Site {
    pub lab: Lab,
    pub operator: Operator,
    pub inventory: Inventory,
    /// The bundle with newer components, and the one with a newer runtime too.
    next: String,
    runtime: String,
    /// Of the bundle that clusters are made with; the newer ones' last number is one and two higher.
    version: String,
    pub state: State,
    /// The hosts before kinstall was ever there.
    before: Vec<Snapshot>,
    /// uid of what was made on the cluster that stands: it must stay the same object.
    pub made: Option<String>,
}

impl Site {
    pub fn new() -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let bundle = |name: &str| artifact(name).map(|path| path.display().to_string());
        let (next, runtime) = (bundle("KINSTALL_BUNDLE_NEXT")?, bundle("KINSTALL_BUNDLE_RUNTIME")?);
        let lab = Lab::up(HOSTS)?;
        let inventory = Inventory { wordpress: false, ..Inventory::of(&lab, &artifacts) };
        let operator = Operator::new(&lab, "faults", artifacts)?;
        operator.write(&inventory)?;
        let before = lab.hosts().iter().map(Snapshot::take).collect::<Result<_>>()?;
        let said = operator.ok(&["--version"])?;
        let version = said.trim().rsplit(' ').next().context("kinstall has no version")?.to_owned();
        Ok(Self { lab, operator, inventory, next, runtime, version, state: State::Bare, before, made: None })
    }

    pub fn end(self) -> Result<()> {
        self.lab.down()
    }

    /// To newer components, or from there to a newer runtime.
    pub fn upgrade(&self, to: State) -> Vec<&str> {
        let bundle = if to == State::Newest { self.runtime.as_str() } else { self.next.as_str() };
        [&UPGRADE[..], &["--bundle", bundle]].concat()
    }

    /// What every host has to have.
    pub fn version(&self) -> Result<String> {
        self.version_of(self.state)
    }

    pub fn version_of(&self, state: State) -> Result<String> {
        let newer = match state {
            State::Newer => 1,
            State::Newest => 2,
            _ => 0,
        };
        let (minor, patch) = self.version.rsplit_once('.').context("a version of one number")?;
        Ok(format!("{minor}.{}", patch.parse::<u32>()? + newer))
    }

    /// Every host is a control plane.
    pub fn grown(&self) -> Inventory {
        let mut grown = self.inventory.clone();
        grown.hosts.iter_mut().for_each(|(.., roles)| *roles = "controlPlane");
        grown
    }

    /// Names of the nodes that there have to be.
    pub fn nodes(&self) -> Vec<&str> {
        let is_there = |name: &&str| self.state != State::Smaller || *name != LEAVING;
        self.lab.hosts().iter().map(lab::Host::name).filter(is_there).collect()
    }

    /// Makes the site what a case begins with, without faults.
    pub fn bring(&mut self, wanted: State) -> Result<()> {
        if self.state == State::Unknown {
            self.start_over().context("after a failed case")?;
        }
        while self.state != wanted {
            match (self.state, wanted) {
                (_, State::Newest | State::Grown | State::Unknown) => bail!("nothing begins with {wanted:?}"),
                (State::Whole, State::Smaller) => {
                    self.operator.ok(&REMOVE)?;
                    self.is_smaller()?;
                }
                (State::Whole, State::Newer) => {
                    self.operator.ok(&self.upgrade(State::Newer))?;
                    self.becomes(State::Newer)?;
                }
                (State::Bare, _) | (State::Smaller, State::Whole | State::Newer) => {
                    // a removal struck its node out of it, or it has grown
                    self.operator.write(&self.inventory)?;
                    self.operator.ok(&UP)?;
                    self.is_whole()?;
                }
                _ => {
                    self.operator.ok(&DOWN)?;
                    self.is_bare()?;
                }
            }
        }
        self.operator.write(&self.inventory)
    }

    /// Another machine at a host's address.
    pub fn swap(&mut self, host: u32) -> Result<()> {
        self.lab.host(host).replace()?;
        let index = self.lab.hosts().iter().position(|it| it.number() == host).context("no such host")?;
        self.before[index] = Snapshot::take(self.lab.host(host))?;
        Ok(())
    }

    /// New machines at the old addresses, and an operator who knows nothing.
    fn start_over(&mut self) -> Result<()> {
        let hosts = self.lab.hosts();
        std::thread::scope(|scope| {
            let running: Vec<_> = hosts.iter().map(|host| scope.spawn(|| host.replace())).collect();
            running.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("it panicked"))?)
        })?;
        self.operator = Operator::new(&self.lab, "faults", Artifacts::from_env()?)?;
        self.operator.write(&self.inventory)?;
        self.before = hosts.iter().map(Snapshot::take).collect::<Result<_>>()?;
        (self.state, self.made) = (State::Bare, None);
        Ok(())
    }

    /// Every part works, nothing is there twice, and what was made before is there. Makes something where nothing was.
    pub fn is_whole(&mut self) -> Result<()> {
        self.becomes(State::Whole)
    }

    /// The same, newer or grown.
    pub fn becomes(&mut self, state: State) -> Result<()> {
        self.state = state;
        self.holds()
    }

    /// The same without the node that left; its host is what it was.
    pub fn is_smaller(&mut self) -> Result<()> {
        self.becomes(State::Smaller)?;
        self.is_as_before(&[LEAVING])
    }

    fn holds(&mut self) -> Result<()> {
        if self.made.is_none() {
            self.made = Some(whole::make(self)?);
        }
        until_ok(Duration::from_secs(90), "whole", || whole::check(self))
    }

    /// No host shows that kinstall was ever there.
    pub fn is_bare(&mut self) -> Result<()> {
        (self.state, self.made) = (State::Bare, None);
        let names: Vec<_> = self.lab.hosts().iter().map(lab::Host::name).collect();
        self.is_as_before(&names)
    }

    fn is_as_before(&self, names: &[&str]) -> Result<()> {
        let mut left = Vec::new();
        for (host, before) in self.lab.hosts().iter().zip(&self.before).filter(|(host, _)| names.contains(&host.name()))
        {
            let after = Snapshot::take(host)?;
            left.extend(before.differences(&after).into_iter().map(|line| format!("{}: {line}", host.name())));
        }
        ensure!(left.is_empty(), "{} differences:\n{}", left.len(), left.join("\n"));
        Ok(())
    }
}

pub const UP: [&str; 7] = ["up", "-i", "inventory.yaml", "--yes", "--output", "json", "--no-validate"];
const UPGRADE: [&str; 8] =
    ["upgrade", "-i", "inventory.yaml", "--yes", "--output", "json", "--no-validate", "--delete-emptydir-data"];
pub const DOWN: [&str; 6] = ["down", "-i", "inventory.yaml", "--yes", "--output", "json"];
pub const REMOVE: [&str; 9] =
    ["node", "remove", LEAVING, "-i", "inventory.yaml", "--yes", "--delete-emptydir-data", "--output", "json"];
