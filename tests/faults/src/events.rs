//! One run of the installer, followed by its JSON events; at a mark something strikes.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// A place in a run.
#[derive(Clone, Debug)]
pub enum Mark {
    /// The n-th event, counted from 1.
    Nth(usize),
    /// The first event that tells this.
    Moment(Moment),
    /// The first event of this kind whose text begins so.
    Event(&'static str, &'static str),
    /// A host begins, or has done, a step whose resource begins so.
    Step(String, &'static str),
}

impl Mark {
    fn is_at(&self, number: usize, event: &Value) -> bool {
        let begins =
            |field: &str, start: &str| event[field].as_str().is_some_and(|text| text.trim_start().starts_with(start));
        match self {
            Mark::Nth(wanted) => number == *wanted,
            Mark::Moment(wanted) => Moment::of(event) == *wanted,
            Mark::Event(kind, text) => event["event"] == *kind && begins("text", text),
            Mark::Step(host, resource) => {
                event["event"] == "step" && event["host"] == *host && begins("resource", resource)
            }
        }
    }
}

/// Events come in bursts: a directory is made in no time. Who is killed a moment later is killed at the same place.
const INSTANT_MILLIS: u64 = 20;

/// What an event tells, the same in every run: of which host, and without the numbers in its words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    event: String,
    host: String,
    what: String,
}

impl Moment {
    fn of(event: &Value) -> Self {
        let field = |name: &str| event[name].as_str().unwrap_or_default();
        let is_number = |word: &&str| word.starts_with(|it: char| it.is_ascii_digit());
        let subject = ["resource", "line", "text"].map(field).join(" ");
        // versions in paths differ between runs, too
        let without_digits = |word: &str| word.replace(|it: char| it.is_ascii_digit(), "");
        let words: Vec<_> = subject.split_whitespace().filter(|word| !is_number(word)).map(without_digits).collect();
        let finished = if event["finished"] == true { " (done)" } else { "" };
        Self { event: field("event").into(), host: field("host").into(), what: words.join(" ") + finished }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    /// When the blow fell, seconds before the end; none when the mark never came.
    pub struck: Option<f64>,
    /// None: it was killed.
    pub code: Option<i32>,
    /// Everything it printed.
    pub said: String,
}

impl Ran {
    fn told(&self) -> impl Iterator<Item = Value> {
        self.said.lines().filter_map(|line| serde_json::from_str(line).ok())
    }

    /// What it told, in order, each once; of what came at the same instant the first.
    pub fn moments(&self) -> Vec<Moment> {
        let (mut known, mut instant) = (BTreeSet::new(), None);
        let mut is_new = |event: &Value| {
            let millis = event["millis"].as_u64().unwrap_or_default();
            let later = instant.is_none_or(|before| millis >= before + INSTANT_MILLIS);
            let new = later && known.insert(Moment::of(event));
            if new {
                instant = Some(millis);
            }
            new
        };
        self.told().filter(|event| is_new(event)).map(|event| Moment::of(&event)).collect()
    }

    /// What it reported as errors, and as checks that failed.
    pub fn errors(&self) -> String {
        self.told()
            .filter(|event| event["event"] == "error" || event["ok"] == false)
            .filter_map(|event| event["text"].as_str().map(str::to_owned))
            .collect()
    }
}

/// Follows a run to its end. `strike` is called once, at the mark.
///
/// # Errors
/// When it does not end within `limit`, or when the blow itself fails; then it is ended.
pub fn follow(
    mut child: Child,
    mark: &Mark,
    limit: Duration,
    strike: impl FnOnce(&mut Child) -> Result<()>,
) -> Result<Ran> {
    let started = Instant::now();
    let (lines, received) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let reading = std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let mut stderr = child.stderr.take().context("no stderr")?;
    let complaints = std::thread::spawn(move || {
        let mut text = String::new();
        // what was read until an error is all that can be told
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let mut strike = Some(strike);
    let mut struck: Option<Instant> = None;
    let (mut events, mut said) = (0, String::new());
    loop {
        match received.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => {
                said += &line;
                said.push('\n');
                let Ok(event) = serde_json::from_str::<Value>(&line) else { bail!("not JSON: {line}") };
                events += 1;
                if mark.is_at(events, &event)
                    && let Some(strike) = strike.take()
                {
                    struck = Some(Instant::now());
                    if let Err(error) = strike(&mut child) {
                        let _ = child.kill();
                        return Err(error.context("cannot make the fault"));
                    }
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                bail!("it did not end within {} s; it said:\n{}", limit.as_secs(), tail(&said, 15));
            }
        }
    }
    let status = child.wait()?;
    let ended = struck.map(|at| at.elapsed().as_secs_f64());
    if reading.join().is_err() {
        bail!("reading the installer's output panicked");
    }
    said += &complaints.join().unwrap_or_default();
    Ok(Ran { struck: ended, code: status.code(), said })
}

/// The last lines.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};

    use super::*;

    const EVENTS: &str = r#"
        echo '{"event":"phase","millis":0,"text":"connecting"}'
        echo '{"event":"step","millis":30,"host":"h1","resource":"unit a.service"}'
        echo '{"event":"step","millis":60,"host":"h2","resource":"unit a.service"}'
        echo '{"event":"step","millis":61,"host":"h2","resource":"unit b.service"}'
        echo '{"event":"error","millis":90,"text":"h2: broken"}'
        exec sleep 0.2; exit 3"#;

    fn run(mark: &Mark, script: &str, limit: f64) -> (Result<Ran>, bool) {
        let mut command = Command::new("sh");
        let child = command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut fell = false;
        let ran = follow(child, mark, Duration::from_secs_f64(limit), |child| {
            fell = true;
            Ok(child.kill()?)
        });
        (ran, fell)
    }

    #[test]
    fn the_blow_falls_at_its_mark_and_nowhere_else() {
        for mark in [Mark::Nth(3), Mark::Event("phase", "conn"), Mark::Step("h2".into(), "unit a")] {
            let (ran, fell) = run(&mark, EVENTS, 10.0);
            assert!(fell && ran.unwrap().struck.is_some(), "{mark:?}");
        }
        for mark in [Mark::Nth(6), Mark::Event("phase", "hosts"), Mark::Step("h3".into(), "unit a")] {
            let (ran, fell) = run(&mark, EVENTS, 10.0);
            let ran = ran.unwrap();
            assert!(!fell && ran.struck.is_none() && ran.moments().len() == 4, "{mark:?}: {ran:?}");
            assert_eq!(ran.errors(), "h2: broken");
        }
    }

    #[test]
    fn a_moment_is_found_again_in_another_run() {
        let told = |millis: u32, host: &str| {
            let text = format!("{host}: {millis} of 62 change /opt/0.1.{millis}/bin");
            format!(r#"echo '{{"event":"plan","millis":{millis},"host":"{host}","text":"{text}"}}'"#)
        };
        let (first, _) =
            run(&Mark::Nth(0), &format!("{}; {}; {}", told(10, "h1"), told(40, "h2"), told(80, "h1")), 10.0);
        let moments = first.unwrap().moments();
        assert_eq!(moments.len(), 2, "one of each host: {moments:?}");
        let (again, fell) =
            run(&Mark::Moment(moments[1].clone()), &format!("{}; {}", told(8, "h1"), told(9, "h2")), 10.0);
        assert!(fell && again.unwrap().struck.is_some());
    }

    #[test]
    fn one_that_does_not_end_is_ended() {
        let (ran, _) = run(&Mark::Nth(9), "echo '{}'; exec sleep 60", 0.3);
        assert!(ran.unwrap_err().to_string().contains("did not end"));
    }
}
