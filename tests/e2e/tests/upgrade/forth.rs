//! Upgrades that succeed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use e2e::load::{Connections, Outcome};
use e2e::snapshot::left_behind;

use crate::{Story, cordons, hooks, migrated, version, workload};

/// Starts the upgrade and kills it as soon as it says `words` of a host.
fn kill_at(story: &Story, bundle: &Path, more: &[&str], words: &str) -> Result<()> {
    let mut child = story.operator.start(&Story::upgrade(bundle, more))?;
    let stderr = BufReader::new(child.stderr.take().context("no stderr")?);
    let mut said = String::new();
    for line in stderr.lines() {
        let line = line?;
        said = said + &line + "\n";
        if line.contains(words) {
            child.kill()?;
            child.wait()?;
            return Ok(());
        }
    }
    let ended = child.wait()?;
    bail!("it ended ({ended}) before it said {words:?}:\n{said}")
}

pub fn components_alone(story: &Story) -> Result<()> {
    let (containers, readiness) = (workload::containers(story)?, workload::readiness(story)?);
    story.operator.kubectl_with(&["apply", "-f", "-"], &former("kinstall-dns"))?;
    story.operator.kubectl_with(&["apply", "-f", "-"], &former("somebodys-dns"))?;
    migrated::label(story)?;
    migrated::let_end_soon(story)?;
    let load = workload::load(story, &[Connections::Each, Connections::Kept])?;
    kill_at(story, &story.next, &[], "h2: restart unit kinstall-kubelet.service")?;
    let versions = story.versions()?;
    ensure!(versions[0] == ("0.1.1".into(), true) && versions[3] == ("0.1.0".into(), true), "{versions:?}");
    let started = Instant::now();
    let said = hooks::with(story, || story.operator.ok(&Story::upgrade(&story.next, &["--workers", "50%"])))?;
    println!("        what was left of the upgrade took {:.1} s", started.elapsed().as_secs_f64());
    ensure!(said.contains("has 0.1.1"), "{said}");
    // the first host was there before
    let told = [
        "upgrade before h1 h2 h3 h4",
        "before h2 controlPlane",
        "after h2 controlPlane",
        "before h3 controlPlane",
        "after h3 controlPlane",
        "before h4 worker",
        "after h4 worker",
        "upgrade after h1 h2 h3 h4",
    ];
    hooks::ran(story, &told, ["", "0.1.1", "0.1.1", "0.1.1"])?;
    story.all_have("0.1.1")?;
    migrated::all(story)?;
    ensure!(
        workload::containers(story)? == containers,
        "before {containers:#?}\nafter {:#?}",
        workload::containers(story)?
    );
    ensure!(workload::readiness(story)? == readiness, "before\n{readiness}after\n{}", workload::readiness(story)?);
    ensure!(story.cordoned()?.is_empty(), "a node is cordoned");
    let outcomes = load.all_good()?;
    // the data path is in the kernel: what goes through it is not even told
    for outcome in outcomes.iter().filter(|outcome| outcome.name.starts_with("node port")) {
        ensure!(outcome.ended == 0, "{}: {} connections were ended", outcome.name, outcome.ended);
    }
    tell(&outcomes);
    let left = story.operator.kubectl(&["-n", "kube-system", "get", "deployments", "-o", "name"])?;
    ensure!(
        left.trim() == "deployment.apps/somebodys-dns",
        "what addons do not have any more is left, or more is gone: {left}"
    );
    story.operator.kubectl(&["-n", "kube-system", "delete", "deployment", "somebodys-dns"])?;
    Ok(())
}

/// As versions before had it (decision 0021), without pods.
fn former(name: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: kube-system, labels: {{app.kubernetes.io/managed-by: kinstall}}}}
spec:
  replicas: 0
  selector: {{matchLabels: {{former: {name}}}}}
  template:
    metadata: {{labels: {{former: {name}}}}}
    spec: {{containers: [{{name: dns, image: none}}]}}
"
    )
}

fn tell(outcomes: &[Outcome]) {
    for Outcome { name, requests, outage, ended, .. } in outcomes {
        println!(
            "        {name}: {requests} requests, every one answered, the longest wait {:.2} s, {ended} connections ended",
            outage.as_secs_f64()
        );
    }
}

