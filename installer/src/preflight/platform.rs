//! What a host is: its system and kernel, its file systems, and what guards it.

use super::{Problem, Subject, error, note, unless, warning};
use crate::distributions::{self, Standing};

pub fn operating_system(s: Subject<'_>) -> Vec<Problem> {
    let f = s.facts;
    let kernel = major_minor(&f.kernel);
    let mut problems = unless(kernel >= (5, 10), || {
        error(
            format!("the kernel {} is too old", f.kernel),
            "upgrade to a kernel of 5.10 or later; distributions have one since Debian 11, Ubuntu 22.04, Red Hat's 9, openSUSE Leap 15.4",
        )
    });
    let name = if f.os_pretty_name.is_empty() { "this system" } else { &f.os_pretty_name };
    problems.extend(match distributions::standing(f) {
        Some(Standing::Booted) => None,
        Some(Standing::Golden) if f.manifest.is_some() => None,
        Some(Standing::Golden) => Some(note(
            format!("{name} is known, but no test of kinstall boots it"),
            "nothing; `kinstall validate` proves that the cluster works here, too",
        )),
        Some(Standing::Refused { why, instead }) => {
            Some(error(format!("{name} cannot be a host of kinstall: {why}"), instead))
        }
        None => Some(warning(
            format!("{name} is not one that kinstall knows"),
            "nothing, if the other checks are content; README.md has the table of those that were tried",
        )),
    });
    problems
}

pub fn major_minor(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// kinstall's own programs are static. The runtime's are whatever the bundle was made from: `make bundle` takes Debian 12's.
pub fn c_library(s: Subject<'_>) -> Vec<Problem> {
    const OF_DEBIANS_RUNTIME: (u32, u32) = (2, 34);
    let Some(glibc) = &s.facts.glibc else { return Vec::new() };
    unless(major_minor(glibc) >= OF_DEBIANS_RUNTIME, || {
        warning(
            format!("its glibc {glibc} is older than 2.34, which containerd, runc and etcd of Debian's packages need"),
            "use a bundle made from a static release of the runtime (`kinstall bundle create --runtime-dir`), or a newer distribution",
        )
    })
}

/// Where kinstall writes, and where its programs lie.
pub fn file_systems(s: Subject<'_>) -> Vec<Problem> {
    const WRITTEN: [&str; 3] = ["/etc", "/opt", "/var/lib"];
    const EXECUTED: &str = "/opt";
    let written = s.facts.disks.iter().filter(|disk| WRITTEN.contains(&disk.path.as_str()));
    let mut problems: Vec<_> = written
        .filter(|disk| disk.read_only)
        .map(|disk| {
            error(
                format!("{} is read-only; kinstall keeps its units, programs or data there", disk.path),
                "mount it writable (and in /etc/fstab, for the next boot), or take another host",
            )
        })
        .collect();
    problems.extend(s.facts.disks.iter().filter(|disk| disk.path == EXECUTED && disk.no_exec).map(|disk| {
        error(
            format!("{} is mounted noexec; kinstall's programs lie there", disk.path),
            format!("mount -o remount,exec {}, and take noexec out of its line in /etc/fstab", disk.path),
        )
    }));
    problems
}

/// What has no policy of its own runs unconfined under `targeted`: kinstall's units do, if their programs have the labels of programs.
pub fn selinux(s: Subject<'_>) -> Vec<Problem> {
    const KNOWN: &str = "targeted";
    let selinux = &s.facts.selinux;
    if !s.facts.selinux_enforcing {
        return Vec::new();
    }
    if selinux.policy != KNOWN {
        let policy = if selinux.policy.is_empty() { "an unknown policy" } else { &selinux.policy };
        return vec![error(
            format!("SELinux enforces {policy}, under which services without rules of their own may do nothing"),
            "SELINUXTYPE=targeted in /etc/selinux/config, touch /.autorelabel and reboot; or take another host",
        )];
    }
    if !selinux.can_label {
        return vec![error(
            "SELinux is enforcing, and restorecon is missing: systemd may not start programs without their labels",
            distributions::remedies(s.facts).labels,
        )];
    }
    unless(s.facts.manifest.is_some(), || {
        note(
            "SELinux is enforcing; kinstall's files get the labels that its policy has for them, and its services run unconfined",
            "nothing; but SELinux does not confine what runs in pods either, unlike seccomp and capabilities",
        )
    })
}
