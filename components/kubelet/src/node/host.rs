//! What the host is and has, read from /proc, /sys and /etc.

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Facts that do not change while the host is up.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub cpus: u64,
    pub memory: u64,
    /// Page size in bytes to total bytes reserved.
    pub hugepages: BTreeMap<u64, u64>,
    pub machine_id: String,
    pub boot_id: String,
    pub system_uuid: String,
    pub kernel: String,
    pub os_image: String,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Disk {
    pub capacity: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

impl Disk {
    pub fn used_percent(&self) -> u64 {
        100 - (self.available * 100).checked_div(self.capacity).unwrap_or(100)
    }
}

pub fn gather() -> Host {
    Host {
        cpus: cpus(&read("/proc/cpuinfo")),
        memory: meminfo(&read("/proc/meminfo"), "MemTotal").unwrap_or(0),
        hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
        machine_id: first_of(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
        boot_id: first_of(&["/proc/sys/kernel/random/boot_id"]),
        system_uuid: first_of(&["/sys/class/dmi/id/product_uuid", "/etc/machine-id"]),
        kernel: first_of(&["/proc/sys/kernel/osrelease"]),
        os_image: os_image(&read("/etc/os-release")),
    }
}

/// The architecture as Go names it.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn disk(path: &Path) -> Option<Disk> {
    let stat = statvfs(path).ok()?;
    let block = stat.fragment_size();
    Some(Disk {
        capacity: stat.blocks() * block,
        available: stat.blocks_available() * block,
        inodes: stat.files(),
        inodes_free: stat.files_free(),
    })
}

pub fn memory_available() -> Option<u64> {
    meminfo(&read("/proc/meminfo"), "MemAvailable")
}

/// (processes and threads that exist, how many may exist).
pub fn pids() -> Option<(u64, u64)> {
    let loadavg = read("/proc/loadavg");
    let existing = loadavg.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    let limit = |path: &str| read(path).trim().parse::<u64>().ok();
    let most = limit("/proc/sys/kernel/pid_max")?.min(limit("/proc/sys/kernel/threads-max")?);
    Some((existing, most))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn first_of(paths: &[&str]) -> String {
    paths.iter().map(|p| read(p).trim().to_string()).find(|text| !text.is_empty()).unwrap_or_default()
}

fn cpus(cpuinfo: &str) -> u64 {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    u64::try_from(count.max(1)).unwrap_or(1)
}

fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn os_image(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_string())
}

fn hugepages(directory: &Path) -> BTreeMap<u64, u64> {
    let Ok(entries) = std::fs::read_dir(directory) else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()? * 1024;
            let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            Some((size, count.trim().parse::<u64>().ok()? * size))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_host_has_something() {
        let host = gather();
        assert!(host.cpus > 0 && host.memory > 1 << 20);
        assert!(!host.kernel.is_empty() && !host.boot_id.is_empty());
        assert!(disk(Path::new("/")).unwrap().capacity > 0);
        let (existing, most) = pids().unwrap();
        assert!(existing > 0 && most > existing);
    }

    #[test]
    fn proc_files_are_read_as_the_kernel_writes_them() {
        assert_eq!(meminfo("MemTotal:       16 kB\nMemAvailable:  4 kB\n", "MemAvailable"), Some(4096));
        assert_eq!(cpus("processor\t: 0\nx\nprocessor\t: 1\n"), 2);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }
}
