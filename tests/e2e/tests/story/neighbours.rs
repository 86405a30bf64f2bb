//! What somebody else has on a host, for real: told with what to do, lived with, and never touched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::snapshot::nft;
use lab::Host;

use crate::Story;
use crate::bad_input::up;

/// All of them at once on the second host, and a port taken so that nothing is begun there.
pub fn told_with_what_to_do(story: &Story) -> Result<()> {
    let host = story.lab.host(2);
    let result = place(story, host).and_then(|()| told(story, host));
    host.ssh_ok(
        "systemctl stop containerd squatter; rm -rf /root/neighbour /run/neighbour /opt/containerd /usr/sbin/nft",
    )?;
    nft(host, &["delete table inet strangers"])?;
    result
}

fn place(story: &Story, host: &Host) -> Result<()> {
    let folder = story.operator.path("neighbour");
    fs::create_dir_all(&folder)?;
    for file in [lab::tools::runtime()?.join("bin/containerd")].into_iter().chain(nft_and_its_libraries()?) {
        let name = file.file_name().context("a file without a name")?;
        fs::copy(&file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    host.put(&folder, "/root/neighbour")?;
    host.ssh_ok(
        "printf '#!/bin/sh\\nLD_LIBRARY_PATH=/root/neighbour exec /root/neighbour/nft \"$@\"\\n' > /usr/sbin/nft && chmod 755 /usr/sbin/nft \
         && systemd-run --quiet --unit=containerd --property=Type=exec /root/neighbour/containerd --root /root/neighbour/root \
            --state /run/neighbour --address /run/neighbour/containerd.sock \
         && systemd-run --quiet --unit=squatter --property=Type=exec /usr/sbin/sshd -D -p 10250 -o PidFile=none",
    )?;
    let drops = "add table inet strangers; add chain inet strangers forward { type filter hook forward priority 0; policy drop; }";
    nft(host, &[drops]).map(drop)
}

/// The lab's hosts have no `nft`; this machine has one, of the same Debian.
fn nft_and_its_libraries() -> Result<Vec<PathBuf>> {
    let program = PathBuf::from("/usr/sbin/nft");
    let output = Command::new("ldd").arg(&program).output().context("cannot run ldd")?;
    let libraries = String::from_utf8_lossy(&output.stdout).into_owned();
    let needed = libraries.split_whitespace().filter(|word| word.starts_with('/') && !word.contains("/ld-"));
    let needed: Vec<_> = needed.filter(|path| !path.contains("/libc.so")).map(PathBuf::from).collect();
    ensure!(!needed.is_empty(), "ldd knows nothing of {}", program.display());
    Ok([vec![program], needed].concat())
}

fn told(story: &Story, host: &Host) -> Result<()> {
    let said = up(
        story,
        &story.inventory,
        &[
            "h2: ports: tcp port 10250",
            "h2: neighbours: containerd runs here",
            "/etc/cni/net.d/10-theirs.conf belongs to another pod network",
            "h2: firewall: inet strangers forward drops forwarded packets",
        ],
    )?;
    // what it says is what helps
    let remedy = said.lines().find_map(|line| line.trim().strip_prefix("remedy: nft insert")).context("no command")?;
    let commands = remedy.split_once(" (").map_or(remedy, |(commands, _)| commands);
    host.ssh_ok(&format!("nft insert{commands}"))?;
    let said = up(story, &story.inventory, &["h2: ports: tcp port 10250"])?;
    ensure!(!said.contains("inet strangers"), "told although {commands:?} was done:\n{said}");
    host.ssh_ok("systemctl is-active containerd").context("the neighbour's containerd")?;
    Ok(())
}
