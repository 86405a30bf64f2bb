//! What is known to go wrong, as a table. Each check is a pure function of what was seen, and finds nothing where all is well.

mod api;
mod certificates;
#[cfg(test)]
mod fixtures;
mod hosts;
mod network;
mod nodes;
mod pods;
mod resources;
mod services;
mod store;
mod units;
mod volumes;

use serde::Serialize;

use super::seen::Seen;

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sure {
    Certain,
    Likely,
    Possible,
}

impl Sure {
    pub fn word(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

/// What is wrong with one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub sure: Sure,
    /// A host, or an object of the API.
    pub on: String,
    pub what: String,
    /// What shows it: lines of logs, messages.
    pub signs: Vec<String>,
    /// What mends it: a command to paste, where one does.
    pub cure: String,
}

pub fn found(sure: Sure, on: impl Into<String>, what: impl Into<String>, cure: impl Into<String>) -> Found {
    Found { sure, on: on.into(), what: what.into(), signs: Vec::new(), cure: cure.into() }
}

impl Found {
    pub fn signs(mut self, signs: impl IntoIterator<Item = String>) -> Self {
        self.signs.extend(signs.into_iter().filter(|sign| !sign.trim().is_empty()));
        self
    }
}

pub struct Check {
    pub name: &'static str,
    /// For people who ask what is looked at.
    pub looks_at: &'static str,
    pub judge: fn(&Seen<'_>) -> Vec<Found>,
}

const fn check(name: &'static str, looks_at: &'static str, judge: fn(&Seen<'_>) -> Vec<Found>) -> Check {
    Check { name, looks_at, judge }
}

/// In the order in which findings are told: what is the cause of others comes first.
pub const CHECKS: &[Check] = &[
    check("way", "whether SSH reaches every host and commands become root there", hosts::way),
    check("installed", "whether the last `up` or `upgrade` came to its end on every host", hosts::installed),
    check("units", "whether every unit runs, and does not end again and again", units::units),
    check("disk", "free space and inodes", resources::disks),
    check("memory", "free memory, and processes that the kernel killed for want of it", resources::memory),
    check("host", "what preflight checks: clocks, ports, swap, resolvers, other software, firewalls", hosts::preflight),
    check("certificates", "when certificates end, and whether hosts renew them", certificates::certificates),
    check("etcd", "members, majority, space", store::etcd),
    check("network", "whether hosts, pods and Services reach each other", network::reaches),
    check("changed by hand", "files, units, kernel parameters and images as `up` left them", hosts::drift),
    check("API", "whether the API server answers, and what it needs to answer for", api::api),
    check("nodes", "whether every host is a node, Ready and without pressure", nodes::nodes),
    check("pods", "pods that cannot be scheduled, start, stay or end", pods::pods),
    check("addons", "whether cluster DNS, ingress and provisioner are available", pods::addons),
    check("volumes", "claims that get no volume", volumes::claims),
    check("services", "Services without endpoints", services::services),
    check("ingresses", "Ingresses whose Service, port, class or certificate is missing", services::ingresses),
];

/// Everything that is wrong.
pub fn judge(seen: &Seen<'_>) -> Vec<(&'static str, Found)> {
    CHECKS.iter().flat_map(|check| (check.judge)(seen).into_iter().map(|found| (check.name, found))).collect()
}
