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
    /// Command, step and fault, as the matrix has them.
    pub fn names(&self) -> (String, String, String) {
        match self {
            Case::Struck(struck) => (struck.command.to_string(), struck.step.clone(), struck.fault.to_string()),
            Case::Special(special) => (special.command.to_string(), special.step.into(), special.fault.into()),
        }
    }

    /// What it begins with, where a site is in this state.
    fn begins(&self, state: State) -> State {
        match self {
            Case::Struck(struck) => struck.command.begins(state),
            Case::Special(special) => special.begins,
        }
    }

    /// About how long it takes.
    pub fn seconds(&self) -> usize {
        match self {
            Case::Struck(struck) => struck.seconds(),
            Case::Special(_) => 35,
        }
    }

    /// Its line of the matrix, and what is left for another case.
    pub fn run(&self, site: &mut Site) -> (Row, Option<Self>) {
        let (command, step, fault) = self.names();
        let ran: Result<(Outcome, Option<Struck>)> = match self {
            Case::Struck(struck) => struck.run(site),
            Case::Special(special) => {
                site.bring(special.begins).and_then(|()| special.run(site)).map(|outcome| (outcome, None))
            }
        };
        let (outcome, rest) = match ran {
            Ok((outcome, rest)) => (Ok(outcome), rest.map(Case::Struck)),
            Err(error) => {
                site.state = State::Unknown;
                (Err(format!("{error:#}")), None)
            }
        };
        (Row { command, step, fault, outcome }, rest)
    }
}

/// Takes the case whose beginning is nearest to this state. What takes a cluster down waits until nobody else has a use for it.
pub fn take_nearest(cases: &mut Vec<Case>, state: State) -> Option<Case> {
    let waits = |case: &Case| match case {
        Case::Struck(Struck { command: Command::Down, .. }) => 2,
        // a drained upgrade begins with what one of components has left, and with nothing newer
        Case::Struck(Struck { command: Command::Upgrade, .. }) if state == State::Newer(1) => 1,
        _ => 0,
    };
    let costs = |case: &Case| (state.distance(case.begins(state)), waits(case));
    let nearest = cases.iter().enumerate().min_by_key(|(_, case)| costs(case))?.0;
    Some(cases.remove(nearest))
}

/// The short form: each command struck, faults of every kind, and most of what needs more hands.
pub fn short() -> Result<Vec<Case>> {
    let killed = |command, marks: &[usize]| {
        let step = format!("events {marks:?}, one run after the other");
        let marks = marks.iter().map(|n| Mark::Nth(*n)).collect();
        Ok(Case::Struck(Struck { command, step, marks, fault: Fault::Killed }))
    };
    let at = |command: Command, step: &str, fault: Fault| stages::named(command, step, fault).map(Case::Struck);
    let special = |command: Command, fault: &str| special::named(command, fault).map(Case::Special);
    [
        killed(Command::Up, &[2, 9, 30, 60]),
        killed(Command::Remove, &[2, 5, 20]),
        at(Command::Remove, "Node deleted", Fault::PowerOff(3)),
        at(Command::Up, "hosts begin", Fault::Cut(1)),
        at(Command::Up, "nodes Ready", Fault::PowerOff(3)),
        at(Command::Upgrade, "the kubelet restarts", Fault::SessionsDropped),
        at(Command::Upgrade, "is the first one well", Fault::PowerOff(1)),
        special(Command::Drained, "the new one does not start"),
        at(Command::Drained, "the runtime restarts", Fault::PowerOff(2)),
        killed(Command::Down, &[2, 8, 60]),
        at(Command::Up, "images", Fault::DiskFull(3)),
        special(Command::Up, "two operators, one directory"),
        special(Command::Up, "the state directory is elsewhere"),
        special(Command::Up, "another machine at h2's address"),
        at(Command::Grow, "etcd starts", Fault::PowerOff(1)),
        at(Command::Down, "stop pods", Fault::CutFor(2, BRIEF)),
        special(Command::Down, "goes on from another machine"),
        special(Command::Up, "killed, then taken down"),
        at(Command::Up, "hosts begin", Fault::Clock(3, -HOUR)),
        at(Command::Upgrade, "the kubelet restarts", Fault::Clock(2, -HOUR)),
    ]
    .into_iter()
    .collect()
}

