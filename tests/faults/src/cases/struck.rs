//! A command that is struck in its course, and run again.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use e2e::operator::{Operator, both};

use crate::bundles::CHAIN;
use crate::events::{Mark, Moment, Ran, follow, tail};
use crate::fault::Fault;
use crate::matrix::Outcome;
use crate::site::{self, Site, State};

/// A run that a fault left hanging has to notice it and end within this.
const LIMIT: Duration = Duration::from_secs(150);

/// What `node remove` says of a node that is gone.
pub const GONE: &str = "nor a node of the cluster";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Command {
    Up,
    /// `up` with every host a control plane, where one was.
    Grow,
    /// Components alone.
    Upgrade,
    /// The container runtime too, where components are newer already: every node is drained.
    Drained,
    /// Components alone, of three control planes.
    UpgradeThree,
    Remove,
    Down,
}

pub const ALL: [Command; 7] = [
    Command::Up,
    Command::Remove,
    Command::Upgrade,
    Command::Drained,
    Command::Grow,
    Command::UpgradeThree,
    Command::Down,
];

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Command::Up => "up",
            Command::Grow => "up, 1 to 3",
            Command::Upgrade => "upgrade",
            Command::Drained => "upgrade, drained",
            Command::UpgradeThree => "upgrade of three",
            Command::Remove => "node remove",
            Command::Down => "down",
        })
    }
}

impl Command {
    pub fn args(self, site: &Site) -> Vec<&str> {
        match self {
            Command::Up | Command::Grow => site::UP.to_vec(),
            Command::Upgrade | Command::Drained | Command::UpgradeThree => site.upgrade(self.ends(site.state)),
            Command::Remove => site::REMOVE.to_vec(),
            Command::Down => site::DOWN.to_vec(),
        }
    }

    /// What it begins with, where a site is in this state.
    pub fn begins(self, state: State) -> State {
        match (self, state) {
            // newer or more, it is all the same to what is taken down
            (Command::Down, State::Newer(_) | State::Newest | State::Grown | State::GrownNewer(_)) => state,
            // and what is newer already can become so once more
            (Command::Upgrade, State::Newer(1..CHAIN)) | (Command::UpgradeThree, State::GrownNewer(1..CHAIN)) => state,
            (Command::Up, _) => State::Bare,
            (Command::Drained, _) => State::Newer(1),
            (Command::UpgradeThree, _) => State::Grown,
            (Command::Upgrade | Command::Remove | Command::Down | Command::Grow, _) => State::Whole,
        }
    }

    fn begin(self, site: &mut Site) -> Result<()> {
        site.bring(self.begins(site.state))?;
        site.prepare(self.ends(site.state))?;
        if self == Command::Grow { site.operator.write(&site.grown()) } else { Ok(()) }
    }

    /// What it leads to, from what it has begun with.
    pub fn ends(self, begun: State) -> State {
        match (self, begun) {
            (Command::Up, _) => State::Whole,
            (Command::Grow, _) => State::Grown,
            (Command::Upgrade, State::Newer(n)) => State::Newer(n + 1),
            (Command::Upgrade, _) => State::Newer(1),
            (Command::Drained, _) => State::Newest,
            (Command::UpgradeThree, State::GrownNewer(n)) => State::GrownNewer(n + 1),
            (Command::UpgradeThree, _) => State::GrownNewer(1),
            (Command::Remove, _) => State::Smaller,
            (Command::Down, _) => State::Bare,
        }
    }

    /// The hosts it works on.
    pub fn hosts(self) -> &'static [u32] {
        match self {
            Command::Remove => &[3],
            _ => &[1, 2, 3],
        }
    }

    /// In peace, by this operator, after a run that was not. A node that was taken out to the end is unknown now, and that is a clear
    /// word, too.
    pub fn again(self, site: &Site, operator: &Operator) -> Result<()> {
        let args = self.args(site);
        let output = operator.run(&args)?;
        let said = both(&output);
        let gone = self == Command::Remove && said.contains(GONE);
        ensure!(output.status.success() || gone, "kinstall {} ended with {}:\n{said}", args.join(" "), output.status);
        Ok(())
    }

    /// It did all that it is for.
    pub fn is_done(self, site: &mut Site) -> Result<()> {
        match self.ends(site.state) {
            State::Bare => site.is_bare(),
            State::Smaller => site.is_smaller(),
            state => site.becomes(state),
        }
    }
}

pub struct Struck {
    pub command: Command,
    pub step: String,
    /// Several: runs one after the other, each struck at its mark, before the one that is left in peace.
    pub marks: Vec<Mark>,
    pub fault: Fault,
}

impl Struck {
    /// About how long it takes, as measured.
    pub fn seconds(&self) -> usize {
        // where a host has gone on by itself, the rest is for another case
        15 + 20 * self.marks.len()
    }

