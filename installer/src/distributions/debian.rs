//! Debian, Ubuntu and what is made from them. AppArmor is on, and lets everything pass that has no profile. Ubuntu's
//! systemd-resolved answers on the loopback; its ufw is there and off.

use super::{Family, Member, Remedies, Standing};

pub const FAMILY: Family = Family {
    members: &[
        Member { ids: &["debian"], releases: &["12", "13"], standing: Standing::Booted },
        // systemd 249 and kernel 5.15; systemd 255 and kernel 6.8
        Member { ids: &["ubuntu"], releases: &["22.04", "24.04"], standing: Standing::Golden },
    ],
    relatives: &["raspbian", "linuxmint", "pop"],
    remedies: Remedies {
        kernel: "apt-get install linux-image-$(dpkg --print-architecture) (Ubuntu: linux-modules-extra-$(uname -r)), not a kernel for clouds, and reboot",
        clock: "on every host: apt-get install systemd-timesyncd && timedatectl set-ntp true",
        labels: "apt-get install policycoreutils",
    },
};
