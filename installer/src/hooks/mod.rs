//! Runs the operator's hooks: on this machine, or as root on hosts, all at once.
//!
//! In: the hooks of a [`Cluster`], and the point that a run has come to. Out: their lines, to the printer; an error where one that may
//! stop the run has failed. Hooks of one point run one after the other, in the inventory's order. A hook's text is in no list of processes.

mod local;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::join_all;
use hoststate::shown::masked;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::cluster::hooks::{Hook, Script};
use crate::cluster::{Cluster, Host};
use crate::host::shell::quoted;
use crate::host::{HostError, Shell};
use crate::inventory::hooks::{ON, On, OnFailure, STAGES, Stage, WHEN, When, written};
use crate::printer::Printer;

/// How many of a hook's last lines are told when it has failed.
const LINES: usize = 10;

/// The hooks of one run.
pub struct Hooks<'a> {
    pub cluster: &'a Cluster,
    pub printer: &'a Printer,
    /// As written on the command line.
    pub inventory: &'a str,
    /// The administrator's kubeconfig, which may not be there yet.
    pub kubeconfig: PathBuf,
}

/// Where a run is.
#[derive(Clone, Copy)]
pub struct Point<'a> {
    pub stage: Stage,
    pub when: When,
    /// The hosts that it is about.
    pub hosts: &'a [&'a Host],
}

/// How a hook ended: its exit status, or what else was wrong; and its last lines.
#[derive(Debug)]
struct Failure {
    why: String,
    last: Vec<String>,
}

