//! What is tried: commands struck in their course (`struck`), and what needs more hands than that (`special`).

mod special;
mod stages;
mod struck;

use std::fmt;
use std::time::Duration;

use anyhow::Result;

pub use struck::{ALL as COMMANDS, Command, Struck};

use crate::events::Mark;
use crate::fault::Fault;
use crate::matrix::{Outcome, Row};
use crate::site::{Site, State};

pub enum Case {
    Struck(Struck),
    Special(special::Special),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (command, step, fault) = self.names();
        write!(f, "{command}: {step}: {fault}")
    }
}

impl Case {
    fn names(&self) -> (String, String, String) {
        match self {
            Case::Struck(struck) => (struck.command.to_string(), struck.step.clone(), struck.fault.to_string()),
            Case::Special(special) => (special.command.into(), special.step.into(), special.fault.into()),
        }
    }

    /// About how long it takes.
    pub fn seconds(&self) -> usize {
        match self {
            Case::Struck(struck) => struck.seconds(),
            Case::Special(_) => 35,
        }
    }

    pub fn run(&self, site: &mut Site) -> Row {
        let (command, step, fault) = self.names();
        let outcome: Result<Outcome> = match self {
            Case::Struck(struck) => struck.run(site),
            Case::Special(special) => site.bring(special.begins).and_then(|()| (special.run)(site)),
        };
        if outcome.is_err() {
            site.state = State::Unknown;
        }
        Row { command, step, fault, outcome: outcome.map_err(|error| format!("{error:#}")) }
    }
}

/// The short form: each command struck, faults of every kind, and most of what needs more hands. In an order in which one case
/// leaves what the next begins with.
pub fn short() -> Result<Vec<Case>> {
    let killed = |command, marks: &[usize]| {
        let step = format!("events {marks:?}, one run after the other");
        let marks = marks.iter().map(|n| Mark::Nth(*n)).collect();
        Ok(Case::Struck(Struck { command, step, marks, fault: Fault::Killed }))
    };
    let at = |command: Command, step: &str, fault: Fault| stages::named(command, step, fault).map(Case::Struck);
    let special = |fault: &str| special::named(fault).map(Case::Special);
    [
        killed(Command::Up, &[2, 9, 30, 60]),
        killed(Command::Remove, &[2, 5, 20]),
        at(Command::Upgrade, "the kubelet restarts", Fault::SessionsDropped),
        special("the new one does not start"),
        at(Command::Drained, "the runtime restarts", Fault::PowerOff(2)),
        killed(Command::Down, &[2, 8, 60]),
        at(Command::Up, "images", Fault::DiskFull(3)),
        special("two operators, one directory"),
        special("the state directory is elsewhere"),
        special("another machine at h2's address"),
        at(Command::Grow, "etcd starts", Fault::PowerOff(1)),
        at(Command::Down, "stop pods", Fault::CutFor(2, BRIEF)),
        special("goes on from another machine"),
    ]
    .into_iter()
    .collect()
}

const BRIEF: Duration = Duration::from_secs(4);

/// Every step of these commands; the installer is killed at every n-th moment of each.
pub fn long(site: &mut Site, commands: &[Command], every: usize) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for command in commands {
        cases.extend(struck::killed(site, *command, every)?.into_iter().map(Case::Struck));
    }
    let faults: [fn(u32) -> Fault; 5] =
        [Fault::PowerOff, Fault::Cut, |host| Fault::CutFor(host, BRIEF), |_| Fault::SessionsDropped, Fault::DiskFull];
    for command in commands {
        for fault in faults {
            for host in command.hosts() {
                cases.extend(stages::all(*command, fault(*host), *host).into_iter().map(Case::Struck));
            }
        }
    }
    cases.extend(special::ALL.map(Case::Special));
    Ok(cases)
}
