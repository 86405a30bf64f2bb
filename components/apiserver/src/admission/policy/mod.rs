//! Admission policies: ValidatingAdmissionPolicy and MutatingAdmissionPolicy with their bindings.

mod current;
mod matching;
mod mutating;
mod params;
mod validating;

use std::sync::Arc;

use machinery::ApiError;
use serde_json::Value;

pub use current::Policies;
pub use mutating::{Rounds, mutate};
pub use validating::validate;

use self::{
    current::{Binding, Definition, GROUP, Phase},
    params::Wrong,
};
use super::Attempt;

/// A policy that is to act on a request, with one of its bindings and one of the binding's parameters.
struct Invocation {
    definition: Arc<Definition>,
    binding: Arc<Binding>,
    param: Option<Value>,
}

impl Invocation {
    fn id(&self) -> String {
        let param = self.param.as_ref().map(|p| format!("{}/{}", p["metadata"]["namespace"], p["metadata"]["name"]));
        format!("{}/{}/{}", self.definition.name, self.binding.name, param.unwrap_or_default())
    }
}

/// A policy that should act and cannot.
struct Broken {
    policy: String,
    binding: Option<String>,
    message: String,
}

/// What is to act on a request, in order, and what is broken and must not be passed over.
async fn invocations(
    attempt: &Attempt<'_>,
    object: &Value,
    phase: Phase,
) -> Result<(Vec<Invocation>, Vec<Broken>), ApiError> {
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    let core = &attempt.call.core;
    let hooks = core.policies.current(core, phase).await?;
    if hooks.is_empty() || is_exempt(attempt) {
        return Ok((found, broken));
    }
    for hook in hooks.iter() {
        let definition = &hook.definition;
        if !definition.matching.matches(attempt, object).await? {
            continue;
        }
        for binding in &hook.bindings {
            let matches = match &binding.matching {
                Some(matching) => matching.matches(attempt, object).await?,
                None => true,
            };
            if !matches {
                continue;
            }
            match params::collect(attempt, definition, binding).await {
                Ok(params) => found.extend(params.into_iter().map(|param| Invocation {
                    definition: definition.clone(),
                    binding: binding.clone(),
                    param,
                })),
                Err(_) if definition.fails_open => {}
                Err(Wrong::Policy(why)) => {
                    let message = format!("failed to configure policy: {why}");
                    broken.push(Broken { policy: definition.name.clone(), binding: None, message });
                    break;
                }
                Err(Wrong::Binding(why)) => {
                    let message = format!("failed to configure binding: {why}");
                    broken.push(Broken {
                        policy: definition.name.clone(),
                        binding: Some(binding.name.clone()),
                        message,
                    });
                }
            }
        }
    }
    Ok((found, broken))
}

/// Policies can neither protect nor lock themselves.
fn is_exempt(attempt: &Attempt<'_>) -> bool {
    const EXEMPT: &[&str] = &[
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ];
    let resource = &*attempt.target.resource;
    resource.group == GROUP && EXEMPT.contains(&resource.plural)
}
