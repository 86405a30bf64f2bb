//! A cluster whose second host is off is taken down, and the second host later.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::snapshot::left_behind;

use crate::Story;

const DOWN: [&str; 4] = ["down", "-i", "inventory.yaml", "--yes"];

pub fn half_dead(story: &Story) -> Result<()> {
    story.lab.host(2).poweroff()?;
    let strangers = [&DOWN[..], &["--force-forget", "nobody"]].concat();
    story.operator.fails_saying(&strangers, &["no such host", "nothing was changed"])?;
    story.operator.fails_saying(&DOWN, &["1 hosts are clean, 1 not yet", "h2: ", "--force-forget"])?;
    let left = left_behind(story.lab.host(1))?;
    ensure!(left.trim().is_empty(), "{left}");
    ensure!(story.operator.path(".kinstall/lab/pki/ca.key").exists(), "the keys are gone");
    Ok(())
}

/// Even when the inventory does not name it any more.
pub fn finished(story: &Story) -> Result<()> {
    story.lab.host(2).power_on()?;
    story.lab.host(2).wait_ssh(Duration::from_secs(90))?;
    let inventory = story.inventory()?;
    let is_of_h2 = |line: &&str| {
        let lines = ["  - name: h2", "    address: 10.99.0.12", "    roles: [worker]"];
        lines.contains(line)
    };
    story
        .write(&inventory.lines().filter(|line| !is_of_h2(line)).map(|line| format!("{line}\n")).collect::<String>())?;
    story.operator.ok(&DOWN)?;
    let left = left_behind(story.lab.host(2))?;
    ensure!(left.trim().is_empty(), "{left}");
    ensure!(!story.operator.path(".kinstall/lab/pki/ca.key").exists(), "the keys stayed");
    Ok(())
}
