//! In which order groups and their versions are listed: the priorities of upstream's APIServices (kubernetes
//! `pkg/controlplane/apiserver/aggregator.go`, `pkg/controlplane/instance.go`).

use std::cmp::{Ordering, Reverse};

/// (group, priority); the aggregator's own group comes first.
const GROUPS: &[(&str, i32)] = &[
    ("apiregistration.k8s.io", 20000),
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("resource.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("internal.apiserver.k8s.io", 16000),
    ("storagemigration.k8s.io", 15800),
];

/// Of groups that custom resources make.
const CUSTOM: i32 = 1000;

/// What groups are sorted by.
pub fn group_key(group: &str) -> (Reverse<i32>, &str) {
    let priority = GROUPS.iter().find(|(name, _)| *name == group).map_or(CUSTOM, |(_, priority)| *priority);
    (Reverse(priority), group)
}

/// The preferred version first: stable before beta before alpha, higher numbers before lower, other names last by the alphabet
/// (apimachinery `pkg/version/helpers.go`).
pub fn versions(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// `v1beta2` → (stability, major, minor).
fn parse(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let rest = &rest[digits..];
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        (Some(minor), _) => (1, minor),
        (_, Some(minor)) => (0, minor),
        _ => return None,
    };
    Some((stability, major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_the_documentation_sorts_them() {
        let sorted = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        let mut versions_ = sorted;
        versions_.reverse();
        versions_.sort_by(|a, b| versions(a, b));
        assert_eq!(versions_, sorted);
    }

    #[test]
    fn custom_groups_come_last() {
        let mut groups = ["b.example", "policy", "a.example", "apps", "scheduling.k8s.io", ""];
        groups.sort_by_key(|g| group_key(g));
        assert_eq!(groups, ["", "apps", "policy", "scheduling.k8s.io", "a.example", "b.example"]);
    }
}