impl Hooks<'_> {
    /// Whether what hooks of these stages run can be had; before anything is begun.
    pub fn check(&self, stages: &[Stage]) -> anyhow::Result<()> {
        let hooks = self.cluster.hooks.iter().filter(|hook| stages.contains(&hook.stage));
        for hook in hooks {
            script(hook).with_context(|| format!("the hook {:?} cannot be run; nothing was changed", hook.name))?;
        }
        Ok(())
    }

    /// What will be run in these stages, for `plan`.
    pub fn planned(&self, stages: &[Stage]) -> (String, Vec<Value>) {
        let hooks: Vec<_> = self.cluster.hooks.iter().filter(|hook| stages.contains(&hook.stage)).collect();
        let rows = hooks.iter().map(|hook| {
            json!({"hook": hook.name, "stage": written(STAGES, &hook.stage), "when": written(WHEN, &hook.when), "on": written(ON, &hook.on)})
        });
        let lines =
            hooks.iter().map(|hook| format!("hook: {:?} runs {}, {}\n", hook.name, hook.point(), place(hook.on)));
        (lines.collect(), rows.collect())
    }

    pub async fn run(&self, point: Point<'_>) -> anyhow::Result<()> {
        let due = self.cluster.hooks.iter().filter(|hook| (hook.stage, hook.when) == (point.stage, point.when));
        for hook in due {
            self.one(hook, point).await?;
        }
        Ok(())
    }

    async fn one(&self, hook: &Hook, point: Point<'_>) -> anyhow::Result<()> {
        let text = script(hook)?;
        let hosts: Vec<&Host> = point.hosts.iter().copied().filter(|host| is_on(hook.on, host)).collect();
        let _underway = self.printer.cluster(&format!("hook {:?}, {}", hook.name, hook.point()));
        self.printer.event(
            "hook",
            &format!("  hook {:?}, {}, {}", hook.name, hook.point(), place(hook.on)),
            json!({"hook": hook.name, "stage": written(STAGES, &hook.stage), "when": written(WHEN, &hook.when), "on": written(ON, &hook.on)}),
        );
        let results: Vec<(Option<&Host>, Result<(), Failure>)> = match hook.on {
            On::Local => vec![(None, self.here(hook, point, &text).await)],
            _ => {
                let at_once = &Semaphore::new(self.cluster.limits.hosts);
                let running = hosts.into_iter().map(|host| {
                    let text = &text;
                    async move {
                        let _permit = at_once.acquire().await;
                        (Some(host), self.there(hook, point, host, text).await)
                    }
                });
                join_all(running).await
            }
        };
        let mut failed = Vec::new();
        for (host, result) in results {
            if let Err(Failure { why, last }) = result {
                let place = host.map_or_else(|| "this machine".to_owned(), |host| host.name.clone());
                let lines: String = last.iter().map(|line| format!("\n    | {line}")).collect();
                failed.push(format!("the hook {:?} ({}) failed on {place}: {why}{lines}", hook.name, hook.point()));
            }
        }
        match (failed.is_empty(), hook.on_failure) {
            (true, _) => Ok(()),
            (false, OnFailure::Warn) => {
                failed.iter().for_each(|text| self.printer.warning(text));
                Ok(())
            }
            (false, OnFailure::Stop) => bail!(
                "{}\n    remedy: mend it, then run the same command again: it goes on; with `onFailure: warn` the run goes on without it",
                failed.join("\n")
            ),
        }
    }

    fn environment(&self, hook: &Hook, point: Point<'_>, host: Option<&Host>) -> Vec<(&'static str, String)> {
        let names: Vec<_> = point.hosts.iter().map(|host| host.name.as_str()).collect();
        let mut variables = vec![
            ("KINSTALL_STAGE", written(STAGES, &point.stage).to_owned()),
            ("KINSTALL_WHEN", written(WHEN, &point.when).to_owned()),
            ("KINSTALL_HOOK", hook.name.clone()),
            ("KINSTALL_CLUSTER", self.cluster.name.clone()),
            ("KINSTALL_HOSTS", names.join(" ")),
        ];
        // where it is about one host alone, that one is known everywhere
        if let Some(host) = host.or(if let [one] = point.hosts { Some(*one) } else { None }) {
            variables.extend([
                ("KINSTALL_HOST", host.name.clone()),
                ("KINSTALL_ADDRESS", host.node_address.to_string()),
                ("KINSTALL_ROLE", if host.control_plane { "controlPlane" } else { "worker" }.to_owned()),
            ]);
        }
        variables
    }

    fn say(&self, hook: &Hook, host: Option<&str>, line: &str, last: &mut Vec<String>) {
        // what a hook prints is its author's; what looks like a secret stays out of logs all the same
        let line = masked(line).text;
        let place = host.map(|host| format!("{host}: ")).unwrap_or_default();
        self.printer.event(
            "hookOutput",
            &format!("    {place}{line}"),
            json!({"hook": hook.name, "host": host, "line": line}),
        );
        last.push(line);
        if last.len() > LINES {
            last.remove(0);
        }
    }

    async fn here(&self, hook: &Hook, point: Point<'_>, text: &str) -> Result<(), Failure> {
        let mut variables = self.environment(hook, point, None);
        variables.push(("KINSTALL_INVENTORY", self.inventory.to_owned()));
        if self.kubeconfig.exists() {
            variables.push(("KUBECONFIG", self.kubeconfig.display().to_string()));
        }
        let mut last = Vec::new();
        let directory = &self.cluster.directory;
        let ended =
            local::run(text, &variables, directory, hook.timeout, |line| self.say(hook, None, &line, &mut last)).await;
        ended.map_err(|error| Failure { why: format!("{error:#}"), last })
    }

    async fn there(&self, hook: &Hook, point: Point<'_>, host: &Host, text: &str) -> Result<(), Failure> {
        let exports = self
            .environment(hook, point, Some(host))
            .into_iter()
            .map(|(name, value)| format!("export {name}={}\n", quoted(&value)));
        let script = exports.collect::<String>() + text;
        let mut last = Vec::new();
        let work = async {
            let shell = Shell::open(host, self.cluster.limits.connect_timeout).await?;
            let exit = shell.run("hook", &script, |line| self.say(hook, Some(&host.name), &line, &mut last)).await?;
            shell.close().await;
            Ok::<_, HostError>(exit)
        };
        // a command whose connection is dropped ends there
        let ended = match tokio::time::timeout(hook.timeout, work).await {
            Ok(Ok(exit)) if exit.ok() => Ok(()),
            Ok(Ok(exit)) => {
                Err(exit.status.map_or_else(|| "it was killed".to_owned(), |status| format!("exit status {status}")))
            }
            Ok(Err(error)) => Err(format!("{}: {}", error.step, error.message)),
            Err(_) => Err(late(hook.timeout)),
        };
        ended.map_err(|why| Failure { why, last })
    }
}

fn late(timeout: Duration) -> String {
    format!("it did not end within {} s", timeout.as_secs())
}

fn is_on(on: On, host: &Host) -> bool {
    match on {
        On::Local => false,
        On::Hosts => true,
        On::ControlPlanes => host.control_plane,
        On::Workers => host.worker,
    }
}

fn place(on: On) -> &'static str {
    match on {
        On::Local => "on this machine",
        On::Hosts => "on hosts",
        On::ControlPlanes => "on control planes",
        On::Workers => "on workers",
    }
}

