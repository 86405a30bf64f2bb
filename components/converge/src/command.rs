//! Running programs of the host, each told to the installer's log.

use std::process::{Command, Stdio};
use std::time::Instant;

use hoststate::Event;
use hoststate::wire::Failure;

use crate::sink::Sink;

/// How many of the last lines of stderr a failure carries.
const STDERR_LINES: usize = 20;

/// Runs a program to its end and gives its stdout; a status other than 0 is a [`Failure`] of step `step`.
pub fn run(sink: &Sink, step: &str, program: &str, args: &[&str]) -> Result<String, Failure> {
    let line = std::iter::once(program).chain(args.iter().copied()).collect::<Vec<_>>().join(" ");
    let started = Instant::now();
    let output = Command::new(program).args(args).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let status = output.as_ref().ok().and_then(|o| o.status.code());
    sink.send(&Event::Command { line: line.clone(), status, millis: millis(started) });
    let output = output.map_err(|error| Failure {
        step: step.to_owned(),
        message: format!("cannot run {program}: {error}"),
        command: Some(line.clone()),
        status: None,
        stderr: Vec::new(),
        hint: Some(format!("install the package that brings {program}")),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<String> = stderr.lines().map(str::to_owned).collect();
    Err(Failure {
        step: step.to_owned(),
        message: format!("{program} failed"),
        command: Some(line),
        status,
        stderr: lines[lines.len().saturating_sub(STDERR_LINES)..].to_vec(),
        hint: None,
    })
}

/// stdout of a program that may be missing or fail; used to look, never to change.
pub fn look(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
