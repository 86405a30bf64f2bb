//! Runs entries: eight at a time, the serial ones alone, each in its own namespace and with its own limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};

use crate::context::{NeedsCluster, T};
use crate::environment::Environment;

type Run = Box<dyn Fn(Arc<T>) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// One entry of the conformance list and what checks it.
pub struct Entry {
    /// The entry's name without `[Conformance]`.
    pub name: String,
    limit: Duration,
    serial: bool,
    run: Run,
}

impl Entry {
    pub fn new<F, Fut>(name: &str, run: F) -> Self
    where
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let run: Run = Box::new(move |t| Box::pin(run(t)));
        Entry { name: name.to_owned(), limit: Duration::from_secs(150), serial: false, run }
    }

    /// The same with a longer name: `prefix name`.
    pub fn under(mut self, prefix: &str) -> Self {
        self.name = format!("{prefix} {}", self.name);
        self
    }

    /// The same with the mark of entries that need kubelets of this version.
    pub fn of_kubelets(mut self, version: &str) -> Self {
        self.name = format!("{} [MinimumKubeletVersion:{version}]", self.name);
        self
    }

    /// Alone, after all others.
    pub fn serial(mut self) -> Self {
        self.serial = true;
        self
    }

    /// Seconds it may take, if not 150.
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }
}

#[derive(Debug)]
pub enum Outcome {
    Passed,
    Failed(String),
    NeedsCluster(String),
}

#[derive(Debug)]
pub struct Verdict {
    pub name: String,
    pub outcome: Outcome,
    pub took: Duration,
}

/// Runs them, printing a line for each that ends (`quiet`: none).
pub async fn run(env: &Arc<Environment>, entries: Vec<Entry>, parallel: usize, quiet: bool) -> Vec<Verdict> {
    let (serial, free): (Vec<_>, Vec<_>) = entries.into_iter().enumerate().partition(|(_, entry)| entry.serial);
    let mut verdicts = Vec::new();
    for (entries, width) in [(free, parallel), (serial, 1)] {
        let mut running = futures::stream::iter(entries)
            .map(|(number, entry)| judge(env.clone(), number, entry))
            .buffer_unordered(width);
        while let Some(verdict) = running.next().await {
            if !quiet {
                println!("{verdict}");
            }
            verdicts.push(verdict);
        }
    }
    verdicts
}

async fn judge(env: Arc<Environment>, number: usize, entry: Entry) -> Verdict {
    let begun = Instant::now();
    let outcome = match T::begin(env, number).await {
        Err(error) => Outcome::Failed(format!("{error:#}")),
        Ok(t) => {
            let t = Arc::new(t);
            let run = std::panic::AssertUnwindSafe((entry.run)(t.clone())).catch_unwind();
            let outcome = match tokio::time::timeout(entry.limit, run).await {
                Err(_) => Outcome::Failed(format!("not done after {} s", entry.limit.as_secs())),
                Ok(Err(_)) => Outcome::Failed("the test panicked".into()),
                Ok(Ok(Ok(()))) => Outcome::Passed,
                Ok(Ok(Err(error))) => match error.downcast_ref::<NeedsCluster>() {
                    Some(why) => Outcome::NeedsCluster(why.0.clone()),
                    None => Outcome::Failed(format!("{error:#}")),
                },
            };
            t.end().await;
            outcome
        }
    };
    Verdict { name: entry.name, outcome, took: begun.elapsed() }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let took = self.took.as_secs_f64();
        match &self.outcome {
            Outcome::Passed => write!(f, "ok    {took:6.1} s  {}", self.name),
            Outcome::Failed(why) => write!(f, "FAIL  {took:6.1} s  {}\n                 {why}", self.name),
            Outcome::NeedsCluster(why) => {
                write!(f, "-     {took:6.1} s  {}\n                 needs a cluster: {why}", self.name)
            }
        }
    }
}

impl Verdict {
    pub fn json(&self) -> Value {
        let (outcome, message) = match &self.outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(why) => ("failed", why.as_str()),
            Outcome::NeedsCluster(why) => ("needsCluster", why.as_str()),
        };
        json!({"name": self.name, "outcome": outcome, "message": message, "seconds": self.took.as_secs_f64()})
    }
}