fn script(hook: &Hook) -> anyhow::Result<String> {
    match &hook.script {
        Script::Text(text) => Ok(text.clone()),
        Script::File(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::Output;

    const HOSTS: &str = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n- {name: h2, address: 10.0.0.2, role: worker}\nhooks:\n";

    async fn run(hooks: &str, directory: &std::path::Path) -> anyhow::Result<()> {
        let cluster = Cluster::parse(&format!("{HOSTS}{hooks}"), "i", directory).unwrap();
        let printer = Printer::new(Output::Text, 0, true).quiet(true);
        let hooks =
            Hooks { cluster: &cluster, printer: &printer, inventory: "i.yaml", kubeconfig: directory.join("none") };
        hooks.check(&[Stage::Up])?;
        let hosts: Vec<&Host> = cluster.hosts.iter().collect();
        hooks.run(Point { stage: Stage::Up, when: When::Before, hosts: &hosts }).await
    }

    #[tokio::test]
    async fn hooks_of_a_point_run_in_order_and_know_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("b.sh"), "echo b >> out").unwrap();
        let hooks = "- {name: a, stage: up, when: before, run: 'echo $KINSTALL_HOOK $KINSTALL_STAGE $KINSTALL_WHEN $KINSTALL_CLUSTER $KINSTALL_HOSTS >> out'}\n\
                     - {name: b, stage: up, when: before, file: b.sh}\n- {name: c, stage: up, when: after, run: 'echo c >> out'}\n";
        run(hooks, directory.path()).await.unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("out")).unwrap(), "a up before c h1 h2\nb\n");
    }

    #[tokio::test]
    async fn a_hook_that_fails_stops_or_warns() {
        let directory = tempfile::tempdir().unwrap();
        let failing = |more: &str| {
            format!(
                "- {{name: a, stage: up, when: before, run: 'echo one; echo two >&2; exit 3'{more}}}\n- {{name: b, stage: up, when: before, run: 'echo b > out'}}\n"
            )
        };
        let error = run(&failing(""), directory.path()).await.unwrap_err().to_string();
        for words in [
            "the hook \"a\" (before up) failed on this machine: exit status 3",
            "| one\n    | two",
            "run the same command again",
        ] {
            assert!(error.contains(words), "{words:?} is missing in {error}");
        }
        assert!(!directory.path().join("out").exists());
        run(&failing(", onFailure: warn"), directory.path()).await.unwrap();
        assert!(directory.path().join("out").exists());
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_ended_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        // long enough for `sh` to say whom it has started
        let hooks = "- {name: a, stage: up, when: before, timeout: 5s, run: 'sleep 63 & echo $! > pid; wait'}\n";
        let error = run(hooks, directory.path()).await.unwrap_err().to_string();
        assert!(error.contains("within 5 s"), "{error}");
        let pid = std::fs::read_to_string(directory.path().join("pid")).unwrap();
        let lives = || {
            let cmdline = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()));
            cmdline.is_ok_and(|words| words.contains("63"))
        };
        let told = std::time::Instant::now();
        while lives() {
            assert!(told.elapsed() < Duration::from_secs(20), "it is still there");
            tokio::task::yield_now().await;
        }
        let error = run("- {name: a, stage: up, when: before, file: gone.sh}\n", directory.path()).await.unwrap_err();
        assert!(format!("{error:#}").contains("nothing was changed: cannot read"), "{error:#}");
    }

    #[test]
    fn a_plan_names_hooks_and_hosts_are_those_of_the_stage() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::parse(&format!("{HOSTS}- {{name: a, stage: converge, when: after, on: workers, run: x}}\n- {{name: b, stage: down, when: after, run: x}}\n"), "i", directory.path()).unwrap();
        let printer = Printer::new(Output::Text, 0, true).quiet(true);
        let hooks = Hooks { cluster: &cluster, printer: &printer, inventory: "i", kubeconfig: PathBuf::new() };
        let (text, rows) = hooks.planned(&[Stage::Up, Stage::Converge]);
        assert_eq!(text, "hook: \"a\" runs after converge, on workers\n");
        assert_eq!(rows, [json!({"hook": "a", "stage": "converge", "when": "after", "on": "workers"})]);
        let on = |on| {
            cluster
                .hosts
                .iter()
                .filter(|host| is_on(on, host))
                .map(|host| host.name.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!([on(On::Hosts), on(On::ControlPlanes), on(On::Workers), on(On::Local)], ["h1 h2", "h1", "h2", ""]);
        let of_one = hooks.environment(
            &cluster.hooks[0],
            Point { stage: Stage::UpgradeHost, when: When::After, hosts: &[&cluster.hosts[1]] },
            None,
        );
        assert!(
            of_one.contains(&("KINSTALL_HOST", "h2".to_owned()))
                && of_one.contains(&("KINSTALL_ROLE", "worker".to_owned()))
        );
    }
}