    /// How it went, and a case of the moments that have not come yet.
    pub fn run(&self, site: &mut Site) -> Result<(Outcome, Option<Self>)> {
        self.command.begin(site)?;
        let mut outcome = Outcome::default();
        let mut left = Vec::new();
        for mark in &self.marks {
            match self.strike(site, mark, &mut outcome)?.struck {
                Some(_) => outcome.blows += 1,
                None => left.push(mark.clone()),
            }
        }
        let blows = outcome.blows;
        if self.marks.len() > 1 {
            // moments are left for another case, events that are counted are not
            let left = matches!(self.marks[..], [Mark::Moment(_), ..]);
            ensure!(left || blows > 1, "only {blows} of its runs came as far as to be struck");
            outcome.first = format!("{blows} of {} runs struck", self.marks.len());
        }
        if blows == 0 {
            // from the beginning it should have come
            outcome.missed = 1;
            left.remove(0);
        }
        let started = Instant::now();
        self.command.again(site, &site.operator).context("run again")?;
        self.command.is_done(site).context("after it was run again")?;
        outcome.healed = started.elapsed().as_secs_f64();
        Ok((outcome, self.rest(left)))
    }

    fn rest(&self, mut marks: Vec<Mark>) -> Option<Self> {
        marks.retain(|mark| matches!(mark, Mark::Moment(_)));
        let step = format!("{} moments that had not come", marks.len());
        (!marks.is_empty()).then_some(Self { command: self.command, step, marks, fault: self.fault })
    }

    /// One run, struck at the mark if it comes.
    fn strike(&self, site: &Site, mark: &Mark, outcome: &mut Outcome) -> Result<Ran> {
        let child = site.operator.start(&self.command.args(site))?;
        let ran = follow(child, mark, LIMIT, |child| self.fault.strike(&site.lab, child));
        self.fault.lift(&site.lab).context("the fault cannot be lifted")?;
        let ran = ran.context("the struck run")?;
        outcome.first = self.judge(mark, &ran)?.to_owned();
        outcome.ended = ran.struck.unwrap_or_default();
        Ok(ran)
    }

    /// What the struck run did; an error where it said too little.
    fn judge(&self, mark: &Mark, ran: &Ran) -> Result<&'static str> {
        match (ran.struck, ran.code, mark) {
            (Some(_), None, _) if self.fault == Fault::Killed => Ok("killed"),
            // runs differ by some events, and one that goes on where another stopped has fewer
            (None, Some(0), Mark::Nth(_) | Mark::Moment(_)) => Ok("ended before"),
            (None, Some(1), Mark::Nth(_) | Mark::Moment(_))
                if self.command == Command::Remove && ran.errors().contains(GONE) =>
            {
                Ok("ended before")
            }
            (None, ..) => bail!("it ended before that step, with {:?}:\n{}", ran.code, tail(&ran.said, 10)),
            (Some(_), Some(0), _) => Ok("went on"),
            // 3: the cluster is not as it should be
            (Some(_), Some(1 | 3), _) => {
                let errors = ran.errors();
                ensure!(!errors.is_empty(), "it failed and told no error:\n{}", tail(&ran.said, 10));
                let host = self.fault.host().unwrap_or_default();
                ensure!(errors.contains(&host), "it does not name {host}: {errors}");
                Ok("failed, told")
            }
            (_, code, _) => bail!("it ended with {code:?}:\n{}", tail(&ran.said, 10)),
        }
    }
}

/// How many runs of a case are killed, one after the other: the way to what a case begins with costs more than a run.
const BLOWS: usize = 12;

/// The installer killed at every n-th moment that this command has when nothing disturbs it, several in a case, far apart.
pub fn killed(site: &mut Site, command: Command, every: usize) -> Result<Vec<Struck>> {
    let moments: Vec<_> = course(site, command)?.into_iter().step_by(every).collect();
    let cases = moments.len().div_ceil(BLOWS);
    let case = |first: usize| {
        let marks: Vec<_> = moments.iter().skip(first).step_by(cases).cloned().map(Mark::Moment).collect();
        let step = format!("{} of {} moments, one after the other ({}/{cases})", marks.len(), moments.len(), first + 1);
        Struck { command, step, marks, fault: Fault::Killed }
    };
    Ok((0..cases).map(case).collect())
}

/// What a command tells that nothing disturbs.
fn course(site: &mut Site, command: Command) -> Result<Vec<Moment>> {
    command.begin(site)?;
    let ran = follow(site.operator.start(&command.args(site))?, &Mark::Nth(0), LIMIT, |_| Ok(()))?;
    ensure!(ran.code == Some(0), "{command} ended with {:?}:\n{}", ran.code, tail(&ran.said, 10));
    command.is_done(site)?;
    Ok(ran.moments())
}
