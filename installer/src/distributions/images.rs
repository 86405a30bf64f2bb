//! Systems that are one image: `/usr` is read-only, and an update or a roll-back replaces all of it.
//!
//! What kinstall makes lies in `/opt`, `/etc` and `/var`. These systems treat the three in different ways when they update (MicroOS
//! takes `/etc` back with a snapshot and leaves `/var`, so keys and certificates would be older than the store they belong to), and
//! none of that was ever tried.

use super::{Family, Member, Standing};

pub const OSTREE: Standing = Standing::Refused {
    why: "its system is one image, which updates and roll-backs replace: kinstall's units and keys in /etc, its programs in /opt and its data \
          in /var would not stay of one age",
    instead: "take a distribution that is installed from packages",
};

pub const FAMILY: Family = Family {
    members: &[
        Member {
            ids: &["opensuse-microos", "opensuse-leap-micro", "opensuse-aeon", "sle-micro", "sl-micro"],
            releases: &[],
            standing: Standing::Refused {
                why: "its /usr is read-only and belongs to a snapshot together with /etc: a roll-back would take kinstall's units and keys back, \
                      and leave its data in /var",
                instead: "take openSUSE Leap or SUSE Linux Enterprise Server, or another host",
            },
        },
        Member { ids: &["flatcar", "bottlerocket", "talos", "coreos"], releases: &[], standing: OSTREE },
        Member {
            ids: &["nixos"],
            releases: &[],
            standing: Standing::Refused {
                why: "its units and its /etc are made from its own configuration, and are read-only",
                instead: "take a distribution whose /etc/systemd/system can be written to",
            },
        },
    ],
    relatives: &[],
    remedies: super::ANY,
};
