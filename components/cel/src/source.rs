//! What is wrong with an expression, and how it is shown (cel-go's `common.Error`).

use std::fmt;

/// One problem at a place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Characters from the start of the source.
    pub at: usize,
    pub message: String,
}

/// Everything that is wrong with an expression; shown as upstream shows it, with the line and a mark below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    pub problems: Vec<Problem>,
    shown: String,
}

impl CompileError {
    pub fn new(source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.at);
        problems.dedup();
        let shown = problems.iter().map(|p| show(source, p)).collect::<Vec<_>>().join("\n");
        CompileError { problems, shown }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::error::Error for CompileError {}

fn show(source: &str, problem: &Problem) -> String {
    let (mut line, mut column) = (1, 0);
    for c in source.chars().take(problem.at) {
        if c == '\n' {
            (line, column) = (line + 1, 0);
        } else {
            column += 1;
        }
    }
    let text = source.split('\n').nth(line - 1).unwrap_or_default().replace('\t', " ");
    format!("ERROR: <input>:{line}:{}: {}\n | {text}\n | {}^", column + 1, problem.message, ".".repeat(column))
}
