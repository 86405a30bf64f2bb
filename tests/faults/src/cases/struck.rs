//! A command that is struck in its course, and run again.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use e2e::operator::both;

use crate::events::{Mark, Ran, follow, tail};
use crate::fault::Fault;
use crate::matrix::Outcome;
use crate::site::{self, Site, State};

/// A run that a fault left hanging has to notice it and end within this.
const LIMIT: Duration = Duration::from_secs(150);

/// What `node remove` says of a node that is gone.
const GONE: &str = "nor a node of the cluster";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Up,
    Upgrade,
    Remove,
    Down,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Command::Up => "up",
            Command::Upgrade => "upgrade",
            Command::Remove => "node remove",
            Command::Down => "down",
        })
    }
}

impl Command {
    fn args(self, site: &Site) -> Vec<&str> {
        match self {
            Command::Up => site::UP.to_vec(),
            Command::Upgrade => site.upgrade(),
            Command::Remove => site::REMOVE.to_vec(),
            Command::Down => site::DOWN.to_vec(),
        }
    }

    fn begins(self) -> State {
        match self {
            Command::Up => State::Bare,
            Command::Upgrade | Command::Remove | Command::Down => State::Whole,
        }
    }

    /// The hosts it works on.
    pub fn hosts(self) -> &'static [u32] {
        match self {
            Command::Remove => &[3],
            Command::Up | Command::Upgrade | Command::Down => &[1, 2, 3],
        }
    }

    /// It did all that it is for.
    fn is_done(self, site: &mut Site) -> Result<()> {
        match self {
            Command::Up => site.is_whole(),
            Command::Upgrade => site.is_newer(),
            Command::Remove => site.is_smaller(),
            Command::Down => site.is_bare(),
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
    pub fn run(&self, site: &mut Site) -> Result<Outcome> {
        // newer or not is all the same to what is taken down
        if (self.command, site.state) != (Command::Down, State::Newer) {
            site.bring(self.command.begins())?;
        }
        let mut outcome = Outcome::default();
        let mut blows = 0;
        for mark in &self.marks {
            let child = site.operator.start(&self.command.args(site))?;
            let ran = follow(child, mark, LIMIT, |child| self.fault.strike(&site.lab, child));
            self.fault.lift(&site.lab).context("the fault cannot be lifted")?;
            let ran = ran.context("the struck run")?;
            outcome.first = self.judge(mark, &ran)?.to_owned();
            outcome.ended = ran.struck.unwrap_or_default();
            blows += usize::from(ran.struck.is_some());
        }
        if self.marks.len() > 1 {
            ensure!(blows > 1, "only {blows} of its runs came as far as to be struck");
            outcome.first = format!("{blows} runs struck");
        }
        let started = Instant::now();
        self.again(site).context("run again")?;
        self.command.is_done(site).context("after it was run again")?;
        outcome.healed = started.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// In peace. A node that the struck run has taken out to the end is unknown now, and that is a clear word, too.
    fn again(&self, site: &Site) -> Result<()> {
        let args = self.command.args(site);
        let output = site.operator.run(&args)?;
        let said = both(&output);
        let gone = self.command == Command::Remove && said.contains(GONE);
        ensure!(output.status.success() || gone, "kinstall {} ended with {}:\n{said}", args.join(" "), output.status);
        Ok(())
    }

    /// What the struck run did; an error where it said too little.
    fn judge(&self, mark: &Mark, ran: &Ran) -> Result<&'static str> {
        match (ran.struck, ran.code, mark) {
            (Some(_), None, _) if self.fault == Fault::Killed => Ok("killed"),
            // runs differ by some events, and one that goes on where another stopped has fewer
            (None, Some(0), Mark::Nth(_)) => Ok("ended before"),
            (None, Some(1), Mark::Nth(_)) if self.command == Command::Remove && ran.errors().contains(GONE) => {
                Ok("ended before")
            }
            (None, ..) => bail!("it ended before that step, with {:?}:\n{}", ran.code, tail(&ran.said, 10)),
            (Some(_), Some(0), _) => Ok("went on"),
            (Some(_), Some(1), _) => {
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

/// How many events a command has that nothing disturbs.
pub fn count(site: &mut Site, command: Command) -> Result<usize> {
    site.bring(command.begins())?;
    let ran = follow(site.operator.start(&command.args(site))?, &Mark::Nth(0), LIMIT, |_| Ok(()))?;
    ensure!(ran.code == Some(0), "{command} ended with {:?}:\n{}", ran.code, tail(&ran.said, 10));
    command.is_done(site)?;
    Ok(ran.events)
}
