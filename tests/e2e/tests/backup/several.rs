//! From one control plane to three and back, by nothing but backups.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::operator::Inventory;
use e2e::scenario::until_ok;

use crate::Story;

const ONE: &str = "one.kinstall-backup";
const THREE: &str = "three.kinstall-backup";

fn backup(story: &Story, file: &str) -> Result<()> {
    std::fs::write(story.heir.path("passphrase"), "correct horse battery staple\n")?;
    story.heir.ok(&["backup", "--passphrase-file", "passphrase", "--out", file])?;
    Ok(())
}

fn restore(story: &Story, file: &str, inventory: &Inventory) -> Result<()> {
    story.heir.write(inventory)?;
    let started = std::time::Instant::now();
    story.heir.ok(&["restore", file, "--passphrase-file", "passphrase", "--yes", "-i", "inventory.yaml"])?;
    println!("        restored in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// The hosts of old are wiped; the one that has the cluster now is among the three.
pub fn from_one_to_three(story: &Story) -> Result<()> {
    backup(story, ONE)?;
    story.heir.ok(&["down", "-i", "inventory.yaml", "--yes", "--keep-data"])?;
    for number in [1, 2, 4] {
        story.lab.host(number).replace()?;
    }
    let mut three = Inventory::with_control_planes(&story.lab, story.heir.artifacts(), 3);
    three.wordpress = false;
    restore(story, ONE, &three)?;
    until_ok(Duration::from_secs(30), "etcd's three members are well", || {
        let said = story.lab.host(2).ssh_ok(
            "/opt/kinstall/current/bin/kinstall-components etcd-members --config /etc/kinstall/etcd-members.yaml list",
        )?;
        ensure!(said.matches("\"healthy\":true").count() == 3, "{said}");
        Ok(())
    })?;
    for host in ["h1", "h2", "h3"] {
        story.heir.kubectl_at(host, &["get", "configmap", "before", "new"])?;
    }
    story.heir.kubectl(&["create", "configmap", "in-etcd", "--from-literal=a=1"])?;
    Ok(())
}

/// Onto the same hosts, of which two are left out.
pub fn from_three_to_one(story: &Story) -> Result<()> {
    let newest = |name: &str| -> Result<u64> {
        let path = "jsonpath={.metadata.resourceVersion}";
        let text = story.heir.kubectl(&["get", "configmap", name, "-o", path])?;
        text.parse().with_context(|| text.clone())
    };
    backup(story, THREE)?;
    let before = newest("in-etcd")?;
    story.heir.ok(&["down", "-i", "inventory.yaml", "--yes", "--keep-data"])?;
    let mut one = Inventory::with_control_planes(&story.lab, story.heir.artifacts(), 1);
    one.wordpress = false;
    one.hosts.truncate(1);
    restore(story, THREE, &one)?;
    story.heir.kubectl(&["get", "configmap", "before", "new", "in-etcd"])?;
    let nodes = story.heir.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().count() == 1, "{nodes}");
    story.heir.kubectl(&["create", "configmap", "last", "--from-literal=a=1"])?;
    ensure!(newest("last")? > before, "a revision was handed out twice");
    story.heir.ok(&["down", "-i", "inventory.yaml", "--yes"])?;
    Ok(())
}