/// Only the copies for `adopt` follow what the operator has written meanwhile, and cordons of a killed run are taken back.
pub fn again(story: &Story) -> Result<()> {
    const REMARK: &str = "# since the upgrade";
    let file = story.operator.path("inventory.yaml");
    std::fs::write(&file, format!("{}{REMARK}\n", std::fs::read_to_string(&file)?))?;
    let said = cordons::found_by(story, || story.operator.ok(&Story::upgrade(&story.next, &[])))?;
    ensure!(said.contains("nothing changed"), "{said}");
    for host in &story.lab.hosts()[..3] {
        let copy = host.ssh_ok("cat /var/lib/kinstall/operator.json")?;
        ensure!(copy.contains(REMARK), "{}: the copy is of another inventory", host.name());
    }
    let plan = story.operator.run(&Story::upgrade(&story.next, &["--plan"]))?;
    ensure!(plan.status.code() == Some(0), "{}", e2e::operator::both(&plan));
    let old = &story.operator.artifacts().bundle;
    story
        .operator
        .fails_saying(&Story::upgrade(old, &[]), &["0.1.0 is older than its 0.1.1", "nothing was changed"])?;
    story.all_have("0.1.1")
}

/// The operator has cordoned a node before; it stays so, and no other one does.
pub fn runtime_too(story: &Story) -> Result<()> {
    story.operator.kubectl(&["cordon", "h3"])?;
    let load = workload::load(story, &[Connections::Each])?;
    kill_at(story, &story.runtime, &[], "h2: cordoned")?;
    ensure!(story.cordoned()? == ["h2", "h3"], "{:?}", story.cordoned()?);
    let started = Instant::now();
    let said = story.operator.ok(&Story::upgrade(&story.runtime, &["--timeline", "upgrade.svg"]))?;
    println!("        what was left of the upgrade took {:.1} s", started.elapsed().as_secs_f64());
    ensure!(said.contains("has 0.1.2"), "{said}");
    is_drawn(&std::fs::read_to_string(story.operator.path("upgrade.svg"))?)?;
    story.all_have("0.1.2")?;
    ensure!(story.cordoned()? == ["h3"], "{:?}", story.cordoned()?);
    tell(&load.all_good()?);
    story.operator.kubectl(&["uncordon", "h3"])?;
    Ok(())
}

/// Every stage of the cluster has a bar, and so has everything that an upgrade does to a host, the first of which had it before.
fn is_drawn(picture: &str) -> Result<()> {
    let bars =
        ["bundle and keys", "control planes", "workers", "addons", "check nodes are Ready"].map(|bar| ("cluster", bar));
    let of_hosts = ["h2", "h3", "h4"].into_iter().flat_map(|host| {
        ["connecting", "draining", "upgrading", "unit kinstall-containerd.service", "waiting until it is well"]
            .map(|bar| (host, bar))
    });
    for (lane, bar) in bars.into_iter().chain(of_hosts).chain([("h1", "connecting")]) {
        ensure!(picture.contains(&format!("<title>{lane}: {bar}, ")), "no bar {bar:?} of {lane}:\n{picture}");
    }
    let title = "<title>kinstall upgrade: cluster lab, 4 hosts, ";
    ensure!(picture.contains(title) && picture.ends_with("</svg>\n"), "{picture}");
    Ok(())
}

/// The addons wait for it, since the image of their new version is not on it.
pub fn left_behind_without_power(story: &Story) -> Result<()> {
    let hosts = story.lab.hosts();
    let (worker, others) = hosts.split_last().context("no hosts")?;
    let addons = story.operator.components_image()?;
    worker.poweroff()?;
    story
        .operator
        .fails_saying(&Story::upgrade(&story.later, &[]), &["h4", "--ignore-preflight", "nothing was changed"])?;
    ensure!(version(&others[0])?.0 == "0.1.2", "a host was touched");
    story.operator.fails_saying(
        &Story::upgrade(&story.later, &["--ignore-preflight"]),
        &["h4: stays at the version", "not finished", "the other hosts have 0.1.5"],
    )?;
    for host in others {
        ensure!(version(host)? == ("0.1.5".into(), true), "{}: {:?}", host.name(), version(host)?);
    }
    ensure!(story.operator.components_image()? == addons, "the addons went on");
    worker.start()
}

pub fn down(story: &Story) -> Result<()> {
    let bundle = story.later.to_str().unwrap_or_default();
    story.operator.ok(&["down", "-i", "inventory.yaml", "--yes", "--bundle", bundle])?;
    for host in story.lab.hosts() {
        let left = left_behind(host)?;
        ensure!(left.trim().is_empty(), "{}: {left}", host.name());
    }
    Ok(())
}
