//! The hosts, their cluster as it should be, and the person who works on it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::operator::{Artifacts, Inventory, Operator};
use e2e::scenario::until;
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
    /// A case failed half-way.
    Unknown,
}

pub struct Site {
    pub lab: Lab,
    pub operator: Operator,
    pub inventory: Inventory,
    /// The bundle with newer components.
    next: String,
    pub state: State,
    /// The hosts before kinstall was ever there.
    before: Vec<Snapshot>,
    /// uid of what was made on the cluster that stands: it must stay the same object.
    pub made: Option<String>,
}

impl Site {
    pub fn new() -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let next =
            std::env::var("KINSTALL_BUNDLE_NEXT").context("KINSTALL_BUNDLE_NEXT is not set: run `make faults`")?;
        let lab = Lab::up(HOSTS)?;
        let inventory = Inventory { wordpress: false, ..Inventory::of(&lab, &artifacts) };
        let operator = Operator::new(&lab, "faults", artifacts)?;
        operator.write(&inventory)?;
        let before = lab.hosts().iter().map(Snapshot::take).collect::<Result<_>>()?;
        Ok(Self { lab, operator, inventory, next, state: State::Bare, before, made: None })
    }

    pub fn end(self) -> Result<()> {
        self.lab.down()
    }

    pub fn upgrade(&self) -> Vec<&str> {
        vec!["upgrade", "-i", "inventory.yaml", "--yes", "--output", "json", "--no-validate", "--bundle", &self.next]
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
                (State::Whole | State::Smaller | State::Newer, State::Bare) | (State::Newer, _) => {
                    self.operator.ok(&DOWN)?;
                    self.is_bare()?;
                }
                (State::Whole, State::Smaller) => {
                    self.operator.ok(&REMOVE)?;
                    self.is_smaller()?;
                }
                (State::Whole, State::Newer) => {
                    self.operator.ok(&self.upgrade())?;
                    self.is_newer()?;
                }
                (_, State::Unknown) => bail!("nothing begins with a broken site"),
                _ => {
                    // a removal struck its node out of it
                    self.operator.write(&self.inventory)?;
                    self.operator.ok(&UP)?;
                    self.is_whole()?;
                }
            }
        }
        Ok(())
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
        self.state = State::Whole;
        self.holds()
    }

    /// The same, with newer components.
    pub fn is_newer(&mut self) -> Result<()> {
        self.state = State::Newer;
        self.holds()
    }

    /// The same without the node that left; its host is what it was.
    pub fn is_smaller(&mut self) -> Result<()> {
        self.state = State::Smaller;
        self.holds()?;
        self.is_as_before(&[LEAVING])
    }

    fn holds(&mut self) -> Result<()> {
        if self.made.is_none() {
            self.made = Some(whole::make(self)?);
        }
        let mut last = None;
        let result = until(Duration::from_secs(90), "whole", || {
            last = whole::check(self).err();
            last.is_none()
        });
        result.map(drop).map_err(|error| last.unwrap_or(error))
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
pub const DOWN: [&str; 6] = ["down", "-i", "inventory.yaml", "--yes", "--output", "json"];
pub const REMOVE: [&str; 9] =
    ["node", "remove", LEAVING, "-i", "inventory.yaml", "--yes", "--delete-emptydir-data", "--output", "json"];
