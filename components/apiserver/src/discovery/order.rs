//! In which order groups and their versions are listed: by the priorities of their APIServices (kube-aggregator
//! `pkg/apis/apiregistration/v1/helper`, apimachinery `pkg/version/helpers.go`).

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
};

use super::model::{Group, Version};
use crate::{
    aggregation::{self, Priority, registration::CUSTOM},
    bootstrap::services,
    core::Core,
};

/// Of the aggregator's own group, which has no APIService.
const FIRST: i64 = 20000;

/// Priorities by the name of the APIService.
pub struct Order(BTreeMap<String, Priority>);

impl Order {
    pub fn of(core: &Core) -> Self {
        Order(core.aggregation.all().iter().map(|it| (it.name.clone(), it.priority)).collect())
    }

    fn priority(&self, group: &str, version: &str) -> Priority {
        // what was just defined, or whose APIService somebody deleted, has none
        self.0.get(&format!("{version}.{group}")).copied().unwrap_or_else(|| {
            let (group, version) = services::priority(group, version).unwrap_or(CUSTOM);
            Priority { group, version }
        })
    }

    /// A group is as important as the most important one of its versions says.
    fn group(&self, group: &Group) -> i64 {
        match group.name.as_str() {
            aggregation::GROUP => FIRST,
            name => group.versions.iter().map(|it| self.priority(name, &it.name).group).max().unwrap_or_default(),
        }
    }

    pub fn sort(&self, groups: &mut [Group]) {
        groups.sort_by_cached_key(|group| (Reverse(self.group(group)), group.name.clone()));
        for group in groups {
            let name = group.name.as_str();
            let by = |it: &Version| Reverse(self.priority(name, &it.name).version);
            group.versions.sort_by(|a, b| by(a).cmp(&by(b)).then_with(|| versions(&a.name, &b.name)));
        }
    }
}

/// The preferred version first: stable before beta before alpha, higher numbers before lower, other names last by the alphabet.
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
    fn groups_come_by_their_highest_priority_and_versions_by_theirs() {
        let group = |name: &str, versions: &[&str]| Group {
            name: name.into(),
            versions: versions
                .iter()
                .map(|it| Version { name: (*it).into(), entries: Vec::new(), current: true })
                .collect(),
        };
        let priority = |name: &str, group, version| (name.to_owned(), Priority { group, version });
        let order = Order(
            [
                priority("v1.b.example", 1000, 10),
                priority("v2.b.example", 2000, 5),
                priority("v1.policy", 17100, 15),
                priority("v1.z.example", 20000, 1),
            ]
            .into(),
        );
        let mut groups = [
            group("a.example", &["v1"]),
            group("b.example", &["v2", "v1"]),
            group("policy", &["v1"]),
            group("", &["v1"]),
            group("z.example", &["v1"]),
            group("apiregistration.k8s.io", &["v1"]),
        ];
        order.sort(&mut groups);
        let names: Vec<&str> = groups.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["apiregistration.k8s.io", "z.example", "", "policy", "b.example", "a.example"]);
        let b: Vec<&str> = groups[4].versions.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(b, ["v1", "v2"]);
    }
}
