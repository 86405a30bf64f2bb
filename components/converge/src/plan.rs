//! The difference between what is declared and what the host has.

use std::collections::HashSet;
use std::io;

use hoststate::wire::ManifestEntry;
use hoststate::{Action, Change, Content, HostState, Resource};

use crate::resources::running::Running;
use crate::resources::{self, Observation};
use crate::{Root, apply, down, files, manifest};

/// Below it lie the versions' directories, and the link to that which runs.
const VERSIONS: &str = "/opt/kinstall/";
const CURRENT: &str = "current";

/// One observation for each resource, in order. Units restart when a file they depend on changes.
pub fn observe(root: &Root, state: &HostState) -> io::Result<Vec<Observation>> {
    let mut changing: HashSet<&str> = HashSet::new();
    let owed = manifest::load(root)?.map(|manifest| manifest.restart).unwrap_or_default();
    let running = Running::of(root, state);
    let mut observations = Vec::with_capacity(state.resources.len());
    for resource in &state.resources {
        let mut observation = resources::observe(root, &running, resource)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", resource.id())))?;
        match resource {
            // who uses it does not notice another mode or owner
            Resource::File { .. } if observation.same_content => {}
            Resource::File { path, content, .. } if differs_from_what_runs(root, path, content, observation.action) => {
                changing.insert(path);
            }
            Resource::Symlink { path, .. } if observation.action != Action::None => {
                changing.insert(path);
            }
            Resource::Unit { name, active: true, restart_on, .. } if observation.action == Action::None => {
                if owed.contains(name) {
                    observation =
                        observation.because(Action::Restart, "its files changed in a run that was interrupted");
                } else if let Some(path) = restart_on.iter().find(|path| changing.contains(path.as_str())) {
                    observation = observation.because(Action::Restart, format!("{path} changes"));
                }
            }
            Resource::Image { source: hoststate::ImageSource::Executable { path, .. }, .. }
                if observation.action == Action::None && changing.contains(path.as_str()) =>
            {
                observation = observation.because(Action::Update, format!("{path} changes"));
            }
            _ => {}
        }
        observations.push(observation);
    }
    Ok(observations)
}

/// Whether who uses this file has to notice. A file of another version than the one that runs is compared with that one's:
/// where they are the same, and the link to the running version moves from one to the other, nothing changes for its user.
pub fn differs_from_what_runs(root: &Root, path: &str, content: &Content, action: Action) -> bool {
    let Some((version, rest)) = path.strip_prefix(VERSIONS).and_then(|path| path.split_once('/')) else {
        return action != Action::None;
    };
    let Content::Blob { sha256, .. } = content else { return action != Action::None };
    let current = root.path(VERSIONS).join(CURRENT);
    match std::fs::read_link(&current) {
        Ok(running) if running.as_os_str() == version => action != Action::None,
        _ => files::sha256(&current.join(rest)).map_or(true, |running| running != *sha256),
    }
}

/// The lines of `kinstall plan`.
pub fn changes(state: &HostState, observations: &[Observation]) -> Vec<Change> {
    listed(state, observations, |observation| observation.action != Action::None)
}

/// What is not as it was made. What would only be worked on because of that is as it was made.
pub fn drift(state: &HostState, observations: &[Observation]) -> Vec<Change> {
    listed(state, observations, |observation| observation.action != Action::None && observation.why.is_empty())
}

fn listed(state: &HostState, observations: &[Observation], which: impl Fn(&Observation) -> bool) -> Vec<Change> {
    state
        .resources
        .iter()
        .zip(observations)
        .filter(|(_, observation)| which(observation))
        .map(|(resource, observation)| Change {
            resource: resource.id(),
            action: observation.action,
            detail: observation.detail(),
            found: observation.found.clone(),
            wanted: observation.wanted.clone(),
            diff: observation.diff.clone(),
        })
        .collect()
}

/// What an earlier state has made and this one does not name: what becomes of it when this one is applied for good, in that order.
pub fn removed(root: &Root, state: &HostState) -> io::Result<Vec<Change>> {
    let before = manifest::load(root)?;
    let change = |entry: &ManifestEntry| {
        let (action, detail) = down::effect(root, entry)?;
        Some(Change::new(entry.resource.clone(), action, detail))
    };
    Ok(apply::stale(state, before.as_ref()).iter().rev().filter_map(change).collect())
}
