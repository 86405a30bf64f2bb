//! `matchConditions`: CEL expressions that spare a webhook the requests it does not want.

use machinery::ApiError;
use serde_json::Value;

use super::{hooks::Hook, subject::Subject};
use crate::admission::expressions::{self, Live, Scene};

/// Whether the hook wants this request. What cannot be decided is refused, or passes the hook by, as its failure policy says.
pub async fn hold(subject: &Subject<'_>, hook: &Hook, object: &Value) -> Result<bool, ApiError> {
    let attempt = subject.attempt;
    let decided = match &hook.conditions {
        Ok(conditions) if conditions.is_empty() => return Ok(true),
        Ok(conditions) => {
            let scene = Scene::of(attempt).await?;
            let live = Live::of(attempt, expressions::asks(conditions.iter().map(|(_, program)| program))).await;
            let (new, old) = expressions::objects(attempt, object);
            expressions::hold(conditions, &scene.input(new, old, None, &live, None))
        }
        Err(why) => Err(why.clone()),
    };
    decided.or_else(|why| if hook.fails_open { Ok(false) } else { Err(attempt.target.forbidden(&why)) })
}
