//! What was brought to which host, and how those hosts are reached: `applied.json`.
//!
//! A host stays in it until it was taken back, also when the inventory does not name it any more: then this is the only place
//! that knows the way to it. Contents of files, and so secrets, are not in it; of passwords only where they are read from.

use anyhow::Context as _;
use hoststate::resource::ClusterRef;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::StateDir;
use crate::cluster::{Cluster, Host};

const FILE: &str = "applied.json";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Applied {
    /// The bundle's.
    pub version: String,
    /// RFC 3339, UTC.
    pub applied: String,
    pub cluster: ClusterRef,
    pub hosts: Vec<AppliedHost>,
    /// Names of hosts that were here and of which nothing is left.
    pub gone: Vec<String>,
    /// Names of hosts that a `down`, which has not finished yet, was told to leave as they are.
    pub given_up: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AppliedHost {
    pub host: String,
    pub address: String,
    /// Ids of its resources.
    pub resources: Vec<String>,
    /// The host as it was resolved; None in files of older versions.
    pub reach: Option<Host>,
    /// It was taken out of the cluster, but could not be reached to be taken back.
    pub left_behind: bool,
}

impl AppliedHost {
    pub fn new(host: &Host, resources: Vec<String>) -> Self {
        let (name, address) = (host.name.clone(), host.address.clone());
        Self { host: name, address, resources, reach: Some(host.clone()), left_behind: false }
    }

    pub fn has_unit(&self, unit: &str) -> bool {
        self.resources.iter().any(|resource| resource.strip_prefix("unit ") == Some(unit))
    }
}

impl Applied {
    pub fn load(state: &StateDir) -> anyhow::Result<Option<Self>> {
        state.read(FILE)
    }

    /// Of a cluster that must have been installed with this state directory.
    pub fn from_here(state: &StateDir, cluster: &str) -> anyhow::Result<Self> {
        Self::load(state)?
            .with_context(|| format!("the cluster {cluster:?} was not installed from here; run `kinstall up` first"))
    }

    pub fn save(&self, state: &StateDir) -> anyhow::Result<()> {
        state.write(FILE, self).context("cannot remember what was applied")
    }

    /// After an apply to `hosts`: those are as they are now, the others as they were.
    pub fn update(
        state: &StateDir,
        version: &str,
        cluster: &ClusterRef,
        hosts: Vec<AppliedHost>,
    ) -> anyhow::Result<()> {
        let mut applied = Self::load(state)?.unwrap_or_default();
        version.clone_into(&mut applied.version);
        applied.applied = OffsetDateTime::now_utc().format(&Rfc3339)?;
        applied.cluster = cluster.clone();
        applied.hosts.retain(|old| !hosts.iter().any(|new| new.host == old.host));
        for names in [&mut applied.gone, &mut applied.given_up] {
            names.retain(|name| !hosts.iter().any(|new| new.host == *name));
        }
        applied.hosts.extend(hosts);
        applied.save(state)
    }

    /// A host that was taken back.
    pub fn forget(state: &StateDir, name: &str) -> anyhow::Result<()> {
        let Some(mut applied) = Self::load(state)? else { return Ok(()) };
        let known = applied.hosts.len();
        applied.hosts.retain(|host| host.host != name);
        if applied.hosts.len() < known && !applied.is_gone(name) {
            applied.gone.push(name.to_owned());
        }
        applied.save(state)
    }

    /// Whether a host of this name was here and was taken out.
    pub fn is_gone(&self, name: &str) -> bool {
        self.gone.iter().any(|gone| gone == name)
    }

    /// A host that nobody is to wait for when the cluster is taken down.
    pub fn give_up(state: &StateDir, name: &str) -> anyhow::Result<()> {
        let mut applied = Self::load(state)?.unwrap_or_default();
        if !applied.given_up.iter().any(|known| known == name) {
            applied.given_up.push(name.to_owned());
            applied.save(state)?;
        }
        Ok(())
    }

    /// A host that could not be taken back.
    pub fn leave_behind(state: &StateDir, host: &Host) -> anyhow::Result<()> {
        let mut applied = Self::load(state)?.unwrap_or_default();
        let known = applied.hosts.iter().position(|known| known.host == host.name);
        let mut left = known.map_or_else(AppliedHost::default, |index| applied.hosts.remove(index));
        left = AppliedHost { left_behind: true, ..AppliedHost::new(host, left.resources) };
        applied.hosts.push(left);
        applied.save(state)
    }

    pub fn host(&self, name: &str) -> Option<&AppliedHost> {
        self.hosts.iter().find(|host| host.host == name)
    }

    /// Hosts that have something of the cluster's, and that the inventory does not name.
    pub fn beside(&self, cluster: &Cluster) -> Vec<&AppliedHost> {
        self.hosts.iter().filter(|old| !cluster.hosts.iter().any(|host| host.name == old.host)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_stays_known_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "c");
        state.create().unwrap();
        let old =
            serde_json::json!({"version": "1", "hosts": [{"host": "h0", "address": "10.0.0.9", "resources": []}]});
        state.write(FILE, &old).unwrap();
        let text = "cluster: c\nssh: {user: u, passwordEnv: P}\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n- {name: h2, address: 10.0.0.2, role: worker}\n";
        let cluster = Cluster::parse(text, "i", directory.path()).unwrap();
        let hosts = cluster.hosts.iter().map(|host| AppliedHost::new(host, vec!["unit a.service".into()])).collect();
        Applied::update(&state, "2", &ClusterRef::default(), hosts).unwrap();
        let applied = Applied::load(&state).unwrap().unwrap();
        let names: Vec<_> = applied.hosts.iter().map(|host| host.host.as_str()).collect();
        assert_eq!(names, ["h0", "h1", "h2"]);
        assert!(applied.host("h0").unwrap().reach.is_none());
        let h2 = applied.host("h2").unwrap();
        assert!(h2.has_unit("a.service") && !h2.has_unit("a"));
        assert_eq!(format!("{:?}", h2.reach.as_ref().unwrap()), format!("{:?}", cluster.hosts[1]));
        let smaller = Cluster::parse(&text.replace("- {name: h2", "#"), "i", directory.path()).unwrap();
        let beside: Vec<_> = applied.beside(&smaller).into_iter().map(|host| host.host.as_str()).collect();
        assert_eq!(beside, ["h0", "h2"]);
        state.forget_host("h2").unwrap();
        state.forget_host("nobody").unwrap();
        let applied = Applied::load(&state).unwrap().unwrap();
        assert!(applied.host("h2").is_none() && applied.gone == ["h2"], "{:?}", applied.gone);
        // another host of this name
        Applied::update(&state, "2", &ClusterRef::default(), vec![AppliedHost::new(&cluster.hosts[1], Vec::new())])
            .unwrap();
        assert!(!Applied::load(&state).unwrap().unwrap().is_gone("h2"));
        Applied::give_up(&state, "h2").unwrap();
        Applied::give_up(&state, "h2").unwrap();
        assert_eq!(Applied::load(&state).unwrap().unwrap().given_up, ["h2"]);
        Applied::update(&state, "2", &ClusterRef::default(), vec![AppliedHost::new(&cluster.hosts[1], Vec::new())])
            .unwrap();
        assert!(Applied::load(&state).unwrap().unwrap().given_up.is_empty(), "it was worked on again");
    }
}
