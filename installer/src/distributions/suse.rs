//! openSUSE and SUSE Linux Enterprise. firewalld runs in a default installation; Leap 15 has the hybrid cgroup hierarchy and
//! AppArmor, Leap 16 has the unified one and SELinux.

use super::{Family, Member, Remedies, Standing};

pub const FAMILY: Family = Family {
    members: &[
        // systemd 254, kernel 6.4, glibc 2.38; service packs before the sixth have a glibc that is older than the bundle's
        Member { ids: &["opensuse-leap"], releases: &["15.6"], standing: Standing::Golden },
        Member { ids: &["sles"], releases: &["15.6", "15.7"], standing: Standing::Golden },
    ],
    relatives: &["suse", "opensuse", "opensuse-tumbleweed"],
    remedies: Remedies {
        kernel: "zypper install kernel-default (in the place of kernel-default-base), then reboot into it",
        clock: "on every host: zypper install chrony && systemctl enable --now chronyd",
        labels: "zypper install policycoreutils",
    },
};
