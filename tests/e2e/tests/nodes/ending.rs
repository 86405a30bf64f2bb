//! A cluster of which two hosts are off is taken down, one of the two later; the other is given up, and comes back all the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::operator::both;
use e2e::snapshot::left_behind;

use crate::Story;

const DOWN: [&str; 4] = ["down", "-i", "inventory.yaml", "--yes"];

pub fn half_dead(story: &Story) -> Result<()> {
    let address = story.lab.host(3).address();
    story.operator.ok(&["node", "add", "h3", "--address", &address, "-i", "inventory.yaml"])?;
    story.operator.hooks_told()?;
    for host in [2, 3] {
        story.lab.host(host).poweroff()?;
    }
    let strangers = [&DOWN[..], &["--force-forget", "nobody"]].concat();
    story.operator.fails_saying(&strangers, &["no such host", "nothing was changed"])?;
    let without_h3 = [&DOWN[..], &["--force-forget", "h3"]].concat();
    story.operator.fails_saying(&without_h3, &["1 hosts are clean, 1 not yet", "h2: ", "--force-forget"])?;
    ensure!(is_clean(story, 1)?, "h1 is not clean");
    // what is after it comes when it has gone well
    let told = story.operator.hooks_told()?;
    ensure!(told == ["down before h1 h2"], "{told:?}");
    ensure!(story.operator.path(".kinstall/lab/pki/ca.key").exists(), "the keys are gone");
    Ok(())
}

/// Even when the inventory does not name it any more. What was given up stays so, and `down` says how it is cleaned by hand.
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
    let output = story.operator.run(&DOWN)?;
    let said = both(&output);
    ensure!(output.status.success() && said.contains("h3: not touched, and forgotten as you said"), "{said}");
    ensure!(is_clean(story, 2)?, "h2 is not clean");
    let told = story.operator.hooks_told()?;
    ensure!(told == ["down before h1 h2", "down after h1 h2"], "{told:?}");
    ensure!(!story.operator.path(".kinstall/lab/pki/ca.key").exists(), "the keys stayed");

    let by_hand = said.lines().find_map(|line| Some(line.split_once("as root there: ")?.1)).context("no word of it")?;
    story.lab.host(3).power_on()?;
    story.lab.host(3).wait_ssh(Duration::from_secs(90))?;
    ensure!(!is_clean(story, 3)?, "h3 was clean before");
    let did = story.lab.host(3).ssh_ok(by_hand)?;
    ensure!(is_clean(story, 3)?, "h3 is not clean after {by_hand}: {did}");
    Ok(())
}

fn is_clean(story: &Story, host: u32) -> Result<bool> {
    Ok(left_behind(story.lab.host(host))?.trim().is_empty())
}
