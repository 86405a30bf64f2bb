//! Admission webhooks (admissionregistration.k8s.io): mutating ones one after the other, validating ones at once.

mod conditions;
mod hooks;
mod review;
pub mod rules;
mod subject;

use std::collections::BTreeSet;

use machinery::{ApiError, names, patch};
use serde_json::{Value, json};

use super::Attempt;
use crate::handlers::settle;
use hooks::{Hook, Phase};
use review::{Answer, denial};
use subject::Subject;

pub use hooks::Webhooks;

/// What is remembered between the two rounds of a request's mutating webhooks.
#[derive(Default)]
pub struct Rounds {
    /// 1 in the second.
    round: usize,
    /// Asked already, and to be asked again if something changes (`reinvocationPolicy: IfNeeded`).
    asked: BTreeSet<String>,
    /// To be asked in the second round.
    again: BTreeSet<String>,
    changed: bool,
    /// The object as the last webhook left it.
    last: Option<Value>,
}

impl Rounds {
    /// Begins the second round if the first gave a reason for one.
    pub fn advance(&mut self) -> bool {
        let wanted = self.round == 0 && self.changed;
        self.round += usize::from(wanted);
        wanted
    }

    /// Something else changed the object: the first round asks for a second.
    pub fn note_change(&mut self) {
        self.changed = true;
    }

    /// Whether a webhook or a policy changed the object.
    pub fn changed(&self) -> bool {
        self.changed
    }

    fn recall(&mut self) {
        self.again.append(&mut self.asked);
    }
}

/// Asks the mutating webhooks; the object is as the kind's defaults complete it after every change.
pub async fn mutate(attempt: &Attempt<'_>, object: &mut Value, rounds: &mut Rounds) -> Result<(), ApiError> {
    let core = &attempt.call.core;
    let hooks = core.webhooks.current(core, Phase::Mutating).await?;
    if hooks.is_empty() || subject::is_exempt(attempt) {
        return Ok(());
    }
    if rounds.round > 0 && rounds.last.as_ref().is_some_and(|last| last != object) {
        rounds.recall();
    }
    for (index, hook) in hooks.iter().enumerate() {
        if rounds.round > 0 && !rounds.again.contains(&hook.id) {
            continue;
        }
        let Some(subject) = wanted(attempt, hook, object).await? else { continue };
        let place = format!("round_{}_index_{index}", rounds.round);
        let mut shown = subject.shown(object).await?;
        let form = shown.as_mut().unwrap_or(object);
        let Some(answer) = ask(&subject, hook, form, Phase::Mutating, &place).await? else { continue };
        let changed = apply(&subject, hook, &answer, form)?;
        if let Some(shown) = shown.filter(|_| changed) {
            *object = subject.taken_back(&shown).await?;
        }
        note(attempt, hook, &answer, changed, &place);
        if changed {
            rounds.recall();
            rounds.changed = true;
        }
        if hook.reinvoked {
            rounds.asked.insert(hook.id.clone());
        }
        rounds.last = Some(object.clone());
    }
    Ok(())
}

/// Asks all validating webhooks at once; the first refusal, in their order, is the answer.
pub async fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), ApiError> {
    let core = &attempt.call.core;
    let hooks = core.webhooks.current(core, Phase::Validating).await?;
    if hooks.is_empty() || subject::is_exempt(attempt) {
        return Ok(());
    }
    let all = hooks.iter().enumerate().map(|(index, hook)| async move {
        let Some(subject) = wanted(attempt, hook, object).await? else { return Ok(()) };
        let place = format!("round_0_index_{index}");
        let shown = subject.shown(object).await?;
        ask(&subject, hook, shown.as_ref().unwrap_or(object), Phase::Validating, &place).await.map(drop)
    });
    futures::future::join_all(all).await.into_iter().collect()
}

/// The request as the hook wants to see it, if it does.
async fn wanted<'a>(attempt: &'a Attempt<'a>, hook: &Hook, object: &Value) -> Result<Option<Subject<'a>>, ApiError> {
    let Some(subject) = Subject::for_hook(attempt, hook).await? else { return Ok(None) };
    if !subject.selected(hook, object).await? || !conditions::hold(&subject, hook, object).await? {
        return Ok(None);
    }
    if attempt.dry_run && !hook.dry_run {
        return Err(ApiError::bad_request(format!("admission webhook {:?} does not support dry run", hook.name)));
    }
    Ok(Some(subject))
}

/// The hook's consent; `None` when it could not be asked and its policy is to go on without.
async fn ask(
    subject: &Subject<'_>,
    hook: &Hook,
    object: &Value,
    phase: Phase,
    place: &str,
) -> Result<Option<Answer>, ApiError> {
    let notes = &subject.attempt.call.notes;
    let answer = match call(subject, hook, object, phase).await {
        Ok(answer) => answer,
        Err(why) if hook.fails_open => {
            let kind = if phase == Phase::Mutating { "mutating" } else { "validating" };
            tracing::warn!(webhook = hook.name, why, "failed calling webhook, failing open");
            notes.annotate(format!("failed-open.{kind}.webhook.admission.k8s.io/{place}"), hook.name.as_str());
            return Ok(None);
        }
        Err(why) => {
            tracing::warn!(webhook = hook.name, why, "failed calling webhook, failing closed");
            return Err(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name)));
        }
    };
    for warning in &answer.warnings {
        notes.warn(warning);
    }
    for (key, value) in &answer.annotations {
        notes.annotate(format!("{}/{key}", hook.name), value.as_str().unwrap_or_default());
    }
    if answer.allowed { Ok(Some(answer)) } else { Err(denial(&hook.name, &answer.result)) }
}

async fn call(subject: &Subject<'_>, hook: &Hook, object: &Value, phase: Phase) -> Result<Answer, String> {
    let version = hook.version.clone()?;
    let destination = hook.destination.as_ref().map_err(Clone::clone)?;
    let uid = names::uid();
    let question = review::question(subject, object, &uid, version).to_string().into_bytes();
    let callbacks = &subject.attempt.call.core.callbacks;
    let body = callbacks.post(destination, question, hook.timeout).await;
    let body = body.map_err(|why| format!("failed to call webhook: {why}"))?;
    review::answer(&body, &uid, version, phase == Phase::Mutating)
        .map_err(|why| format!("received invalid webhook response: {why}"))
}

/// Applies the answer's patch; whether the object is another now.
fn apply(subject: &Subject<'_>, hook: &Hook, answer: &Answer, object: &mut Value) -> Result<bool, ApiError> {
    let Some(operations) = answer.patch.as_ref().filter(|p| p.as_array().is_none_or(|list| !list.is_empty())) else {
        return Ok(false);
    };
    if !subject.attempt.is_changeable() {
        return Err(ApiError::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    let before = object.clone();
    patch::json_patch(object, operations).map_err(ApiError::internal)?;
    if subject.attempt.kind.is_none() {
        settle(subject.resource(), object)?;
    }
    Ok(*object != before)
}

fn note(attempt: &Attempt<'_>, hook: &Hook, answer: &Answer, changed: bool, place: &str) {
    let what = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
    let notes = &attempt.call.notes;
    notes.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), what.to_string());
    if let Some(patch) = answer.patch.as_ref().filter(|_| changed) {
        let what = json!({"configuration": hook.configuration, "webhook": hook.name, "patch": patch, "patchType": "JSONPatch"});
        notes.annotate(format!("patch.webhook.admission.k8s.io/{place}"), what.to_string());
    }
}
