//! What is tried: commands struck in their course (`struck`), and what needs more hands than that (`special`).

mod special;
mod stages;
mod struck;

use std::fmt;
use std::time::Duration;

use anyhow::Result;

pub use struck::{Command, Struck};

use crate::events::Mark;
use crate::fault::Fault;
use crate::matrix::{Outcome, Row};
use crate::site::{Site, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A spread of the steps.
    Short,
    /// Every step; the installer is killed at every n-th event.
    Long { every: usize },
}

impl Form {
    /// How long a case takes, as measured.
    pub fn seconds_each(self) -> usize {
        match self {
            Form::Short => 22,
            Form::Long { .. } => 45,
        }
    }
}

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

/// In an order in which one case leaves what the next begins with.
pub fn all(site: &mut Site, form: Form) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    match form {
        Form::Short => {
            let killed = |command, marks: &[usize]| {
                let step = format!("events {marks:?}, one run after the other");
                let marks = marks.iter().map(|n| Mark::Nth(*n)).collect();
                Case::Struck(Struck { command, step, marks, fault: Fault::Killed })
            };
            let at = |command: Command, step: &str, fault: Fault| stages::named(command, step, fault).map(Case::Struck);
            cases.push(killed(Command::Up, &[2, 9, 30, 60]));
            cases.push(killed(Command::Remove, &[2, 5, 20]));
            cases.push(killed(Command::Down, &[2, 8, 60]));
            cases.push(at(Command::Up, "the runtime starts", Fault::PowerOff(2))?);
            cases.push(at(Command::Remove, "stop components", Fault::SessionsDropped)?);
            cases.push(at(Command::Down, "stop pods", Fault::CutFor(2, Duration::from_secs(4)))?);
            cases.push(at(Command::Up, "images", Fault::DiskFull(3))?);
        }
        Form::Long { every } => {
            for command in [Command::Up, Command::Remove, Command::Upgrade, Command::Down] {
                let events = struck::count(site, command)?;
                cases.extend((1..=events).step_by(every).map(|n| {
                    let step = format!("event {n} of {events}");
                    Case::Struck(Struck { command, step, marks: vec![Mark::Nth(n)], fault: Fault::Killed })
                }));
            }
            let brief = Duration::from_secs(5);
            let faults: [fn(u32, Duration) -> Fault; 5] = [
                |n, _| Fault::PowerOff(n),
                |n, _| Fault::Cut(n),
                Fault::CutFor,
                |_, _| Fault::SessionsDropped,
                |n, _| Fault::DiskFull(n),
            ];
            for command in [Command::Up, Command::Remove, Command::Upgrade, Command::Down] {
                for fault in faults {
                    for host in command.hosts() {
                        cases.extend(stages::all(command, fault(*host, brief), *host).into_iter().map(Case::Struck));
                    }
                }
            }
        }
    }
    cases.extend(special::ALL.iter().copied().map(Case::Special));
    Ok(cases)
}
