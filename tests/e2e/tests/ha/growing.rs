//! One control plane becomes three.

use anyhow::{Context, Result, ensure};
use e2e::operator::Inventory;

use crate::Story;

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

    let started = std::time::Instant::now();
    story.up(&story.inventory)?;
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
    crate::losing::up_again(story)
}

/// Its embedded store is of the past: starting with it again would take back everything since.
pub fn three_do_not_become_one(story: &Story) -> Result<()> {
    let one = Inventory::with_control_planes(&story.lab, story.operator.artifacts(), 1);
    story.operator.write(&Inventory { wordpress: false, ..one })?;
    let refused = story
        .operator
        .fails_saying(&["up", "-i", "inventory.yaml", "--yes"], &["h1: store", "in etcd", "nothing was changed"]);
    story.operator.write(&story.inventory)?;
    refused.map(|_| ())
}
