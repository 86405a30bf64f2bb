//! What came of it all, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// What one case came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What the struck run did.
    pub first: String,
    /// Runs that were struck; none where a case is more than that.
    pub blows: usize,
    /// Runs that ended before they could be.
    pub missed: usize,
    /// Seconds from the blow to the struck run's end.
    pub ended: f64,
    /// Seconds from the fault's end until everything was whole, with the command run again in between.
    pub healed: f64,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub command: String,
    pub step: String,
    pub fault: String,
    pub outcome: Result<Outcome, String>,
}

#[derive(Default)]
pub struct Matrix(Vec<Row>);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { command, step, fault, outcome } = self;
        match outcome {
            Ok(Outcome { first, ended, healed, .. }) => {
                write!(
                    f,
                    "ok      {command:<16} {step:<34} {fault:<30} {first}: {ended:.1} s, whole after {healed:.1} s"
                )
            }
            Err(error) => write!(f, "FAILED  {command:<16} {step:<34} {fault:<30} {error}"),
        }
    }
}

impl Row {
    fn to_json(&self) -> Value {
        let Row { command, step, fault, outcome } = self;
        match outcome {
            Ok(Outcome { first, blows, missed, ended, healed }) => {
                json!({"command": command, "step": step, "fault": fault, "ok": true, "first": first, "struck": blows, "missed": missed, "endedSeconds": ended, "healedSeconds": healed})
            }
            Err(error) => json!({"command": command, "step": step, "fault": fault, "ok": false, "error": error}),
        }
    }
}

impl Matrix {
    pub fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    /// A matrix without rows proves nothing.
    pub fn is_good(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|row| row.outcome.is_ok())
    }

    /// One line for each command and fault: how many cases and blows, how many moments never came, and the longest times.
    pub fn summary(&self) -> String {
        let mut groups: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
        for row in &self.0 {
            groups.entry((&row.command, &row.fault)).or_default().push(row);
        }
        let mut text = String::from(
            "| command | fault | cases | struck | did not come | whole again | longest s to end | longest s to heal |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for ((command, fault), rows) in groups {
            let good: Vec<_> = rows.iter().filter_map(|row| row.outcome.as_ref().ok()).collect();
            let longest = |of: fn(&Outcome) -> f64| good.iter().map(|outcome| of(outcome)).fold(0.0, f64::max);
            let sum = |of: fn(&Outcome) -> usize| good.iter().map(|outcome| of(outcome)).sum::<usize>();
            text += &format!(
                "| {command} | {fault} | {} | {} | {} | {} | {:.1} | {:.1} |\n",
                rows.len(),
                sum(|outcome| outcome.blows),
                sum(|outcome| outcome.missed),
                good.len(),
                longest(|outcome| outcome.ended),
                longest(|outcome| outcome.healed)
            );
        }
        text
    }

    pub fn print(&self) {
        println!("\n{}", self.summary());
        for row in self.0.iter().filter(|row| row.outcome.is_err()) {
            println!("{row}");
        }
        let good = self.0.iter().filter(|row| row.outcome.is_ok()).count();
        println!("{good} of {} cases ended whole or with a clear refusal", self.0.len());
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let rows: Vec<_> = self.0.iter().map(Row::to_json).collect();
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("the matrix is in {}", path.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: &str, outcome: Result<Outcome, String>) -> Row {
        Row { command: "up".into(), step: step.into(), fault: "killed".into(), outcome }
    }

    #[test]
    fn rows_of_one_command_and_fault_are_summed_up() {
        let outcome = |healed| Ok(Outcome { first: "killed".into(), blows: 2, missed: 1, ended: 0.5, healed });
        let mut matrix = Matrix::default();
        assert!(!matrix.is_good(), "nothing was proven");
        matrix.add(row("1", outcome(3.0)));
        matrix.add(row("2", outcome(7.25)));
        assert!(matrix.is_good());
        assert!(matrix.summary().contains("| up | killed | 2 | 4 | 2 | 2 | 0.5 | 7.2 |"), "{}", matrix.summary());
        matrix.add(row("3", Err("a node is gone".into())));
        assert!(!matrix.is_good());
        assert!(matrix.summary().contains("| up | killed | 3 | 4 | 2 | 2 | 0.5 | 7.2 |"), "{}", matrix.summary());
    }
}
