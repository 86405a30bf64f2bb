//! New authorities while a Deployment answers; the run is killed once and goes on.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::scenario::{until, until_ok};

use crate::{HOSTS, Story, load};

const ROTATE: [&str; 6] = ["certs", "rotate-ca", "-i", "inventory.yaml", "--yes", "--verbose"];

pub fn rotated(story: &Story) -> Result<()> {
    let old = std::fs::read(story.operator.kubeconfig())?;
    let load = load::start(story)?;
    let started = Instant::now();
    kill_in_the_second_phase(story)?;
    let said = story.operator.ok(&ROTATE);
    let load = load.stop()?;
    let (said, load) = (said?, &load[0]);
    println!(
        "        rotated in {:.0} s; {} of {} requests failed meanwhile",
        started.elapsed().as_secs_f64(),
        load.failures.len(),
        load.requests
    );
    ensure!(said.contains("only the new authorities are trusted"), "{said}");
    ensure!(load.failures.is_empty() && load.requests > 100, "{} requests, failed: {:?}", load.requests, load.failures);

    let (rows, code) = story.check()?;
    let old_ones: Vec<_> =
        rows.iter().filter(|row| row["authority"].as_str().is_some_and(|name| !name.contains("ca-"))).collect();
    ensure!(code == 0 && old_ones.is_empty(), "{code}: {old_ones:?}");
    ensure!(story.operator.ready_nodes().len() == HOSTS as usize, "not every node is Ready");
    until_ok(Duration::from_secs(30), "pods are given the new authority alone", || {
        let path = "jsonpath={.data.ca\\.crt}";
        let map = story.operator.kubectl(&["get", "configmap", "kube-root-ca.crt", "-o", path])?;
        ensure!(map.matches("BEGIN CERTIFICATE").count() == 1, "{map}");
        Ok(())
    })?;
    // who has only the old administrator's certificate is nobody now
    let file = story.operator.path("old.kubeconfig");
    std::fs::write(&file, old)?;
    let old = file.display().to_string();
    ensure!(
        story.operator.kubectl(&["--kubeconfig", &old, "get", "nodes"]).is_err(),
        "the old certificate is still good"
    );
    // pods still come, with names, logs and all
    story.operator.kubectl(&["rollout", "restart", "deployment/web"])?;
    story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    until(Duration::from_secs(30), "logs can be read", || {
        story.operator.kubectl(&["logs", "-n", "kube-system", "daemonset/kinstall-ingress", "--tail=1"]).is_ok()
    })?;
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}

/// As soon as it says that the new authorities issue.
fn kill_in_the_second_phase(story: &Story) -> Result<()> {
    let mut child = story.operator.start(&ROTATE)?;
    let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
    let mut said = Vec::new();
    let begun = lines.by_ref().map_while(Result::ok).any(|line| {
        said.push(line.clone());
        line.contains("the new authorities issue")
    });
    // some of the hosts have it then, and some have not
    std::thread::sleep(Duration::from_secs(2));
    child.kill()?;
    child.wait()?;
    ensure!(begun, "it ended before:\n{}", said.join("\n"));
    Ok(())
}
