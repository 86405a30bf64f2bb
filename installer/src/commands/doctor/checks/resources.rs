//! Disks and memory of hosts.

use super::{Found, Sure, found};
use crate::commands::doctor::seen::Seen;

const MIB: u64 = 1024;
/// Less than this and nothing can be written soon.
const NOTHING_KIB: u64 = 100 * MIB;
/// A share of a file system is little only where it is also little by itself.
const LITTLE_KIB: u64 = 2048 * MIB;
const LITTLE_PERCENT: u64 = 5;
const FEW_INODES: u64 = 10_000;
const LITTLE_MEMORY_PERCENT: u64 = 3;

pub fn disks(seen: &Seen<'_>) -> Vec<Found> {
    let mut list = Vec::new();
    for host in &seen.hosts {
        // by their size and what is free: one file system is often seen at several places
        let mut places: Vec<(String, u64, u64)> = Vec::new();
        let mut add = |path: &str, size, free| {
            if size > 0 && !places.iter().any(|(_, known, left)| (*known, *left) == (size, free)) {
                places.push((path.to_owned(), size, free));
            }
        };
        let facts = host.told.as_ref().ok().and_then(Option::as_ref).map(|told| &told.facts);
        for disk in facts.iter().flat_map(|facts| &facts.disks) {
            add(&disk.path, disk.total_bytes / 1024, disk.free_bytes / 1024);
        }
        for filesystem in host.probe.iter().flat_map(|probe| &probe.filesystems) {
            add(&filesystem.path, filesystem.size_kib, filesystem.free_kib);
        }
        let name = &host.host.name;
        for (path, size, free) in places {
            let sure = match free {
                // a small file system of its own is not full because it is small
                0..NOTHING_KIB if free * 20 < size || free < 10 * MIB => Sure::Certain,
                0..LITTLE_KIB if free * 100 < size * LITTLE_PERCENT => Sure::Likely,
                _ => continue,
            };
            let what = format!("{} MiB are left on the file system of {path}", free / MIB);
            let cure = format!(
                "{} shows what takes the space",
                seen.on(host.host, &format!("\"du -xhd2 {path} | sort -h | tail\""))
            );
            list.push(found(sure, name, what, cure));
        }
        for disk in facts.iter().flat_map(|facts| &facts.disks) {
            if (1..FEW_INODES).contains(&disk.free_inodes) {
                let what = format!(
                    "{} inodes are left on the file system of {}: soon no file can be made",
                    disk.free_inodes, disk.path
                );
                let cure = format!(
                    "{} shows where the many files are",
                    seen.on(host.host, &format!("\"du -xd2 --inodes {} | sort -n | tail\"", disk.path))
                );
                list.push(found(Sure::Certain, name, what, cure));
            }
        }
    }
    list
}

pub fn memory(seen: &Seen<'_>) -> Vec<Found> {
    let mut list = Vec::new();
    for (host, probe) in seen.probed() {
        let name = &host.host.name;
        let cure = || {
            format!(
                "{} shows who uses how much; give pods limits, or the host more memory",
                seen.on(host.host, "\"ps aux --sort=-rss | head\"")
            )
        };
        if probe.memory_kib > 0 && probe.available_kib * 100 < probe.memory_kib * LITTLE_MEMORY_PERCENT {
            let what = format!("{} of {} MiB of memory are left", probe.available_kib / MIB, probe.memory_kib / MIB);
            list.push(found(Sure::Likely, name, what, cure()));
        }
        if !probe.killed.is_empty() {
            let what = "the kernel killed processes in the last day because the host's memory was used up";
            list.push(found(Sure::Likely, name, what, cure()).signs(probe.killed.clone()));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{cluster, edit, one, well};
    use super::*;

    #[test]
    fn a_disk_that_is_full_or_nearly_so_is_told_once() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        assert!(disks(&seen).is_empty());
        if let Ok(probe) = &mut seen.hosts[1].probe {
            probe.filesystems[0].free_kib = 50 * MIB;
        }
        let told = one(disks(&seen));
        assert_eq!((told.sure, told.on.as_str()), (Sure::Certain, "h2"));
        assert!(told.what.contains("50 MiB"), "{told:?}");
        // the same file system at two places
        for (index, disk) in edit(&mut seen, 1).facts.disks.iter_mut().enumerate() {
            disk.total_bytes = 40 << 30;
            disk.free_bytes = if index < 2 { 1 << 30 } else { 30 << 30 };
        }
        if let Ok(probe) = &mut seen.hosts[1].probe {
            probe.filesystems.clear();
        }
        assert_eq!(one(disks(&seen)).sure, Sure::Likely);
        let mut seen = well(&cluster);
        edit(&mut seen, 0).facts.disks[1].free_inodes = 5;
        assert!(one(disks(&seen)).what.contains("5 inodes"));
        // a file system that counts none
        edit(&mut seen, 0).facts.disks[1].free_inodes = 0;
        assert!(disks(&seen).is_empty());
        // a small tmpfs that is empty
        edit(&mut seen, 0).facts.disks[2].total_bytes = 64 << 20;
        edit(&mut seen, 0).facts.disks[2].free_bytes = 60 << 20;
        assert!(disks(&seen).is_empty());
    }

    #[test]
    fn memory_that_is_used_up_is_told() {
        let cluster = cluster();
        let mut seen = well(&cluster);
        assert!(memory(&seen).is_empty());
        if let Ok(probe) = &mut seen.hosts[0].probe {
            probe.available_kib = 20 * MIB;
        }
        assert!(one(memory(&seen)).what.starts_with("20 of 4096 MiB"));
        let mut seen = well(&cluster);
        if let Ok(probe) = &mut seen.hosts[0].probe {
            probe.killed.push("Out of memory: Killed process 7 (java)".into());
        }
        assert!(one(memory(&seen)).signs[0].contains("java"));
    }
}
