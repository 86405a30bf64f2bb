//! Where a host's processes are counted. Under systemd (any ordinary machine) a host is a scope with delegated controllers; on
//! a machine whose PID 1 is something else, and which uses cgroup v1, the lab makes the host's cgroup in every hierarchy
//! itself, below its own.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, PartialEq)]
pub enum Manager {
    /// `systemd-run --scope` with delegation.
    Systemd,
    /// One folder for each mounted hierarchy; a host gets `klab/<host>` below it.
    ByHand(Vec<PathBuf>),
}

impl Manager {
    pub fn detect() -> Result<Self> {
        if Path::new("/run/systemd/system").exists() {
            return Ok(Manager::Systemd);
        }
        let own = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
        let dirs = hierarchies(&own, &mounts);
        if !dirs.iter().any(|dir| dir.starts_with("/sys/fs/cgroup/memory")) {
            bail!(
                "this machine runs neither systemd nor cgroup v1 with a memory controller; the lab knows no way to limit hosts here"
            );
        }
        Ok(Manager::ByHand(dirs))
    }

    pub fn host_dirs(&self, host: &str) -> Vec<PathBuf> {
        match self {
            Manager::Systemd => Vec::new(),
            Manager::ByHand(dirs) => dirs.iter().map(|dir| dir.join("klab").join(host)).collect(),
        }
    }
}

/// The folder of the calling process in every mounted hierarchy. Nesting below the caller keeps hosts within its limits.
fn hierarchies(own: &str, mounts: &str) -> Vec<PathBuf> {
    let mounted: Vec<(&str, &str, Vec<&str>)> = mounts.lines().filter_map(cgroup_mount).collect();
    let mut dirs = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let found = mounted.iter().find(|(_, kind, options)| match controllers {
            "" => *kind == "cgroup2",
            _ => *kind == "cgroup" && controllers.split(',').all(|controller| options.contains(&controller)),
        });
        if let Some((mountpoint, ..)) = found {
            dirs.push(Path::new(mountpoint).join(path.trim_start_matches('/')));
        }
    }
    dirs
}

/// Mount point, filesystem and superblock options of a cgroup mount.
fn cgroup_mount(line: &str) -> Option<(&str, &str, Vec<&str>)> {
    let (left, right) = line.split_once(" - ")?;
    let mountpoint = left.split(' ').nth(4)?;
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options = right.nth(1)?;
    kind.starts_with("cgroup").then(|| (mountpoint, kind, options.split(',').collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_gives_one_folder_for_each_hierarchy() {
        let own = "9:name=systemd:/\n4:memory:/session/1\n2:cpu,cpuacct:/\n0::/\n";
        let mounts = "25 1 0:5 / /proc rw - proc proc rw\n\
            30 29 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            31 29 0:28 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory\n\
            32 29 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup systemd rw,name=systemd\n\
            33 29 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 unified rw\n";
        let dirs = hierarchies(own, mounts);
        let expected = ["systemd", "memory/session/1", "cpu,cpuacct", "unified"];
        assert_eq!(dirs, expected.map(|dir| Path::new("/sys/fs/cgroup").join(dir)));
        let manager = Manager::ByHand(dirs);
        assert_eq!(manager.host_dirs("h1")[1], Path::new("/sys/fs/cgroup/memory/session/1/klab/h1"));
    }
}
