//! One control plane becomes three.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::operator::{Inventory, ready};
use e2e::snapshot::left_behind;

use crate::Story;

const FIVE: [&str; 5] = ["h1", "h2", "h3", "h4", "h5"];

pub fn one_becomes_three(story: &Story) -> Result<()> {
    let one = Inventory::with_control_planes(&story.lab, story.operator.artifacts(), 1);
    let mut one = Inventory { wordpress: false, ..one };
    // the others are strangers yet
    one.hosts.retain(|(name, ..)| name == "h1" || name == "h4");
    story.up(&one)?;
    let kubectl = |args: &[&str]| story.operator.kubectl(args);
    kubectl(&["create", "configmap", "old", "--from-literal=a=1"])?;
    let field = |name: &str, field: &str| {
        kubectl(&["get", "configmap", name, "-o", &format!("jsonpath={{.metadata.{field}}}")])
    };
    let (uid, before) = (field("old", "uid")?, field("old", "resourceVersion")?);

    let (h2, h3) = (story.lab.host(2).address(), story.lab.host(3).address());
    let add = ["node", "add", "-i", "inventory.yaml", "--role", "controlPlane", "--address", &h2];
    let words = ["two control planes are worse than one", "nothing was changed"];
    story.operator.fails_saying(&[&add[..], &["h2"]].concat(), &words)?;
    let started = Instant::now();
    story.operator.ok(&[&add[..], &["--address", &h3, "h2", "h3"]].concat())?;
    println!("        from one to three in {:.1} s", started.elapsed().as_secs_f64());
    story.all_members_are_well(3)?;
    ensure!(field("old", "uid")? == uid, "the object is another one");
    for host in ["h1", "h2", "h3"] {
        let name = format!("new-at-{host}");
        story.operator.kubectl_at(host, &["create", "configmap", &name])?;
        let after = field(&name, "resourceVersion")?;
        let number = |text: &str| text.parse::<u64>().with_context(|| format!("{text:?} is no number"));
        ensure!(number(&after)? > number(&before)?, "resourceVersion {after} came after {before}");
    }
    crate::losing::up_again(story)?;
    // which is what an inventory says that was written by hand
    story.operator.write(&story.inventory)?;
    crate::losing::up_again(story)
}

fn five(story: &Story) -> Inventory {
    Inventory { wordpress: false, ..Inventory::with_control_planes(&story.lab, story.operator.artifacts(), 5) }
}

pub fn three_become_five(story: &Story) -> Result<()> {
    let started = Instant::now();
    let said = story.up(&five(story))?;
    println!("        from three to five in {:.1} s", started.elapsed().as_secs_f64());
    ensure!(said.contains("works"), "{said}");
    story.members_are_well(5, &FIVE)?;
    crate::losing::up_again(story)
}

pub fn two_of_five_lose_power(story: &Story) -> Result<()> {
    for host in [1, 3] {
        story.lab.host(host).poweroff()?;
    }
    for host in ["h2", "h4", "h5"] {
        let wrote = story.operator.writes_at(host, &format!("three-of-five-at-{host}"))?;
        println!("        a write through {host} after {:.1} s", wrote.as_secs_f64());
    }
    // with two dead nobody may go; nothing may be begun either
    story.operator.fails_saying(&["node", "remove", "h4", "h5", "-i", "inventory.yaml", "--yes"], &["majority"])?;
    for host in [1, 3] {
        story.lab.host(host).start()?;
    }
    story.members_are_well(5, &FIVE)?;
    story.operator.kubectl_at("h5", &["wait", "--for=condition=Ready", "node", "--all", "--timeout=90s"]).map(drop)
}

/// Neither by another role nor by being left out: its etcd would only fall silent, and its disk would keep the store.
pub fn up_does_not_make_three_of_five(story: &Story) -> Result<()> {
    const UP: [&str; 4] = ["up", "-i", "inventory.yaml", "--yes"];
    let mut without = five(story);
    without.hosts.drain(..2);
    story.operator.write(&without)?;
    let words = ["lives, but the inventory has no control plane", "kinstall node remove h", "nothing was changed"];
    story.operator.fails_saying(&UP, &words)?;
    let mut workers = five(story);
    for (_, _, role) in &mut workers.hosts[..2] {
        *role = "worker";
    }
    story.operator.write(&workers)?;
    story.operator.fails_saying(
        &UP,
        &["h1, h2 are control planes of the cluster", "`kinstall node remove h1 h2`", "nothing was changed"],
    )?;
    story.members_are_well(5, &FIVE)
}

/// As the refused `up` has said, with the inventory that it was refused with. Also the one that founded everything: no control plane is better than another.
pub fn five_become_three(story: &Story) -> Result<()> {
    let started = Instant::now();
    story.operator.ok(&["node", "remove", "h1", "h2", "-i", "inventory.yaml", "--yes", "--delete-emptydir-data"])?;
    println!("        h1 and h2 left in {:.1} s", started.elapsed().as_secs_f64());
    story.members_are_well(5, &["h3", "h4", "h5"])?;
    let mut three = five(story);
    three.hosts.drain(..2);
    let said = story.up(&three)?;
    ensure!(said.contains("works"), "{said}");
    let nodes = story.operator.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(ready(&nodes).len() == 3, "{nodes}");
    for host in [1, 2] {
        let left = left_behind(story.lab.host(host))?;
        ensure!(left.trim().is_empty(), "h{host}: {left}");
    }
    crate::losing::up_again(story)
}

/// Its embedded store is of the past: starting with it again would take back everything since.
pub fn three_do_not_become_one(story: &Story) -> Result<()> {
    let mut one = five(story);
    one.hosts.retain(|(name, ..)| name == "h3");
    story.operator.write(&one)?;
    let refused = story
        .operator
        .fails_saying(&["up", "-i", "inventory.yaml", "--yes"], &["h3: store", "in etcd", "nothing was changed"]);
    let mut three = five(story);
    three.hosts.drain(..2);
    story.operator.write(&three)?;
    refused.map(|_| ())
}
