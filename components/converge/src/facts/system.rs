//! Operating system, memory, disks, cgroups.

use std::collections::BTreeMap;
use std::fs;

use hoststate::facts::{CgroupMode, Disk};

use crate::{Root, command};

/// A file's text without surrounding white space; empty when it cannot be read.
pub fn read(root: &Root, path: &str) -> String {
    fs::read_to_string(root.path(path)).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// os-release(5).
pub fn os_release(root: &Root) -> BTreeMap<String, String> {
    let mut text = read(root, "/etc/os-release");
    if text.is_empty() {
        text = read(root, "/usr/lib/os-release");
    }
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
        .collect()
}

pub fn systemd_version(root: &Root) -> Option<u32> {
    let text = command::look_in(root, "systemctl", &["--version"])?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// `getconf` of glibc says `glibc 2.36`; that of another C library knows no such variable.
pub fn glibc(root: &Root) -> Option<String> {
    let text = command::look_in(root, "getconf", &["GNU_LIBC_VERSION"])?;
    text.trim().strip_prefix("glibc ").map(str::to_owned)
}

/// (MemTotal, SwapTotal) in bytes.
pub fn memory(root: &Root) -> (u64, u64) {
    let text = read(root, "/proc/meminfo");
    let field = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
            })
            .unwrap_or(0)
            * 1024
    };
    (field("MemTotal"), field("SwapTotal"))
}

/// The file system that holds `path` or, where that is missing, its nearest parent.
pub fn disk(root: &Root, path: &str) -> Option<Disk> {
    let on_disk = root.path(path);
    let existing = on_disk.ancestors().find(|p| p.exists())?;
    let stat = nix::sys::statvfs::statvfs(existing).ok()?;
    // The kernel's types differ between architectures.
    #[allow(clippy::useless_conversion)]
    let (block, free, total) =
        (u64::from(stat.fragment_size()), u64::from(stat.blocks_available()), u64::from(stat.blocks()));
    #[allow(clippy::useless_conversion)]
    let free_inodes = u64::from(stat.files_available());
    let (filesystem, options) = mount(root, path);
    let has = |option: &str| options.split(',').any(|its| its == option);
    Some(Disk {
        path: path.to_owned(),
        filesystem,
        read_only: has("ro"),
        no_exec: has("noexec"),
        free_bytes: free * block,
        total_bytes: total * block,
        free_inodes,
    })
}

/// Type and options of the mount that `path` is on.
fn mount(root: &Root, path: &str) -> (String, String) {
    read(root, "/proc/self/mounts")
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1).map(str::to_owned);
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
        .filter(|(mount, ..)| std::path::Path::new(path).starts_with(mount))
        .max_by_key(|(mount, ..)| mount.len())
        .map(|(_, kind, options)| (kind, options))
        .unwrap_or_default()
}

pub fn cgroups(root: &Root) -> (CgroupMode, Vec<String>) {
    let mounts = read(root, "/proc/self/mounts");
    let mount_kinds: Vec<(&str, &str)> = mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields.get(2).is_some_and(|kind| kind.starts_with("cgroup")).then(|| (fields[1], fields[2]))
        })
        .collect();
    let v2_root = mount_kinds.iter().any(|(path, kind)| *path == "/sys/fs/cgroup" && *kind == "cgroup2");
    let v1: Vec<&str> = mount_kinds.iter().filter(|(_, kind)| *kind == "cgroup").map(|(path, _)| *path).collect();
    if v2_root {
        let controllers = read(root, "/sys/fs/cgroup/cgroup.controllers");
        return (CgroupMode::V2, controllers.split_whitespace().map(str::to_owned).collect());
    }
    let mut controllers: Vec<String> = v1
        .iter()
        .filter_map(|path| path.rsplit('/').next())
        .flat_map(|names| names.split(','))
        .filter(|name| *name != "systemd")
        .map(str::to_owned)
        .collect();
    controllers.sort();
    controllers.dedup();
    let mode = match (v1.is_empty(), mount_kinds.iter().any(|(_, kind)| *kind == "cgroup2")) {
        (true, _) => CgroupMode::None,
        (false, true) => CgroupMode::Hybrid,
        (false, false) => CgroupMode::V1,
    };
    (mode, controllers)
}

pub fn clock_millis() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Lowering `oom_score_adj` needs CAP_SYS_RESOURCE (bit 24, linux/capability.h), which containers often lack.
pub fn can_lower_oom_score() -> bool {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim().to_owned();
            u64::from_str_radix(&hex, 16).ok()
        })
        .is_some_and(|capabilities| capabilities & (1 << 24) != 0)
}
