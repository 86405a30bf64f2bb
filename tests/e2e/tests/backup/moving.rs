//! The hosts are lost; others take their place.

use anyhow::{Result, ensure};

use crate::archive::{BACKUP, KEY};
use crate::{Story, post_is_there};

/// The worker's name stays, on another host with another address; the control plane has another name, too.
pub fn to_new_hosts(story: &Story) -> Result<()> {
    let newest =
        story.operator.kubectl(&["get", "configmap", "after", "-o", "jsonpath={.metadata.resourceVersion}"])?;
    story.lab.host(1).poweroff()?;
    story.lab.host(2).poweroff()?;
    let mut inventory = story.inventory.clone();
    inventory.hosts[0] = ("h3".into(), story.lab.host(3).address(), "controlPlane");
    inventory.hosts[1].1 = story.lab.host(4).address();
    let heir = &story.heir;
    heir.write(&inventory)?;
    let started = std::time::Instant::now();
    let (backup, key) = (story.file(BACKUP), story.file(KEY));
    let said = heir.ok(&["restore", &backup, "--identity", &key, "--yes", "-i", "inventory.yaml"])?;
    println!("        restored on new hosts in {:.1} s", started.elapsed().as_secs_f64());

    post_is_there(heir, &story.lab.host(4).address())?;
    heir.kubectl(&["get", "configmap", "before"])?;
    let after = heir.kubectl(&["get", "configmap", "after", "--ignore-not-found"])?;
    ensure!(after.is_empty(), "it was made after the backup: {after}");
    let nodes = heir.kubectl(&["get", "nodes", "--no-headers", "-o", "wide"])?;
    let has = |name: &str, address: String| nodes.lines().any(|line| line.starts_with(name) && line.contains(&address));
    ensure!(nodes.lines().count() == 2, "{nodes}\n{said}");
    ensure!(has("h3", story.lab.host(3).address()) && has("h2", story.lab.host(4).address()), "{nodes}");
    heir.kubectl(&["create", "configmap", "new", "--from-literal=a=1"])?;
    let version = heir.kubectl(&["get", "configmap", "new", "-o", "jsonpath={.metadata.resourceVersion}"])?;
    ensure!(version.parse::<u64>()? > newest.parse::<u64>()?, "{version} was seen before: it was at {newest}");
    let plan = heir.run(&["plan", "-i", "inventory.yaml"])?;
    ensure!(plan.status.code() == Some(0), "plan sees changes:\n{}", e2e::operator::both(&plan));
    let left = heir.directory.read_dir()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let left: Vec<_> = left.filter(|name| name.contains("restore")).collect();
    ensure!(left.is_empty(), "plain text is left behind: {left:?}");
    Ok(())
}
