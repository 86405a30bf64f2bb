//! Alpine: OpenRC instead of systemd, musl instead of glibc.

use super::{Family, Member, Remedies, Standing};

pub const FAMILY: Family = Family {
    members: &[Member {
        ids: &["alpine", "postmarketos"],
        releases: &[],
        standing: Standing::Refused {
            why: "it starts services by OpenRC and has the C library musl: kinstall's components are systemd units, pods' cgroups are made by \
                  systemd, and a bundle's container runtime is built for glibc",
            instead: "take a distribution with systemd and glibc: Debian, Ubuntu, one of Red Hat's family, openSUSE",
        },
    }],
    relatives: &[],
    remedies: Remedies {
        kernel: "apk add linux-lts, then reboot into it",
        clock: "on every host: apk add chrony && rc-update add chronyd && rc-service chronyd start",
        labels: "apk add policycoreutils",
    },
};
