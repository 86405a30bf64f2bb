//! The hosts, their cluster as it should be, and the person who works on it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::operator::{Artifacts, Inventory, Operator, artifact};
use e2e::scenario::until_ok;
use e2e::snapshot::Snapshot;
use lab::Lab;

use crate::bundles::Bundles;
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
    /// All of it, with newer components, for the n-th time.
    Newer(u32),
    /// All of it, with a newer container runtime too.
    Newest,
    /// All of it, every host a control plane.
    Grown,
    /// The same, with newer components, for the n-th time.
    GrownNewer(u32),
    /// A case failed half-way.
    Unknown,
}

/// What brings a site from one state to another, without faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    StartOver,
    Up,
    Grow,
    Remove,
    Upgrade,
    Down,
}

impl State {
    /// The next leg of the way from here to another state, and where it ends.
    fn leg_to(self, wanted: State) -> Result<(Leg, State)> {
        Ok(match (self, wanted) {
            (_, State::Newest | State::GrownNewer(_) | State::Newer(2..) | State::Unknown) => {
                bail!("there is no way to {wanted:?} without its case")
            }
            (State::Unknown, _) => (Leg::StartOver, State::Bare),
            (State::Bare | State::Whole, State::Grown) => (Leg::Grow, State::Grown),
            (State::Whole, State::Smaller) => (Leg::Remove, State::Smaller),
            (State::Whole, State::Newer(_)) => (Leg::Upgrade, wanted),
            (State::Bare, _) | (State::Smaller, State::Whole | State::Newer(_)) => (Leg::Up, State::Whole),
            _ => (Leg::Down, State::Bare),
        })
    }

    /// Every host is a control plane.
    pub fn is_grown(self) -> bool {
        matches!(self, State::Grown | State::GrownNewer(_))
    }

    /// How many legs the way has.
    pub fn distance(self, wanted: State) -> usize {
        let next = |state: &State| match *state == wanted {
            true => None,
            false => state.leg_to(wanted).ok().map(|(_, at)| at),
        };
        std::iter::successors(Some(self), next).count() - 1
    }
}

/// Clusters are made with a bundle without the sample's images, which nobody asks for here: hosts would import them in every case.
pub fn artifacts() -> Result<Artifacts> {
    Ok(Artifacts { bundle: artifact("KINSTALL_BUNDLE_PLAIN")?, ..Artifacts::from_env()? })
}

pub struct Site {
    pub lab: Lab,
    pub operator: Operator,
    pub inventory: Inventory,
    bundles: Bundles,
    pub state: State,
    /// The hosts before kinstall was ever there.
    before: Vec<Snapshot>,
    /// uid of what was made on the cluster that stands: it must stay the same object.
    pub made: Option<String>,
}

impl Site {
    pub fn new() -> Result<Self> {
        let artifacts = artifacts()?;
        let lab = Lab::up(HOSTS)?;
        let inventory = Inventory { wordpress: false, ..Inventory::of(&lab, &artifacts) };
        let operator = Operator::new(&lab, "faults", artifacts)?;
        operator.write(&inventory)?;
        let bundles = Bundles::new(&operator, lab.state_dir().join("bundles"))?;
        let before = lab.hosts().iter().map(Snapshot::take).collect::<Result<_>>()?;
        Ok(Self { lab, operator, inventory, bundles, state: State::Bare, before, made: None })
    }

    pub fn end(self) -> Result<()> {
        self.lab.down()
    }

    /// To newer components, or from there to a newer runtime.
    pub fn upgrade(&self, to: State) -> Vec<&str> {
        [&UPGRADE[..], &["--bundle", self.bundles.to(to)]].concat()
    }

    /// Has what [`Site::upgrade`] to this state needs.
    pub fn prepare(&mut self, to: State) -> Result<()> {
        self.bundles.have(&self.operator, to)
    }

    /// What every host has to have.
    pub fn version(&self) -> String {
        self.version_of(self.state)
    }

    pub fn version_of(&self, state: State) -> String {
        self.bundles.version(state)
    }

    /// Every host is a control plane, and has the pods that it had.
    pub fn grown(&self) -> Inventory {
        let mut grown = self.inventory.clone();
        grown.hosts.iter_mut().for_each(|(.., roles)| *roles = "controlPlane, worker");
        grown
    }

    /// Names of the nodes that there have to be.
    pub fn nodes(&self) -> Vec<&str> {
        let is_there = |name: &&str| self.state != State::Smaller || *name != LEAVING;
        self.lab.hosts().iter().map(lab::Host::name).filter(is_there).collect()
    }

    /// Makes the site what a case begins with, without faults.
    pub fn bring(&mut self, wanted: State) -> Result<()> {
        while self.state != wanted {
            match self.state.leg_to(wanted)?.0 {
                Leg::StartOver => self.start_over().context("after a failed case")?,
                Leg::Remove => {
                    self.operator.ok(&REMOVE)?;
                    self.is_smaller()?;
                }
                Leg::Upgrade => {
                    self.operator.ok(&self.upgrade(wanted))?;
                    self.becomes(wanted)?;
                }
                Leg::Up => {
                    // a removal struck its node out of it, or it has grown
                    self.operator.write(&self.inventory)?;
                    self.operator.ok(&UP)?;
                    self.is_whole()?;
                }
                Leg::Grow => {
                    self.operator.write(&self.grown())?;
                    self.operator.ok(&UP)?;
                    self.becomes(State::Grown)?;
                }
                Leg::Down => {
                    self.operator.ok(&DOWN)?;
                    self.is_bare()?;
                }
            }
        }
        self.lab.hosts().iter().for_each(lab::Host::trim);
        match self.state.is_grown() {
            true => self.operator.write(&self.grown()),
            false => self.operator.write(&self.inventory),
        }
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
        self.operator = Operator::new(&self.lab, "faults", artifacts()?)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_between_states_have_few_legs() {
        for (from, to, legs) in [
            (State::Whole, State::Whole, 0),
            (State::Bare, State::Whole, 1),
            (State::Bare, State::Newer(1), 2),
            (State::Smaller, State::Bare, 1),
            (State::Grown, State::Whole, 2),
            (State::Smaller, State::Grown, 2),
            (State::Newest, State::Newer(1), 3),
            (State::Newer(2), State::Newer(2), 0),
            (State::Newer(2), State::Newer(1), 3),
            (State::GrownNewer(2), State::Grown, 2),
            (State::Unknown, State::Smaller, 3),
        ] {
            assert_eq!(from.distance(to), legs, "{from:?} to {to:?}");
        }
    }
}
