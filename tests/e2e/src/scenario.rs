//! A small harness: scenarios in order on one lab, since there is one lab on a machine and a cluster takes its time to boot.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// What is done with a story, the lab and all that the scenarios share; in a table it stands beside its name.
pub type Scenario<S> = fn(&S) -> anyhow::Result<()>;

/// A whole story of chapters, each of which goes on whatever became of the one before it.
pub fn tell<S>(
    begin: impl FnOnce() -> anyhow::Result<S>,
    chapters: &[&[(&str, Scenario<S>)]],
    end: impl FnOnce(S) -> anyhow::Result<()>,
) -> ExitCode {
    play(
        begin,
        |runner: &mut Runner, story: &S| {
            for chapter in chapters {
                runner.chapter(chapter, story);
            }
        },
        end,
    )
}

/// The same for a story whose scenarios depend on each other in a way of their own. `end` takes the lab away.
pub fn play<S>(
    begin: impl FnOnce() -> anyhow::Result<S>,
    scenarios: impl FnOnce(&mut Runner, &S),
    end: impl FnOnce(S) -> anyhow::Result<()>,
) -> ExitCode {
    let story = match begin() {
        Ok(story) => story,
        Err(error) => {
            eprintln!("the lab does not come up: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let mut runner = Runner::from_args();
    scenarios(&mut runner, &story);
    if let Err(error) = end(story) {
        runner.run("the lab goes without a trace", || Err(error));
    }
    runner.finish()
}

/// Runs scenarios one after the other and remembers how they went. A failed one does not stop those that do not need it.
#[derive(Default)]
pub struct Runner {
    filter: Option<String>,
    passed: Vec<String>,
    failed: Vec<(String, String)>,
}

impl Runner {
    /// Takes a part of a scenario's name as first argument, or several between `|`; what a chosen one needs has to be chosen
    /// with it.
    pub fn from_args() -> Self {
        Self { filter: std::env::args().nth(1).filter(|arg| !arg.starts_with('-')), ..Self::default() }
    }

    /// True when it ran and passed.
    pub fn run(&mut self, name: &str, scenario: impl FnOnce() -> anyhow::Result<()>) -> bool {
        if self.filter.as_ref().is_some_and(|filter| !filter.split('|').any(|part| name.contains(part))) {
            return false;
        }
        let started = Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(scenario))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked; see above")));
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                println!("ok      {seconds:7.1} s  {name}");
                self.passed.push(name.to_owned());
                true
            }
            Err(error) => {
                println!("FAILED  {seconds:7.1} s  {name}\n{error:?}\n");
                self.failed.push((name.to_owned(), format!("{error:#}")));
                false
            }
        }
    }

    /// Each scenario needs those before it: what follows a failed one would only fail again.
    pub fn chapter<S>(&mut self, scenarios: &[(&str, Scenario<S>)], story: &S) {
        let mut failed: Option<&str> = None;
        for (name, scenario) in scenarios {
            match failed {
                Some(because) => self.not_run(name, because),
                None if !self.run(name, || scenario(story)) => failed = Some(name),
                None => {}
            }
        }
    }

    /// Scenarios that do not need each other. True when every one ran and passed.
    pub fn each<S>(&mut self, scenarios: &[(&str, Scenario<S>)], story: &S) -> bool {
        let mut passed = true;
        for (name, scenario) in scenarios {
            passed &= self.run(name, || scenario(story));
        }
        passed
    }

    /// A scenario that could not run because one before it failed counts as failed.
    pub fn not_run(&mut self, name: &str, because: &str) {
        println!("FAILED             {name}: not run, because {because:?} failed");
        self.failed.push((name.to_owned(), format!("not run, because {because:?} failed")));
    }

    pub fn finish(self) -> ExitCode {
        println!("\n{} scenarios passed, {} failed", self.passed.len(), self.failed.len());
        for (name, why) in &self.failed {
            println!("  failed: {name}: {}", why.lines().next().unwrap_or_default());
        }
        if self.failed.is_empty() && !self.passed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Asks until it is so. What is waited for is another machine's work, seen from outside.
pub fn until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > limit {
            anyhow::bail!("after {} s still not: {what}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(started.elapsed())
}

/// The same for what says why it is not so; what it said last is in the error.
pub fn until_ok<T>(limit: Duration, what: &str, mut look: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut last = Err(anyhow::anyhow!("nobody has looked"));
    let waited = until(limit, what, || {
        last = look();
        last.is_ok()
    });
    match waited {
        Ok(_) => last,
        Err(late) => last.context(late.to_string()),
    }
}
