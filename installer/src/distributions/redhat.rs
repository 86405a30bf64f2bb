//! Red Hat Enterprise Linux, its rebuilds and relatives. SELinux is enforcing, firewalld and NetworkManager run, and swap is on
//! in a default installation. Their `/opt` has a rule for executables in SELinux' policy, which is where kinstall's lie.

use super::{Family, Member, Remedies, Standing};

pub const FAMILY: Family = Family {
    members: &[
        // 9: systemd 252, kernel 5.14, glibc 2.34; 10: systemd 257, kernel 6.12, glibc 2.39
        Member {
            ids: &["rhel", "rocky", "almalinux", "centos", "ol"],
            releases: &["9", "10"],
            standing: Standing::Golden,
        },
    ],
    relatives: &["fedora", "amzn"],
    remedies: Remedies {
        kernel: "dnf install kernel-modules kernel-modules-extra, then reboot into that kernel",
        clock: "on every host: dnf install chrony && systemctl enable --now chronyd",
        labels: "dnf install policycoreutils",
    },
};
