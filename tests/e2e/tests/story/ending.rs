//! Taking the cluster down again.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::operator::{Inventory, both};
use e2e::snapshot::{Snapshot, nft};
use lab::Host;

use crate::{NODES, Story};

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
    Ok(())
}

/// Hosts do not let each other pass the bundle on meanwhile.
fn with_firewalls_closed<T>(story: &Story, then: impl FnOnce() -> T) -> Result<T> {
    let hosts = &story.lab.hosts()[..NODES];
    for host in hosts {
        let chain = "add table inet closed; add chain inet closed c { type filter hook input priority 0; }";
        nft(host, &[&format!("{chain}; add rule inet closed c ct state new tcp dport 32768-60999 drop")])?;
    }
    let done = then();
    for host in hosts {
        nft(host, &["delete table inet closed"])?;
    }
    Ok(done)
}

/// The store is damaged while the cluster is down: `up` must say so soon, not when systemd has lost its patience. Hosts cannot
/// reach each other, so all of the bundle comes from the operator.
pub fn control_plane_that_cannot_start(story: &Story) -> Result<()> {
    let host = story.lab.host(1);
    host.ssh_ok("cd /var/lib/kinstall && mv store store.good && mkdir -m 700 store && echo damaged > store/store.db")?;
    let started = std::time::Instant::now();
    let up = ["up", "-i", "inventory.yaml", "--yes"];
    let result = with_firewalls_closed(story, || {
        story.operator.fails_saying(&up, &["h1", "kinstall-control-plane", "store.db", "h2: "])
    });
    let seconds = started.elapsed().as_secs_f64();
    host.ssh_ok("systemctl stop kinstall-control-plane; cd /var/lib/kinstall && rm -r store && mv store.good store")?;
    result??;
    // TimeoutStartSec is 300 s
    ensure!(seconds < 200.0, "it took {seconds:.0} s to tell that the control plane does not start");
    let tried = Command::new("grep").args(["-rl", "cannot fetch"]).arg(story.operator.path(".kinstall")).output()?;
    ensure!(!tried.stdout.is_empty(), "no host was asked to fetch anything from another");
    Ok(())
}

pub fn up_over_kept_data(story: &Story) -> Result<()> {
    story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"]).context("up over kept data").map(drop)
}

/// The same as an unprivileged user with a sudo password, without the sample; read back by the commands people have for it.
pub fn as_sudo_user(story: &Story) -> Result<()> {
    const PASSWORD: &str = "admin-password";
    let password = story.operator.path("sudo-password");
    std::fs::write(&password, PASSWORD)?;
    let inventory = Inventory {
        user: "admin".into(),
        sudo_password_file: Some(password),
        wordpress: false,
        ..story.inventory.clone()
    };
    story.operator.write(&inventory)?;
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--verbose"])?;
    ensure!(!said.contains(PASSWORD), "the password is in the output:\n{said}");
    let logged = Command::new("grep").args(["-rl", PASSWORD]).arg(story.operator.path(".kinstall")).output()?;
    ensure!(logged.stdout.is_empty(), "the password is in {}", String::from_utf8_lossy(&logged.stdout));
    let plan = story.operator.run(&["plan", "-i", "inventory.yaml"])?;
    ensure!(plan.status.code() == Some(0), "plan after up ended with {}:\n{}", plan.status, both(&plan));
    let status = story.operator.ok(&["status", "-i", "inventory.yaml", "--output", "json"])?;
    for line in status.lines() {
        serde_json::from_str::<serde_json::Value>(line).with_context(|| format!("status printed {line:?}"))?;
    }
    ensure!(["h1", "h2", "h3"].iter().all(|host| status.contains(host)), "status lacks a host:\n{status}");
    let junit = story.operator.ok(&["validate", "-i", "inventory.yaml", "--output", "junit"])?;
    ensure!(junit.contains("<testsuite") && junit.contains("<testcase"), "no JUnit document:\n{junit}");
    ensure!(!junit.contains("<failure"), "a check failed:\n{junit}");
    down_restores(story)
}

/// As a container's group is that was ended while it started: systemd remembers it, and the slices that it was in.
fn place_failed_scope(host: &Host) -> Result<()> {
    host.ssh_ok(
        "systemd-run --quiet --scope --slice=kubepods.slice --unit=cri-containerd-0 -p TimeoutStopSec=100ms \
           sh -c 'trap \"\" TERM; exec sleep 60' < /dev/null > /dev/null 2>&1 & \
         until pgrep -fx 'sleep 60' > /dev/null; do sleep 0.1; done; \
         systemctl stop cri-containerd-0.scope; systemctl is-failed cri-containerd-0.scope",
    )
    .map(drop)
}

pub fn down_restores(story: &Story) -> Result<()> {
    place_failed_scope(story.lab.host(2))?;
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
