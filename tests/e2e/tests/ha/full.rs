//! The disk of one of three control planes is full.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::operator::ready;
use e2e::scenario::until;
use lab::filler;

use crate::{Story, writing};

/// More than what etcd has set aside on each member's disk.
const WRITES: u32 = 40;

/// Its member of etcd cannot write, and ends as often as it is started; the others go on, and with room it catches up by itself.
pub fn one_of_three(story: &Story) -> Result<()> {
    const STARTS: &str = "systemctl show -p NRestarts --value kinstall-etcd";
    let host = story.lab.host(2);
    let starts = host.ssh_ok(STARTS)?;
    filler::fill(host)?;
    let filled = writing::during(story, &["h1", "h3"], "while-full", || {
        (0..WRITES).try_for_each(|n| story.operator.writes_much(&format!("much-{n}")))
    });
    filler::free(host)?;
    let ((), written) = filled?;
    ensure!(host.ssh_ok(STARTS)? != starts, "etcd has not met the full disk");
    println!(
        "        {} writes beside, {:.1} s between two of them at most",
        written.names.len(),
        written.pause.as_secs_f64()
    );
    story.all_members_are_well(1)?;
    let all: Vec<String> = written.names.into_iter().chain((0..WRITES).map(|n| format!("much-{n}"))).collect();
    for at in ["h1", "h2", "h3"] {
        until(Duration::from_secs(60), &format!("{at} has what was written"), || {
            story.operator.lacks(Some(at), &all).is_ok_and(|lost| lost.is_empty())
        })?;
    }
    story.operator.deletes(&all)?;
    until(Duration::from_secs(90), "every node is Ready and takes pods", || {
        let nodes = story.operator.kubectl_at("h1", &["get", "nodes", "--no-headers"]);
        nodes.is_ok_and(|nodes| ready(&nodes).len() == 4)
    })?;
    ensure!(
        story.operator.kubectl_at("h2", &["get", "--raw", "/readyz"])?.contains("ok"),
        "h2's API server is not ready"
    );
    Ok(())
}
