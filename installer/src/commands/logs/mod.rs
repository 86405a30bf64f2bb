//! `kinstall logs`: the journals of many hosts as one, in the order of time; or what is added to them, as it comes.

mod entry;

use std::collections::VecDeque;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub use entry::Entry;

use super::{Ended, Run, chosen, fleet};
use crate::cli::{Logs, Since};
use crate::cluster::{Cluster, Host};
use crate::desired::{job_names, unit_names};
use crate::host::shell::quoted;
use crate::host::{HostError, Shell};
use crate::ssh::Process;

const STEP: &str = "logs";
/// How much of a host is shown where nothing says how much.
const USUAL: usize = 100;
const USUAL_FOLLOWED: usize = 10;

pub async fn run(run: &Run<'_>, arguments: &Logs) -> anyhow::Result<Ended> {
    let hosts = chosen::hosts(&run.cluster, &arguments.hosts, &arguments.chosen)?;
    if arguments.follow && !run.printer.streams() {
        anyhow::bail!("--follow has no end at which a result could be told; leave out --output, or use --output json");
    }
    let at_once = Semaphore::new(run.cluster.limits.hosts);
    let opening = hosts.iter().map(|host| async {
        let _permit = at_once.acquire().await;
        Source::open(&run.cluster, host, arguments).await
    });
    let (mut sources, mut good) = (Vec::new(), true);
    for opened in join_all(opening).await {
        match opened {
            Ok(source) => sources.push(source),
            Err(error) => {
                good = false;
                fleet::tell(run.printer, &error);
            }
        }
    }
    let told = Told::new(run, &sources);
    let errors = match arguments.follow {
        true => follow(sources, told).await,
        false => merge(sources, told).await,
    };
    for error in &errors {
        good = false;
        fleet::tell(run.printer, error);
    }
    Ok(if good { Ended::Done } else { Ended::Failed })
}

/// Where lines go.
struct Told<'a> {
    run: &'a Run<'a>,
    host_width: usize,
    unit_width: usize,
    /// Those that have to wait for the end.
    rows: parking_lot::Mutex<Vec<Value>>,
}

impl<'a> Told<'a> {
    fn new(run: &'a Run<'a>, sources: &[Source<'_>]) -> Self {
        let host_width = sources.iter().map(|source| source.host.name.len()).max().unwrap_or_default();
        let names = sources.iter().flat_map(|source| &source.units);
        let unit_width = names.map(|unit| entry::short(unit).len()).max().unwrap_or_default();
        Self { run, host_width, unit_width, rows: parking_lot::Mutex::default() }
    }

    /// False when nobody reads any more.
    fn tell(&self, host: &str, entry: &Entry) -> bool {
        let (hosts, units) = (self.host_width, self.unit_width);
        let lead = format!("{host:<hosts$} {} {:<units$}", entry.time(), entry.unit);
        let lines: Vec<_> = entry.message.split('\n').map(|line| format!("{lead} {line}")).collect();
        let fields = entry.as_json(host);
        if !self.run.printer.stream("log", &lines.join("\n"), &entry.message, fields.clone()) {
            self.rows.lock().push(fields);
        }
        self.run.printer.is_read()
    }
}

/// The journal of one host.
struct Source<'a> {
    host: &'a Host,
    units: Vec<String>,
    shell: Shell,
    process: Process,
    wanted: Option<String>,
    /// What was read already: of lines with a text in them the last ones are known at the end alone.
    kept: Option<VecDeque<Entry>>,
    /// What journalctl said besides entries.
    said: Vec<String>,
}

impl<'a> Source<'a> {
    async fn open(cluster: &Cluster, host: &'a Host, arguments: &Logs) -> Result<Self, HostError> {
        let units = units(cluster, host, &arguments.units);
        let shell = Shell::open(host, cluster.limits.connect_timeout).await?;
        let process = shell.start(STEP, &script(&units, arguments)).await?;
        let wanted = arguments.grep.clone();
        let mut source = Self { host, units, shell, process, wanted, kept: None, said: Vec::new() };
        if let (Some(_), Some(tail), false) = (&arguments.grep, tail(arguments), arguments.follow) {
            let mut last = VecDeque::new();
            while let Some(entry) = source.read().await? {
                last.push_back(entry);
                if last.len() > tail {
                    last.pop_front();
                }
            }
            source.kept = Some(last);
        }
        Ok(source)
    }

