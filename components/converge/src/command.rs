//! Running programs of the host, each told to the installer's log.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hoststate::Event;
use hoststate::wire::Failure;

use crate::Root;
use crate::pidfd;
use crate::sink::Sink;

/// How many of the last lines of stderr a failure carries.
const STDERR_LINES: usize = 20;

/// Runs a program to its end and gives its stdout; a status other than 0 is a [`Failure`] of step `step`.
pub fn run(sink: &Sink, step: &str, program: &str, args: &[&str]) -> Result<String, Failure> {
    let started = Instant::now();
    let output = command(program, args).output();
    report(sink, step, program, args, started, output)
}

/// Like [`run`], but ends the program, which is a failure like any other, once it is `abandoned`: looked at every second. For
/// programs that wait for something whose failure they do not see.
pub fn run_unless(
    sink: &Sink,
    step: &str,
    program: &str,
    args: &[&str],
    abandoned: impl Fn() -> bool,
) -> Result<String, Failure> {
    const LOOK_EVERY: Duration = Duration::from_secs(1);
    let started = Instant::now();
    let output = command(program, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().and_then(|mut child| {
        while !pidfd::wait_for_child(&child, LOOK_EVERY) {
            if abandoned() {
                child.kill()?;
            }
        }
        child.wait_with_output()
    });
    report(sink, step, program, args, started, output)
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

pub fn report(
    sink: &Sink,
    step: &str,
    program: &str,
    args: &[&str],
    started: Instant,
    output: std::io::Result<Output>,
) -> Result<String, Failure> {
    let line = std::iter::once(program).chain(args.iter().copied()).collect::<Vec<_>>().join(" ");
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
    let output = command(program, args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`run`], on the host whose root this is.
pub fn run_in(root: &Root, sink: &Sink, step: &str, program: &str, args: &[&str]) -> Result<String, Failure> {
    let started = Instant::now();
    let output = command_in(root, program, args).output();
    report(sink, step, program, args, started, output)
}

/// Like [`look`], on the host whose root this is.
pub fn look_in(root: &Root, program: &str, args: &[&str]) -> Option<String> {
    let output = command_in(root, program, args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Another root than `/` has programs of its own, and no others: a test must not see its machine's.
fn command_in(root: &Root, program: &str, args: &[&str]) -> Command {
    let mut command = command(program, args);
    if root.prefix != Path::new("/") {
        let folders = ["usr/sbin", "usr/bin"].map(|folder| root.prefix.join(folder).display().to_string());
        command.env("PATH", folders.join(":"));
    }
    command
}

pub fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
