//! Back to the state before an upgrade. Everything it needs is on this host: that state, and the files of its version.

use hoststate::wire::Failure;
use hoststate::{Action, Event, HostState, ImageSource, Resource};

use crate::apply::{self, Keep};
use crate::resources::{self, Context, Observation};
use crate::{kept, plan};

const STEP: &str = "roll back";

/// Applies the kept state again and removes what only the newer one has. Running it again finishes an interrupted run.
pub fn rollback(context: Context<'_>) -> Result<Event, Failure> {
    let kept = kept::load(context.root).map_err(|error| resources::io(STEP, &error))?;
    let Some(mut state) = kept else {
        return Err(refused("this host has no state to go back to: none was ever applied to its end"));
    };
    let mut observations = plan::observe(context.root, &state).map_err(|error| resources::io(STEP, &error))?;
    leave_images(&mut state, &mut observations, |sha256| context.blobs.have(sha256));
    if let Some(missing) = apply::missing_blobs(&state, &observations, |sha256| context.blobs.have(sha256)).first() {
        return Err(refused(&format!(
            "the file with digest {missing} of version {} is gone from this host",
            state.version
        )));
    }
    for (resource, observation) in state.resources.iter().zip(&mut observations) {
        // one that is still trying to start the newer version would be waited for
        if matches!(resource, Resource::Unit { .. }) && observation.action == Action::Start {
            observation.action = Action::Restart;
        }
    }
    let changed = apply::apply(context, &state, &observations, Keep::Nothing)?;
    Ok(Event::Done { changed, unchanged: state.resources.len().saturating_sub(changed) })
}

/// Images of archives are not kept as archives: one that the runtime has lost meanwhile comes with the next `up`.
fn leave_images(state: &mut HostState, observations: &mut Vec<Observation>, have: impl Fn(&str) -> bool) {
    let is_lost = |resource: &Resource, observation: &Observation| match resource {
        Resource::Image { source: ImageSource::Archive { sha256, .. }, .. } => {
            observation.action != Action::None && !have(sha256)
        }
        _ => false,
    };
    let (resources, rest) = std::mem::take(&mut state.resources)
        .into_iter()
        .zip(std::mem::take(observations))
        .filter(|(resource, observation)| !is_lost(resource, observation))
        .unzip();
    state.resources = resources;
    *observations = rest;
}

fn refused(message: &str) -> Failure {
    Failure {
        hint: Some("run `kinstall up` with the bundle that the host had".into()),
        ..resources::io(STEP, &std::io::Error::other(message.to_owned()))
    }
}
