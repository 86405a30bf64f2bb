//! The disk under the only store is full.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::scenario::{until, until_ok};
use lab::filler;

use crate::Story;

/// More than what the store may have set aside for itself.
const WRITES: u32 = 40;

/// As long as there is no room each write is refused with the reason, and reads go on. What was confirmed is there afterwards, without
/// that anything was started anew.
pub fn refuses_and_goes_on(story: &Story) -> Result<()> {
    const PROCESS: &str = "systemctl show -p MainPID kinstall-control-plane";
    let (host, operator) = (story.lab.host(1), &story.operator);
    let process = host.ssh_ok(PROCESS)?;
    filler::fill(host)?;
    let mut written = Vec::new();
    let refused = (0..WRITES).map(|n| format!("much-{n}")).find_map(|name| {
        let refused = operator.writes_much(&name).err();
        if refused.is_none() {
            written.push(name);
        }
        refused
    });
    let unread = operator.lacks(None, &written);
    filler::free(host)?;
    let refused = refused.with_context(|| format!("{} writes were taken on a full disk", written.len()))?.to_string();
    ensure!(refused.contains("the disk is full"), "{refused}");
    println!("        {} writes were taken before one was refused", written.len());
    let unread = unread?;
    ensure!(unread.is_empty(), "with the disk full these could not be read: {unread:?}");

    operator.writes_much("with-room")?;
    written.push("with-room".into());
    ensure!(host.ssh_ok(PROCESS)? == process, "the control plane was started anew");
    let lost = operator.lacks(None, &written)?;
    ensure!(lost.is_empty(), "confirmed, but not there: {lost:?}");
    until(Duration::from_secs(60), "all nodes take pods", || operator.ready_nodes() == ["h1", "h2"])?;
    until_ok(Duration::from_secs(60), "no node is short of room", || {
        let taints = story.node("h1", ".spec.taints[*].key")?;
        ensure!(!taints.contains("disk-pressure"), "{taints}");
        Ok(())
    })?;
    operator.deletes(&written)
}