/// How far a clock is off.
const HOUR: i32 = 3600;
const BRIEF: Duration = Duration::from_secs(4);

/// Parts of the long form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The installer is killed at every moment of a command
    Kills,
    /// Hosts are struck in every stage of a command
    Stages,
    /// What needs more hands than that, of whatever command
    Special,
}

pub const KINDS: [Kind; 3] = [Kind::Kills, Kind::Stages, Kind::Special];

/// Every case of these commands and kinds; the installer is killed at every n-th moment of each.
pub fn long(site: &mut Site, commands: &[Command], kinds: &[Kind], every: usize) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for kind in kinds {
        match kind {
            Kind::Kills => {
                for command in commands {
                    cases.extend(struck::killed(site, *command, every)?.into_iter().map(Case::Struck));
                }
            }
            Kind::Stages => cases.extend(in_stages(commands)),
            Kind::Special => cases.extend(special::ALL.map(Case::Special)),
        }
    }
    Ok(cases)
}

fn in_stages(commands: &[Command]) -> Vec<Case> {
    let mut cases = Vec::new();
    let faults: [fn(u32) -> Fault; 7] = [
        Fault::PowerOff,
        Fault::Cut,
        |host| Fault::CutFor(host, BRIEF),
        |_| Fault::SessionsDropped,
        Fault::DiskFull,
        |host| Fault::Clock(host, HOUR),
        |host| Fault::Clock(host, -HOUR),
    ];
    for command in commands {
        for fault in faults {
            for host in command.hosts() {
                let fault = fault(*host);
                // what strikes all hosts is marked by the last, once
                if fault.host().is_some() || command.hosts().last() == Some(host) {
                    cases.extend(stages::all(*command, fault, *host).into_iter().map(Case::Struck));
                }
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::CHAIN;

    #[test]
    fn no_two_cases_have_one_line() {
        let names: std::collections::BTreeSet<_> = in_stages(&COMMANDS).iter().map(Case::names).collect();
        assert_eq!(names.len(), in_stages(&COMMANDS).len());
    }

    #[test]
    fn one_case_leaves_what_the_next_begins_with() {
        let stages = |command: &Command| stages::all(*command, Fault::SessionsDropped, 3).into_iter().take(1);
        let mut cases: Vec<_> = COMMANDS.iter().rev().flat_map(stages).map(Case::Struck).collect();
        let (mut state, mut order, mut legs) = (State::Bare, Vec::new(), 0);
        while let Some(case) = take_nearest(&mut cases, state) {
            let Case::Struck(struck) = case else { unreachable!() };
            legs += state.distance(struck.command.begins(state));
            order.push(struck.command.to_string());
            state = struck.command.ends(state);
        }
        assert_eq!(
            order,
            ["up", "up, 1 to 3", "upgrade of three", "down", "upgrade", "upgrade, drained", "node remove"]
        );
        assert_eq!(legs, 3);
    }
    #[test]
    fn upgrades_follow_each_other_until_a_cluster_is_made_anew() {
        for (command, anew, newer) in [
            (Command::Upgrade, State::Whole, State::Newer as fn(u32) -> State),
            (Command::UpgradeThree, State::Grown, State::GrownNewer),
        ] {
            let mut state = anew;
            for n in 1..=CHAIN {
                assert_eq!(command.begins(state), state);
                state = command.ends(state);
                assert_eq!(state, newer(n));
            }
            assert_eq!(command.begins(state), anew);
        }
    }
}
