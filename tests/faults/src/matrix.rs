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
    /// None of what did not end well, and of what is no row.
    fn from_json(value: &Value) -> Option<Self> {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        let count = |field: &str| usize::try_from(value[field].as_u64()?).ok();
        let outcome = Outcome {
            first: text("first")?,
            blows: count("struck")?,
            missed: count("missed")?,
            ended: value["endedSeconds"].as_f64()?,
            healed: value["healedSeconds"].as_f64()?,
        };
        Some(Self { command: text("command")?, step: text("step")?, fault: text("fault")?, outcome: Ok(outcome) })
    }

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
    /// The cases of an earlier run that ended well.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let rows: Vec<Value> = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        Ok(Self(rows.iter().filter_map(Row::from_json).collect()))
    }

    /// Whether there is a case of this command, step and fault.
    pub fn has(&self, names: &(String, String, String)) -> bool {
        self.0.iter().any(|row| (&row.command, &row.step, &row.fault) == (&names.0, &names.1, &names.2))
    }

    pub fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    /// A matrix without rows proves nothing, and neither does a fault that was to strike and never did.
    pub fn is_good(&self) -> bool {
        let missed = |rows: &Vec<&Row>| {
            let counts: Vec<_> = rows.iter().filter_map(|row| row.outcome.as_ref().ok()).collect();
            counts.iter().any(|outcome| outcome.missed > 0) && counts.iter().all(|outcome| outcome.blows == 0)
        };
        !self.0.is_empty() && self.0.iter().all(|row| row.outcome.is_ok()) && !self.groups().values().any(missed)
    }

    /// By command and fault.
    fn groups(&self) -> BTreeMap<(&str, &str), Vec<&Row>> {
        let mut groups: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
        for row in &self.0 {
            groups.entry((row.command.as_str(), row.fault.as_str())).or_default().push(row);
        }
        groups
    }

    /// One line for each command and fault: how many cases and blows, how many moments never came, and the longest times.
    pub fn summary(&self) -> String {
        let mut text = String::from(
            "| command | fault | cases | struck | did not come | whole again | longest s to end | longest s to heal |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for ((command, fault), rows) in self.groups() {
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

    /// A table for each command: a line for each step, a column for each fault, in each cell how long the struck run went on and how long
    /// it took until all was whole, in seconds.
    fn grid(&self) -> String {
        let mut commands: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
        for Row { command, step, fault, .. } in &self.0 {
            let (steps, faults) = commands.entry(command).or_default();
            for (known, name) in [(steps, step), (faults, fault)] {
                if !known.contains(&name.as_str()) {
                    known.push(name);
                }
            }
        }
        let mut text = String::new();
        for (command, (steps, mut faults)) in commands {
            faults.sort_unstable();
            text += &format!("| {command} | {} |\n| --- |{}\n", faults.join(" | "), " --- |".repeat(faults.len()));
            for step in steps {
                let cells: Vec<_> = faults.iter().map(|fault| self.cell(command, step, fault)).collect();
                text += &format!("| {step} | {} |\n", cells.join(" | "));
            }
            text.push('\n');
        }
        text
    }

    fn cell(&self, command: &str, step: &str, fault: &str) -> String {
        let row = self.0.iter().find(|row| row.command == command && row.step == step && row.fault == fault);
        match row.map(|row| &row.outcome) {
            Some(Ok(Outcome { ended, healed, .. })) => format!("{ended:.1} / {healed:.1}"),
            Some(Err(_)) => "FAILED".into(),
            None => String::new(),
        }
    }

    pub fn print(&self) {
        println!("\n{}{}", self.grid(), self.summary());
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
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    impl Row {
        fn names(&self) -> (String, String, String) {
            (self.command.clone(), self.step.clone(), self.fault.clone())
        }
    }

    fn row(step: &str, outcome: Result<Outcome, String>) -> Row {
        Row { command: "up".into(), step: step.into(), fault: "killed".into(), outcome }
    }

    #[test]
    fn rows_of_one_command_and_fault_are_summed_up() {
        let outcome = |healed| Ok(Outcome { first: "killed".into(), blows: 2, missed: 1, ended: 0.5, healed });
        let mut matrix = Matrix::default();
        assert!(!matrix.is_good(), "nothing was proven");
        let missed = Outcome { missed: 1, ..Outcome::default() };
        assert!(!Matrix(vec![row("1", Ok(missed))]).is_good(), "nothing was struck");
        matrix.add(row("1", outcome(3.0)));
        matrix.add(row("2", outcome(7.25)));
        assert!(matrix.is_good());
        assert!(matrix.summary().contains("| up | killed | 2 | 4 | 2 | 2 | 0.5 | 7.2 |"), "{}", matrix.summary());
        matrix.add(row("3", Err("a node is gone".into())));
        assert_eq!(
            matrix.grid(),
            "| up | killed |\n| --- | --- |\n| 1 | 0.5 / 3.0 |\n| 2 | 0.5 / 7.2 |\n| 3 | FAILED |\n\n"
        );
        assert!(!matrix.is_good());
        let file = tempfile::NamedTempFile::new().unwrap();
        matrix.write(file.path()).unwrap();
        let read = Matrix::read(file.path()).unwrap();
        assert!(
            read.is_good() && read.has(&row("2", outcome(0.0)).names()) && !read.has(&row("3", outcome(0.0)).names())
        );
        assert_eq!(read.0[1].outcome, matrix.0[1].outcome);
        assert!(matrix.summary().contains("| up | killed | 3 | 4 | 2 | 2 | 0.5 | 7.2 |"), "{}", matrix.summary());
    }
}
