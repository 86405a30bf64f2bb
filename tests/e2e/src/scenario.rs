//! A small harness: scenarios in order on one lab, since there is one lab on a machine and a cluster takes its time to boot.

use std::time::{Duration, Instant};

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

    /// A scenario that could not run because one before it failed counts as failed.
    pub fn not_run(&mut self, name: &str, because: &str) {
        println!("FAILED             {name}: not run, because {because:?} failed");
        self.failed.push((name.to_owned(), format!("not run, because {because:?} failed")));
    }

    pub fn finish(self) -> std::process::ExitCode {
        println!("\n{} scenarios passed, {} failed", self.passed.len(), self.failed.len());
        for (name, why) in &self.failed {
            println!("  failed: {name}: {}", why.lines().next().unwrap_or_default());
        }
        if self.failed.is_empty() && !self.passed.is_empty() {
            std::process::ExitCode::SUCCESS
        } else {
            std::process::ExitCode::FAILURE
        }
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
