//! Nodes are added, changed, replaced and removed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::scenario::until;
use e2e::snapshot::left_behind;
use serde_json::Value;

use crate::{Story, manifests};

pub fn added(story: &Story) -> Result<()> {
    let address = story.lab.inventory_hosts().pop().context("no third host")?.1;
    let before = (story.inventory()?, manifests(&story.lab.hosts()[..2])?);
    let add = ["node", "add", "h3", "--address", &address, "-i", "inventory.yaml"];
    let bad = [&add[..], &["--taint", "nonsense"]].concat();
    story.operator.fails_saying(&bad, &["taints", "nothing was changed"])?;
    ensure!(story.inventory()? == before.0, "the inventory was changed");

    let started = Instant::now();
    let options = ["--label", "disk=ssd", "--label", "a.b/c=", "--taint", "gpu=yes:NoSchedule", "--output", "json"];
    let said = story.operator.ok(&[&add[..], &options].concat())?;
    println!("        h3 came in {:.1} s", started.elapsed().as_secs_f64());
    let events: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let touched: BTreeSet<_> = events.iter().filter_map(|event| event["host"].as_str()).collect();
    let steps = events.iter().filter(|event| event["event"] == "step").count();
    ensure!(touched == BTreeSet::from(["h3"]) && steps > 50, "{touched:?}, {steps} steps");
    ensure!(manifests(&story.lab.hosts()[..2])? == before.1, "another host was touched");
    let inventory = story.inventory()?;
    ensure!(inventory.contains("hosts:   # ours\n") && inventory.contains("- name: h3\n"), "{inventory}");
    ensure!(story.operator.ready_nodes() == ["h1", "h2", "h3"], "{:?}", story.operator.ready_nodes());
    ensure!(story.node("h3", ".metadata.labels.disk")? == "ssd", "the label is missing");
    ensure!(story.node("h3", ".spec.taints")?.contains("gpu"), "the taint is missing");
    let said = story.up()?;
    ensure!(said.contains("nothing changed"), "{said}");
    // again: it is there
    story.operator.ok(&add).map(drop)
}

pub fn changed(story: &Story) -> Result<()> {
    story.operator.kubectl(&["label", "node", "h3", "theirs=stays"])?;
    story.operator.kubectl(&["taint", "node", "h3", "theirs=stays:PreferNoSchedule"])?;
    let kept: String = story
        .inventory()?
        .lines()
        .filter(|line| !["labels:", "disk: ", "a.b/c: ", "taints: "].iter().any(|start| line.trim().starts_with(start)))
        .map(|line| format!("{line}\n"))
        .collect();
    story.write(&kept)?;
    story.up()?;
    let labels = story.node("h3", ".metadata.labels")?;
    ensure!(!labels.contains("disk") && !labels.contains("a.b/c") && labels.contains("theirs"), "{labels}");
    let taints = story.node("h3", ".spec.taints")?;
    ensure!(!taints.contains("gpu") && taints.contains("theirs"), "{taints}");
    let said = story.up()?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}

pub fn replaced(story: &Story) -> Result<()> {
    let before = manifests(&story.lab.hosts()[..2])?;
    story.lab.host(3).replace()?;
    until(Duration::from_secs(120), "the node is not Ready", || story.operator.ready_nodes() == ["h1", "h2"])?;
    let started = Instant::now();
    story.operator.ok(&["node", "replace", "h3", "h9", "-i", "inventory.yaml", "--yes"])?;
    println!("        h9 took its place in {:.1} s", started.elapsed().as_secs_f64());
    ensure!(story.operator.ready_nodes() == ["h1", "h2", "h9"], "{:?}", story.operator.ready_nodes());
    let nodes = story.operator.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().count() == 3, "{nodes}");
    ensure!(manifests(&story.lab.hosts()[..2])? == before, "another host was touched");
    ensure!(story.inventory()?.contains("- name: h9\n"), "{}", story.inventory()?);
    story.operator.fails_saying(
        &["node", "replace", "h1", "h8", "--address", "10.99.0.99", "-i", "inventory.yaml", "--yes"],
        &["the only control plane", "nothing was changed"],
    )?;
    let said = story.up()?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}

/// The same name twice is one node.
pub fn removed(story: &Story) -> Result<()> {
    let said = story.operator.ok(&["node", "remove", "h9", "h9", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("removed h9") && !said.contains("as long as it stands there"), "{said}");
    let inventory = story.inventory()?;
    ensure!(!inventory.contains("h9") && inventory.contains("hosts:   # ours\n"), "{inventory}");
    let left = left_behind(story.lab.host(3))?;
    ensure!(left.trim().is_empty(), "{left}");
    let said = story.up()?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}
