//! A control plane that lives is replaced by a host that was a worker.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::operator::ready;
use e2e::snapshot::left_behind;

use crate::Story;

pub fn replaced_alive(story: &Story) -> Result<()> {
    let address = story.lab.inventory_hosts().pop().context("no fourth host")?.1;
    let options = ["-i", "inventory.yaml", "--yes", "--delete-emptydir-data"];
    story.operator.ok(&[&["node", "remove", "h4"][..], &options].concat())?;
    let started = Instant::now();
    story.operator.ok(&[&["node", "replace", "h2", "h9", "--address", &address][..], &options].concat())?;
    println!("        h9 took the place of h2 in {:.1} s", started.elapsed().as_secs_f64());
    story.members_are_well(1, &["h1", "h3", "h9"])?;
    let nodes = story.operator.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(ready(&nodes).len() == 3 && nodes.lines().count() == 3 && !nodes.contains("h2"), "{nodes}");
    let left = left_behind(story.lab.host(2))?;
    ensure!(left.trim().is_empty(), "{left}");
    let written = story.operator.kubectl_at("h9", &["get", "configmap", "written-at-h2", "-o", "name"])?;
    ensure!(written.contains("written-at-h2"), "{written}");
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}
