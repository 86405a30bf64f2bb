//! From one control plane to three and back, by nothing but backups.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::operator::{Artifacts, Inventory, Operator};
use e2e::scenario::until_ok;

use crate::Story;

const INVENTORY: &str = "inventory.yaml";
const ONE: &str = "one.kinstall-backup";
const THREE: &str = "three.kinstall-backup";

fn backup(story: &Story, file: &str) -> Result<()> {
    fs::write(story.heir.path("passphrase"), "correct horse battery staple\n")?;
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

/// Onto the same hosts, of which two are left out. The inventory in the archive says so already: who restores has the archive and
/// what opens it, and an empty directory.
pub fn from_three_to_one(story: &Story) -> Result<()> {
    let newest = |operator: &Operator, name: &str| -> Result<u64> {
        let path = "jsonpath={.metadata.resourceVersion}";
        let text = operator.kubectl(&["get", "configmap", name, "-o", path])?;
        text.parse().with_context(|| text.clone())
    };
    let three = fs::read(story.heir.path(INVENTORY))?;
    let mut one = Inventory::with_control_planes(&story.lab, story.heir.artifacts(), 1);
    one.wordpress = false;
    one.hosts.truncate(1);
    story.heir.write(&one)?;
    let one = fs::read(story.heir.path(INVENTORY))?;
    backup(story, THREE)?;
    let before = newest(&story.heir, "in-etcd")?;
    fs::write(story.heir.path(INVENTORY), three)?;
    story.heir.ok(&["down", "-i", INVENTORY, "--yes", "--keep-data"])?;

    let survivor = Operator::new(&story.lab, "survivor", Artifacts::from_env()?)?;
    let path = |name: &str| story.heir.path(name).display().to_string();
    let started = std::time::Instant::now();
    survivor.ok(&["restore", &path(THREE), "--passphrase-file", &path("passphrase"), "--yes", "-i", INVENTORY])?;
    println!("        restored in {:.1} s", started.elapsed().as_secs_f64());
    let file = survivor.path(INVENTORY);
    ensure!(fs::read(&file)? == one, "the inventory is not the archive's");
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "others read the inventory");
    survivor.kubectl(&["get", "configmap", "before", "new", "in-etcd"])?;
    let nodes = survivor.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().count() == 1, "{nodes}");
    survivor.kubectl(&["create", "configmap", "last", "--from-literal=a=1"])?;
    ensure!(newest(&survivor, "last")? > before, "a revision was handed out twice");
    survivor.ok(&["down", "-i", INVENTORY, "--yes"])?;
    Ok(())
}
