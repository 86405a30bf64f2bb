//! What an operator gets wrong, and what hosts have wrong with them.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use e2e::operator::Inventory;
use e2e::snapshot::Snapshot;

use crate::Story;

pub fn up(story: &Story, inventory: &Inventory, words: &[&str]) -> Result<String> {
    story.operator.write(inventory)?;
    story.operator.fails_saying(&["up", "-i", "inventory.yaml", "--yes"], words)
}

pub fn inventory_errors(story: &Story) -> Result<()> {
    let mut inventory = story.inventory.clone();
    inventory.more = "netwrok:\n  podCidr: 10.244.0.0/16\nstorage: 7\n".into();
    let said = up(story, &inventory, &["inventory.yaml:", "netwrok", "network", "storage"])?;
    // file:line:column, for both problems at once
    let places = said.lines().filter(|line| line.contains("inventory.yaml:")).count();
    ensure!(places >= 2, "two problems, {places} places:\n{said}");
    Ok(())
}

pub fn wrong_key(story: &Story) -> Result<()> {
    let key = story.operator.path("stranger");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    ensure!(made.success(), "ssh-keygen failed");
    let mut inventory = story.inventory.clone();
    inventory.key = key;
    up(story, &inventory, &["h1", "h2", "h3", "refused user", "stranger"])?;
    Ok(())
}

pub fn unreachable_host(story: &Story) -> Result<()> {
    let mut inventory = story.inventory.clone();
    // Nobody has this address in the lab's network.
    inventory.hosts.push(("h9".into(), "10.99.0.99".into(), "worker"));
    up(story, &inventory, &["h9", "cannot connect to 10.99.0.99", "nothing was changed"])?;
    Ok(())
}

/// The cluster stands; one more host is in the inventory but not there.
pub fn without_an_unreachable_host(story: &Story) -> Result<()> {
    let mut inventory = story.inventory.clone();
    inventory.hosts.push(("h9".into(), "10.99.0.99".into(), "worker"));
    story.operator.write(&inventory)?;
    let arguments = ["up", "-i", "inventory.yaml", "--yes", "--ignore-preflight"];
    let result = story.operator.fails_saying(&arguments, &["h9", "cannot connect", "h3: nothing changed"]);
    story.operator.write(&story.inventory)?;
    result?;
    let applied = fs::read_to_string(story.operator.path(".kinstall/lab/applied.json"))?;
    ensure!(
        applied.contains("\"h3\"") && !applied.contains("\"h9\""),
        "a host nobody has seen is noted as ours:\n{applied}"
    );
    Ok(())
}

pub fn changed_host_key(story: &Story) -> Result<()> {
    let text = fs::read_to_string(&story.inventory.known_hosts)?;
    let key_of = |address: &str| {
        text.lines()
            .find(|line| line.starts_with(address))
            .and_then(|line| line.split_once(' '))
            .map(|(_, key)| key.to_owned())
    };
    let (first, second) = (&story.inventory.hosts[0].1, &story.inventory.hosts[1].1);
    let (Some(own), Some(foreign)) = (key_of(first), key_of(second)) else {
        anyhow::bail!("the lab's known_hosts lacks a host:\n{text}")
    };
    let known_hosts = story.operator.path("known_hosts");
    fs::write(&known_hosts, text.replace(&own, &foreign))?;
    let mut inventory = story.inventory.clone();
    inventory.known_hosts = known_hosts;
    up(story, &inventory, &["h1", "host key", "changed"])?;
    Ok(())
}

pub fn wrong_sudo_password(story: &Story) -> Result<()> {
    let password = story.operator.path("password");
    fs::write(&password, "not-the-password\n")?;
    let mut inventory = story.inventory.clone();
    inventory.user = "admin".into();
    inventory.sudo_password_file = Some(password);
    let said = up(story, &inventory, &["h1", "sudo", "password"])?;
    ensure!(!said.contains("not-the-password"), "the password is in the output:\n{said}");
    Ok(())
}

pub fn port_in_use(story: &Story) -> Result<()> {
    let host = story.lab.host(1);
    host.ssh_ok("systemd-run --quiet --unit=squatter --property=Type=exec /usr/sbin/sshd -D -p 6443 -o PidFile=none")?;
    let result = up(story, &story.inventory, &["h1", "6443", "in use"]);
    host.ssh_ok("systemctl stop squatter")?;
    result.map(|_| ())
}

pub fn corrupt_bundle(story: &Story) -> Result<()> {
    let bundle = story.operator.path("corrupt.tar.zst");
    let mut bytes = fs::read(&story.inventory.bundle)?;
    let middle = bytes.len() / 2;
    for byte in bytes.iter_mut().skip(middle).take(64) {
        *byte ^= 0xff;
    }
    fs::write(&bundle, bytes)?;
    let mut inventory = story.inventory.clone();
    inventory.bundle = bundle.clone();
    up(story, &inventory, &["corrupt.tar.zst"])?;
    fs::remove_file(bundle)?;
    Ok(())
}

pub fn full_disk(story: &Story) -> Result<()> {
    let host = story.lab.host(2);
    // All but a few MiB are taken.
    host.ssh_ok("fallocate -l $(( $(df --output=avail -B1 / | tail -1) - 20000000 )) /filler")?;
    let result = up(story, &story.inventory, &["h2", "free"]);
    host.ssh_ok("rm /filler")?;
    result.map(|_| ())
}

pub fn hosts_are_untouched(story: &Story) -> Result<()> {
    for (host, before) in story.lab.hosts().iter().zip(&story.before) {
        let differences = before.differences(&Snapshot::take(host)?);
        ensure!(differences.is_empty(), "{}:\n{}", host.name(), differences.join("\n"));
    }
    Ok(())
}
