//! The difference between what is declared and what the host has.

use std::collections::HashSet;
use std::io;

use hoststate::{Action, Change, HostState, Resource};

use crate::resources::{self, Observation};
use crate::{Root, manifest};

/// One observation for each resource, in order. Units restart when a file they depend on changes.
pub fn observe(root: &Root, state: &HostState) -> io::Result<Vec<Observation>> {
    let mut changing: HashSet<&str> = HashSet::new();
    let owed = manifest::load(root)?.map(|manifest| manifest.restart).unwrap_or_default();
    let mut observations = Vec::with_capacity(state.resources.len());
    for resource in &state.resources {
        let mut observation = resources::observe(root, resource)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", resource.id())))?;
        match resource {
            Resource::File { path, .. } | Resource::Symlink { path, .. } if observation.action != Action::None => {
                changing.insert(path);
            }
            Resource::Unit { name, active: true, restart_on, .. } if observation.action == Action::None => {
                if owed.contains(name) {
                    observation.action = Action::Restart;
                    observation.detail = "its files changed in a run that was interrupted".to_owned();
                } else if let Some(path) = restart_on.iter().find(|path| changing.contains(path.as_str())) {
                    observation.action = Action::Restart;
                    observation.detail = format!("{path} changes");
                }
            }
            Resource::Image { source: hoststate::ImageSource::Executable { path, .. }, .. }
                if observation.action == Action::None && changing.contains(path.as_str()) =>
            {
                observation.action = Action::Update;
                observation.detail = format!("{path} changes");
            }
            _ => {}
        }
        observations.push(observation);
    }
    Ok(observations)
}

/// The lines of `kinstall plan`.
pub fn changes(state: &HostState, observations: &[Observation]) -> Vec<Change> {
    state
        .resources
        .iter()
        .zip(observations)
        .filter(|(_, observation)| observation.action != Action::None)
        .map(|(resource, observation)| Change {
            resource: resource.id(),
            action: observation.action,
            detail: observation.detail.clone(),
        })
        .collect()
}