    async fn next(&mut self) -> Result<Option<Entry>, HostError> {
        match &mut self.kept {
            Some(kept) => Ok(kept.pop_front()),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Option<Entry>, HostError> {
        loop {
            let line = self.process.line().await;
            let line =
                line.map_err(|error| HostError::new(&self.host.name, STEP, format!("the connection broke: {error}")))?;
            let Some(line) = line else { return self.ended().await.map(|()| None) };
            match Entry::parse(&line) {
                Some(entry) if self.wanted.as_ref().is_none_or(|wanted| entry.has(wanted)) => return Ok(Some(entry)),
                Some(_) => {}
                None => self.said.push(line),
            }
        }
    }

    async fn ended(&mut self) -> Result<(), HostError> {
        let exit = self.process.exited().await;
        if exit.ok() {
            return Ok(());
        }
        let mut error = HostError::new(&self.host.name, STEP, "journalctl did not come to its end");
        error.status = exit.status.and_then(|status| i32::try_from(status).ok());
        error.stderr = exit.last_lines(5).into_iter().chain(self.said.drain(..)).collect();
        Err(error.hint("check that the host is up, and that `journalctl` works there"))
    }
}

/// All of it, in the order of time by the hosts' own clocks.
async fn merge(mut sources: Vec<Source<'_>>, told: Told<'_>) -> Vec<HostError> {
    let mut errors = Vec::new();
    let mut keep = |result: Result<Option<Entry>, HostError>| {
        result.unwrap_or_else(|error| {
            errors.push(error);
            None
        })
    };
    let first = join_all(sources.iter_mut().map(Source::next)).await;
    let mut heads: Vec<Option<Entry>> = first.into_iter().map(&mut keep).collect();
    let earliest = |heads: &[Option<Entry>]| {
        let times = heads.iter().enumerate().filter_map(|(index, head)| Some((head.as_ref()?.micros, index)));
        times.min().map(|(_, index)| index)
    };
    while let Some(index) = earliest(&heads) {
        let next = keep(sources[index].next().await);
        if let Some(entry) = std::mem::replace(&mut heads[index], next)
            && !told.tell(&sources[index].host.name, &entry)
        {
            break;
        }
    }
    join_all(sources.into_iter().map(|source| source.shell.close())).await;
    if !told.run.printer.streams() {
        let rows = told.rows.into_inner();
        told.run.printer.result("", &json!({"event": "logs", "lines": rows}));
    }
    errors
}

/// What comes, until every connection has ended or nobody reads any more.
async fn follow(sources: Vec<Source<'_>>, told: Told<'_>) -> Vec<HostError> {
    let told = &told;
    let following = sources.into_iter().map(|mut source| async move {
        let error = loop {
            match source.next().await {
                Ok(Some(entry)) if told.tell(&source.host.name, &entry) => {}
                Ok(_) => break None,
                Err(error) => {
                    // the others go on for long: it is told at once
                    fleet::tell(told.run.printer, &error);
                    break Some(error);
                }
            }
        };
        source.shell.close().await;
        error
    });
    let failed = join_all(following).await.into_iter().flatten().count();
    if failed == 0 {
        return Vec::new();
    }
    vec![HostError::new("logs", "follow", format!("{failed} hosts could not be followed any more"))]
}

/// Names of units as systemd has them: all of kinstall's on this host, or those that are asked for.
fn units(cluster: &Cluster, host: &Host, asked: &[String]) -> Vec<String> {
    let own = || unit_names(cluster, host).into_iter().map(str::to_owned).chain(job_names(cluster, host));
    if asked.is_empty() {
        return own().collect();
    }
    let known = |name: &String| own().find(|unit| entry::short(unit) == name.as_str());
    // a control plane's unit is asked for on every host, and is not there on some
    let ours = |name: &String| {
        let mut of_any = cluster.hosts.iter().flat_map(|host| unit_names(cluster, host));
        of_any.find(|unit| entry::short(unit) == name.as_str()).map(str::to_owned)
    };
    asked.iter().map(|name| known(name).or_else(|| ours(name)).unwrap_or_else(|| name.clone())).collect()
}

/// How many lines of a host.
fn tail(arguments: &Logs) -> Option<usize> {
    match (arguments.tail, &arguments.since) {
        (Some(tail), _) => Some(tail),
        (None, Some(_)) => None,
        (None, None) if arguments.follow => Some(USUAL_FOLLOWED),
        (None, None) => Some(USUAL),
    }
}

fn script(units: &[String], arguments: &Logs) -> String {
    let mut words = vec!["exec journalctl --no-pager -q -a -o json".to_owned()];
    words.push(format!("--output-fields={}", entry::FIELDS));
    words.extend(units.iter().map(|unit| format!("-u {}", quoted(unit))));
    match &arguments.since {
        Some(Since::Ago(age)) => words.push(format!("--since=-{}s", age.as_secs())),
        Some(Since::Time(time)) => words.push(format!("--since={}", quoted(time))),
        None => {}
    }
    // the last ones of those with a text in them are found here
    match tail(arguments) {
        Some(tail) if arguments.grep.is_none() || arguments.follow => words.push(format!("-n {tail}")),
        _ => words.push("-n all".to_owned()),
    }
    if arguments.follow {
        words.push("-f".to_owned());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(words: &[&str]) -> Logs {
        match Cli::parse_from([&["kinstall", "logs"], words].concat()).command {
            Command::Logs(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_journal_is_asked_for_what_is_wanted() {
        let text = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n- {name: h2, address: 10.0.0.2, role: worker}\n";
        let cluster = Cluster::parse(text, "i", std::path::Path::new("/")).unwrap();
        let of = |host: usize, words: &[&str]| {
            let arguments = asked(words);
            script(&units(&cluster, &cluster.hosts[host], &arguments.units), &arguments)
        };
        let all = of(1, &[]);
        assert!(all.contains("-u kinstall-kubelet.service") && all.contains("-u kinstall-certs.service"), "{all}");
        assert!(!all.contains("control-plane") && all.ends_with("-n 100"), "{all}");
        assert!(of(0, &[]).contains("-u kinstall-control-plane.service"));
        let one = of(1, &["-u", "kubelet", "-u", "ssh", "--since", "10m"]);
        assert!(one.ends_with("-u kinstall-kubelet.service -u ssh --since=-600s -n all"), "{one}");
        assert!(of(1, &["-u", "control-plane"]).contains("-u kinstall-control-plane.service"));
        assert!(of(1, &["-f"]).ends_with("-n 10 -f"));
        assert!(of(1, &["-f", "--tail", "3", "--since", "2026-11-22"]).ends_with("--since='2026-11-22 UTC' -n 3 -f"));
        assert!(of(1, &["--grep", "x", "--tail", "3"]).ends_with("-n all"), "all of it is looked through");
    }
}
