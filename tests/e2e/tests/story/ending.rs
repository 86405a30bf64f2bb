//! Taking the cluster down again.

use anyhow::{Context, Result, ensure};
use e2e::snapshot::{Snapshot, nft};
use lab::Host;

use crate::Story;

/// What another tool may have put on a host before us, and must find unchanged after us.
pub fn place_foreign_things(host: &Host) -> Result<()> {
    host.ssh_ok(
        "mkdir -p /etc/cni/net.d /etc/containerd \
         && echo '{\"name\":\"theirs\",\"type\":\"bridge\"}' > /etc/cni/net.d/10-theirs.conf \
         && echo 'version = 2 # theirs' > /etc/containerd/config.toml",
    )?;
    place_foreign_rules(host)
}

/// Rules live in the kernel: a host that lost power has to get them again from whoever made them.
pub fn place_foreign_rules(host: &Host) -> Result<()> {
    nft(
        host,
        &[
            "add table inet theirs; add chain inet theirs c { type filter hook input priority 10; }; add rule inet theirs c ip saddr 192.0.2.1 accept",
        ],
    )?;
    Ok(())
}

pub fn keep_data(story: &Story) -> Result<()> {
    story.operator.ok(&["down", "-i", "inventory.yaml", "--yes", "--keep-data"])?;
    let kept = story.lab.hosts()[1..]
        .iter()
        .map(|host| host.ssh_ok("find /var/lib/kinstall/volumes -name wp-config.php 2>/dev/null | wc -l"))
        .collect::<Result<Vec<_>>>()?;
    ensure!(kept.iter().any(|count| count.trim() != "0"), "no volume was kept: {kept:?}");
    let control_plane = story.lab.host(1).ssh_ok("ls /var/lib/kinstall/store")?;
    ensure!(control_plane.contains("store.db"), "the store was not kept: {control_plane}");
    story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"]).context("up over kept data")?;
    Ok(())
}

pub fn down_restores(story: &Story) -> Result<()> {
    let started = std::time::Instant::now();
    story.operator.ok(&["down", "-i", "inventory.yaml", "--yes"])?;
    println!("        down: {:.1} s", started.elapsed().as_secs_f64());
    let mut left = Vec::new();
    for (host, before) in story.lab.hosts().iter().zip(&story.before) {
        let after = Snapshot::take(host)?;
        left.extend(before.differences(&after).into_iter().map(|line| format!("{}: {line}", host.name())));
    }
    ensure!(left.is_empty(), "{} differences:\n{}", left.len(), left.join("\n"));
    Ok(())
}
