//! What is known of distributions: one module for each family, all of it data.
//!
//! A host is judged by what it has (init, kernel, C library, file systems: see [`crate::preflight`]), not by its name. The name
//! says how far a distribution was tried, and how its people bring what is missing. Only systems that cannot keep what kinstall
//! makes are refused by their name. Nothing is ever installed or changed in the distribution's own files: what a host's state
//! has besides, because of what runs there, stands in `crate::desired`.

mod alpine;
mod debian;
mod images;
mod redhat;
mod suse;

use hoststate::Facts;

pub struct Family {
    pub members: &'static [Member],
    /// Further ids by which os-release says that something is made from one of these.
    pub relatives: &'static [&'static str],
    pub remedies: Remedies,
}

/// Some releases of one distribution, or of several that are built from the same sources.
pub struct Member {
    /// `ID` of os-release.
    pub ids: &'static [&'static str],
    /// What `VERSION_ID` begins with, up to a point; none: every one.
    pub releases: &'static [&'static str],
    pub standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The project's own tests boot it.
    Booted,
    /// What kinstall finds and makes there is compared with golden files; no test boots it.
    Golden,
    Refused {
        why: &'static str,
        instead: &'static str,
    },
}

/// What an operator of this family does about something that is missing.
pub struct Remedies {
    /// A kernel with all of its modules.
    pub kernel: &'static str,
    pub clock: &'static str,
    /// The program that labels files for SELinux.
    pub labels: &'static str,
}

const FAMILIES: [&Family; 5] = [&images::FAMILY, &debian::FAMILY, &redhat::FAMILY, &suse::FAMILY, &alpine::FAMILY];

const ANY: Remedies = Remedies {
    kernel: "install the distribution's full kernel and reboot into it",
    clock: "set the clocks, best by an NTP client on every host",
    labels: "install the package that brings restorecon (policycoreutils)",
};

/// How far this host's release was tried; None for one that nobody here has seen.
pub fn standing(facts: &Facts) -> Option<Standing> {
    if facts.image_based {
        return Some(images::OSTREE);
    }
    let is_it = |member: &&Member| {
        member.ids.contains(&facts.os_id.as_str())
            && (member.releases.is_empty() || member.releases.iter().any(|release| is_of(&facts.os_version, release)))
    };
    FAMILIES.iter().flat_map(|family| family.members).find(is_it).map(|member| member.standing)
}

/// `9.4` is of release `9`, `90` is not.
fn is_of(version: &str, release: &str) -> bool {
    version.strip_prefix(release).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// By the distribution's own id, else by those that it is made from.
pub fn remedies(facts: &Facts) -> &'static Remedies {
    let ids = std::iter::once(&facts.os_id).chain(&facts.os_like);
    let has = |family: &Family, id: &str| {
        family.relatives.contains(&id) || family.members.iter().any(|member| member.ids.contains(&id))
    };
    ids.into_iter()
        .find_map(|id| FAMILIES.into_iter().find(|family| has(family, id)))
        .map_or(&ANY, |family| &family.remedies)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(id: &str, version: &str, like: &str) -> Facts {
        Facts {
            os_id: id.into(),
            os_version: version.into(),
            os_like: like.split_whitespace().map(str::to_owned).collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn releases_are_told_apart_and_derivatives_get_their_familys_remedies() {
        let standing_of = |id, version| standing(&facts(id, version, ""));
        assert_eq!(standing_of("debian", "12"), Some(Standing::Booted));
        assert_eq!(standing_of("debian", "11"), None);
        assert_eq!(standing_of("rocky", "9.4"), Some(Standing::Golden));
        assert_eq!(standing_of("rocky", "90"), None);
        assert_eq!(standing_of("ubuntu", "24.04"), Some(Standing::Golden));
        assert!(matches!(standing_of("alpine", "3.20.3"), Some(Standing::Refused { .. })));
        assert_eq!(standing_of("plan9", "4"), None);
        let coreos = Facts { image_based: true, ..facts("fedora", "42", "") };
        assert!(matches!(standing(&coreos), Some(Standing::Refused { .. })));

        let kernel = |id, like| remedies(&facts(id, "1", like)).kernel;
        assert_eq!(kernel("linuxmint", "ubuntu debian"), kernel("ubuntu", ""));
        assert_eq!(kernel("amzn", "fedora"), kernel("rhel", ""));
        assert_eq!(kernel("plan9", ""), ANY.kernel);
    }

    #[test]
    fn every_id_is_in_one_family_and_says_something_of_itself() {
        let mut seen = std::collections::BTreeSet::new();
        for family in FAMILIES {
            let ids = family.members.iter().flat_map(|member| member.ids).chain(family.relatives);
            let own: std::collections::BTreeSet<_> = ids.copied().collect();
            for id in own {
                assert!(seen.insert(id), "{id} is in two families");
            }
            let Remedies { kernel, clock, labels } = &family.remedies;
            assert!([kernel, clock, labels].iter().all(|text| !text.is_empty()));
            for member in family.members {
                if let Standing::Refused { why, instead } = member.standing {
                    assert!(!why.is_empty() && !instead.is_empty());
                }
            }
        }
    }
}
