//! `kinstall exec`: one command as root on many hosts at once.

use std::time::Duration;

use futures::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use super::{Ended, Run, chosen, fleet};
use crate::cli::{Exec, Output};
use crate::cluster::Host;
use crate::host::shell::quoted;
use crate::host::{HostError, Shell};
use crate::printer::Printer;
use crate::ssh::Exit;

/// What a host ends with that could not be asked, or whose connection broke, and kinstall where no host was asked; as ssh does.
const LOST: u8 = 255;
/// As timeout(1) does.
const TIMED_OUT: u8 = 124;
/// How long a command may take to end after it was told to, before nobody waits for it any more.
const GRACE: Duration = Duration::from_secs(8);

/// What became of one host.
struct Outcome {
    code: u8,
    /// Kept only where it is told at the end.
    output: Vec<String>,
    error: Option<HostError>,
}

/// What is wrong before a host is asked ends as nothing on hosts usually does.
pub async fn run(run: anyhow::Result<Run<'_>>, printer: &Printer, arguments: &Exec) -> Ended {
    let ended = match run {
        Ok(run) => everywhere(&run, arguments).await,
        Err(error) => Err(error),
    };
    ended.unwrap_or_else(|error| {
        printer.error(&format!("{error:#}"), Value::Null);
        Ended::Remote(LOST)
    })
}

/// As a shell ends a command that a signal has ended.
pub fn interrupted(signal: Signal) -> Ended {
    Ended::Remote(128 + signal as u8)
}

async fn everywhere(run: &Run<'_>, arguments: &Exec) -> anyhow::Result<Ended> {
    let hosts = chosen::hosts(&run.cluster, &arguments.hosts, &arguments.chosen)?;
    let script = script(&arguments.command);
    let at_once = Semaphore::new(run.cluster.limits.hosts);
    let width = hosts.iter().map(|host| host.name.len()).max().unwrap_or_default();
    let working = hosts.iter().map(|host| {
        let (at_once, script) = (&at_once, &script);
        async move {
            let _permit = at_once.acquire().await;
            on_host(run, host, script, arguments.timeout, width).await
        }
    });
    let outcomes = join_all(working).await;
    let mut rows = Vec::new();
    for (host, outcome) in hosts.iter().zip(&outcomes) {
        match (&outcome.error, outcome.code) {
            (Some(error), _) => fleet::tell(run.printer, error),
            (None, 0) => {}
            (None, TIMED_OUT) if arguments.timeout.is_some() => {
                let seconds = arguments.timeout.unwrap_or_default().as_secs();
                let text = format!("{}: it did not end within {seconds} s; it was ended", host.name);
                run.printer.error(&text, json!({"host": host.name, "status": outcome.code}));
            }
            (None, code) => {
                let text = format!("{}: exit status {code}", host.name);
                run.printer.error(&text, json!({"host": host.name, "status": code}));
            }
        }
        let error = outcome.error.as_ref().map(|error| format!("{}: {}", error.step, error.message));
        let mut row = json!({"host": host.name, "status": outcome.code, "error": error});
        if run.printer.output() != Output::Json {
            row["output"] = json!(outcome.output.join("\n"));
        }
        rows.push(row);
    }
    let worst = outcomes.iter().map(|outcome| outcome.code).max().unwrap_or_default();
    // for people all of it has been told
    if !run.printer.is_text() {
        run.printer.result("", &json!({"event": "exec", "ok": worst == 0, "status": worst, "hosts": rows}));
    }
    Ok(Ended::Remote(worst))
}

/// Several words are a command and its arguments as they are; one alone is a line of a shell.
fn script(command: &[String]) -> String {
    match command {
        [line] => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

async fn on_host(run: &Run<'_>, host: &Host, script: &str, timeout: Option<Duration>, width: usize) -> Outcome {
    let mut output = Vec::new();
    let mut seen = |line: String| {
        let fields = json!({"host": host.name});
        if !run.printer.stream("output", &format!("{:<width$} | {line}", host.name), &line, fields) {
            output.push(line);
        }
    };
    let (code, error) = match work(run, host, script, timeout, &mut seen).await {
        Ok(code) => (code, None),
        Err(error) => (LOST, Some(error)),
    };
    Outcome { code, output, error }
}

async fn work(
    run: &Run<'_>,
    host: &Host,
    script: &str,
    timeout: Option<Duration>,
    seen: &mut dyn FnMut(String),
) -> Result<u8, HostError> {
    const STEP: &str = "exec";
    let shell = Shell::open(host, run.cluster.limits.connect_timeout).await?;
    let mut process = shell.start(STEP, script).await?;
    let deadline = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let mut ended = false;
    let exit = loop {
        let until = deadline.map(|deadline| if ended { deadline + GRACE } else { deadline });
        let line = match until {
            Some(until) => tokio::time::timeout_at(until, process.line()).await,
            None => Ok(process.line().await),
        };
        match line {
            Ok(Ok(Some(line))) => seen(line),
            Ok(Ok(None)) => break process.finish().await,
            Ok(Err(error)) => return Err(HostError::new(&host.name, STEP, format!("the connection broke: {error}"))),
            Err(_) if ended => break Exit::default(),
            Err(_) => {
                ended = true;
                // the end of its stdin ends it
                if let Some(mut stdin) = process.stdin.take() {
                    let _ = stdin.shutdown().await;
                }
            }
        }
    };
    shell.close().await;
    if ended {
        return Ok(TIMED_OUT);
    }
    match exit.status {
        Some(status) => Ok(u8::try_from(status).unwrap_or(LOST)),
        None => Err(HostError::new(&host.name, STEP, "the connection ended before the command did")
            .hint("check that the host is up and reachable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_and_a_line_is_the_shells() {
        let command = |words: &[&str]| script(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(command(&["uptime | wc -l"]), "uptime | wc -l");
        assert_eq!(command(&["echo", "a  b", "$HOME", "it's"]), r"echo 'a  b' '$HOME' 'it'\''s'");
    }

    #[test]
    fn whatever_a_host_ends_with_is_a_code_of_ours() {
        assert_eq!(Ended::Remote(7).code(), 7);
    }
}
