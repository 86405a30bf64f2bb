//! What a host looks like: files, units, links, routes, rules, mounts, kernel parameters, users, cgroups, processes.
//!
//! Taken before `up` and after `down`; any difference is something that was left behind or taken away.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use lab::Host;

/// Section → its lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    sections: BTreeMap<String, BTreeSet<String>>,
}

/// Section and the command that prints it, run by root on the host. What changes on any running host by itself is left out, and
/// the mark that Debian's sudo makes at a user's first use of it.
const SECTIONS: [(&str, &str); 10] = [
    (
        "files",
        "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \
         -o -path /var/log/journal -o -path /var/lib/systemd -o -path /var/cache -o -path /root/.ssh \\) -prune \
         -o ! -path '/var/log/*' ! -name .sudo_as_admin_successful -printf '%p %y %m %U:%G %l\\n'",
    ),
    ("log directories", "find /var/log -type d ! -path '/var/log/journal*' -printf '%p %m\\n'"),
    ("configuration", "find /etc -xdev -type f ! -name '.updated' -exec sha256sum {} +"),
    ("run", "find /run /var/tmp /tmp -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*' -printf '%p %y\\n'"),
    (
        "units",
        "systemctl list-units --all --plain --no-legend --no-pager | awk '{print $1, $2, $3}' \
         | grep -Ev '^(session-|user|run-|systemd-tmpfiles-clean|apt-|dpkg-|e2scrub|fstrim|logrotate|man-db|ssh@|sshd@)' \
         | grep -Ev '\\.(device|swap) '",
    ),
    (
        "unit files",
        "systemctl list-unit-files --plain --no-legend --no-pager | awk '{print $1, $2}' | grep -Ev '^(session-|run-|user@)'",
    ),
    (
        "network",
        "ip -o link | awk '{print $2}' | sed 's/@.*//'; ip -o -4 addr | awk '{print $2, $4}'; ip route; ip rule",
    ),
    ("mounts", "awk '{print $5, $9}' /proc/self/mountinfo | grep -v '^/run/user'"),
    (
        "kernel parameters",
        "sysctl -a 2>/dev/null | grep -Ev '(random|ns_last_pid|inode-nr|inode-state|file-nr|dentry-state|cad_pid|nf_conntrack_count\
         |fs.quota|numa|sched_domain|netdev_rss|next_id|\\.boot_id|pty\\.nr|perf_event_max_sample|mem_pcpu_rsv|sched_debug|\
         tcp_fastopen_key|stable_secret|lowat|neigh\\.)'",
    ),
    (
        "cgroups",
        "find /sys/fs/cgroup -type d | grep -Ev '(session-|user-|user@|user.slice|run-|init.scope|app.slice|systemd-tmpfiles|apt-daily|\
         dpkg-db|e2scrub|fstrim|logrotate|man-db|dbus|ssh@)'",
    ),
];

impl Snapshot {
    pub fn take(host: &Host) -> Result<Self> {
        // what is looked at while the host still boots is gone later by itself; whether every unit is well is not asked. Over SSH: a
        // login leaves traces of its own, which are there before anything is noted
        host.ssh_ok("timeout 60 systemctl is-system-running --wait; true")?;
        let mut sections = BTreeMap::new();
        for (name, command) in SECTIONS {
            let text = look(host, command).with_context(|| format!("{}: {name}", host.name()))?;
            sections.insert(name.to_owned(), text.lines().map(str::to_owned).collect());
        }
        let executables = look(host, "for p in /proc/[0-9]*; do readlink $p/exe; done | sort -u; true")?;
        let ours =
            |line: &&str| !["/usr/bin/dash", "/usr/bin/bash", "/usr/bin/sort", "/usr/bin/readlink"].contains(line);
        sections.insert("executables that run".into(), executables.lines().filter(ours).map(str::to_owned).collect());
        sections.insert("nftables".into(), rules(host)?);
        Ok(Self { sections })
    }

    /// One line for each difference; empty when the host is what it was.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, before) in &self.sections {
            let empty = BTreeSet::new();
            let now = after.sections.get(name).unwrap_or(&empty);
            found.extend(now.difference(before).map(|line| format!("{name}: left behind: {line}")));
            found.extend(before.difference(now).map(|line| format!("{name}: gone: {line}")));
        }
        found
    }
}

/// Not over SSH: a dozen handshakes a host are what most of a test's time would go into.
fn look(host: &Host, command: &str) -> Result<String> {
    host.exec(command)?.ok()
}

/// kinstall's directories on a host, one a line; empty when it is clean. For scenarios without a snapshot from before.
pub fn left_behind(host: &Host) -> Result<String> {
    host.ssh_ok("ls -d /etc/kinstall /var/lib/kinstall /opt/kinstall 2>/dev/null; true")
}

/// Runs `nft` in the host's network namespace.
pub fn nft(host: &Host, args: &[&str]) -> Result<String> {
    lab::in_network(host, &[&["nft"], args].concat())
}

/// The lab's machine has `nft`, a host need not: the rules are read from the host's network namespace.
fn rules(host: &Host) -> Result<BTreeSet<String>> {
    let output = nft(host, &["list", "ruleset"])?;
    Ok(output.lines().map(str::to_owned).collect())
}
