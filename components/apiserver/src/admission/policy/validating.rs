//! ValidatingAdmissionPolicies on one request (apiserver `pkg/admission/plugin/policy/validating`).

use cel::{Budget, Val, Variables, cost::BUDGET};
use machinery::{
    ApiError,
    expressions::{Policy, Validation},
};
use serde_json::{Value, json};

use super::{
    current::{Binding, Definition, Phase},
    invocations,
};
use crate::admission::{
    Attempt,
    expressions::{self, Failure, Live, Scene, evaluate},
};

const MAX_MESSAGE: usize = 5 * 1024;
const MAX_ANNOTATION: usize = 10 * 1024;

/// A refusal.
struct Denial {
    message: String,
    /// Empty means `Invalid`.
    reason: String,
    /// Which validation refused.
    index: usize,
}

impl Denial {
    fn new(message: impl Into<String>) -> Self {
        Denial { message: message.into(), reason: String::new(), index: 0 }
    }
}

/// What one evaluation of a policy came to.
#[derive(Default)]
struct Verdict {
    denials: Vec<Denial>,
    annotations: Vec<(String, String)>,
    /// Annotations that could not be computed refuse whatever the binding's actions are.
    broken: Vec<Denial>,
}

/// Lets every policy judge; the first refusal is the answer.
pub async fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), ApiError> {
    let (found, wrong) = invocations(attempt, object, Phase::Validating).await?;
    let mut first = None;
    for wrong in wrong {
        first.get_or_insert_with(|| {
            refusal(attempt, &wrong.policy, wrong.binding.as_deref(), &Denial::new(wrong.message))
        });
    }
    if !found.is_empty() {
        let scene = Scene::of(attempt).await?;
        let live = Live::of(attempt, found.iter().any(|i| i.definition.asks)).await;
        for invocation in &found {
            let (definition, binding) = (&*invocation.definition, &*invocation.binding);
            let verdict = judge(attempt, object, definition, invocation.param.as_ref(), &scene, &live);
            for denial in &verdict.denials {
                if let Some(error) = act(attempt, definition, binding, denial) {
                    first.get_or_insert(error);
                }
            }
            for denial in &verdict.broken {
                first.get_or_insert_with(|| refusal(attempt, &definition.name, Some(&binding.name), denial));
            }
            for (key, value) in verdict.annotations {
                attempt.call.notes.annotate(format!("{}/{key}", definition.name), value);
            }
        }
    }
    first.map_or(Ok(()), Err)
}

fn judge(
    attempt: &Attempt<'_>,
    object: &Value,
    definition: &Definition,
    param: Option<&Value>,
    scene: &Scene,
    live: &Live<'_>,
) -> Verdict {
    let failed = |message: String| {
        let denials = if definition.fails_open { Vec::new() } else { vec![Denial::new(message)] };
        Verdict { denials, ..Verdict::default() }
    };
    let policy = match &definition.compiled {
        Ok(policy) => policy,
        Err(why) => return failed(format!("compilation error: {why}")),
    };
    let (object, old) = expressions::objects(attempt, object);
    let variables = Variables::new(&policy.variables);
    let input = scene.input(object, old, param, live, Some(&variables));
    match expressions::hold(&policy.conditions, &input) {
        Ok(true) => {}
        Ok(false) => return Verdict::default(),
        Err(why) => return failed(why),
    }
    let mut budget = Budget(BUDGET);
    let mut verdict = Verdict::default();
    for (index, validation) in policy.validations.iter().enumerate() {
        match evaluate(&validation.program, &input, &mut budget) {
            Ok(Val::Bool(true)) => {}
            Ok(_) => {
                let message = message(validation, &input, &mut budget);
                verdict.denials.push(Denial { message, reason: validation.reason.clone(), index });
            }
            Err(failure @ Failure::Budget) => return failed(failure.text()),
            Err(failure) if definition.fails_open => drop(failure),
            Err(failure) => verdict.denials.push(Denial { index, ..Denial::new(failure.text()) }),
        }
    }
    annotate(policy, definition, &input, &mut verdict);
    verdict
}

/// What a refusal says: the message expression's text, the message, or the expression that was false.
fn message(validation: &Validation, input: &cel::Input<'_>, budget: &mut Budget) -> String {
    let computed = validation.message_program.as_ref().and_then(|program| match evaluate(program, input, budget) {
        Ok(Val::Str(text)) => {
            let text = text.trim();
            let fits = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
            fits.then(|| text.to_owned())
        }
        _ => None,
    });
    computed.unwrap_or_else(|| match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.program.source.trim()),
        message => message.to_owned(),
    })
}

fn annotate(policy: &Policy, definition: &Definition, input: &cel::Input<'_>, verdict: &mut Verdict) {
    let mut budget = Budget(BUDGET);
    for audit in &policy.audit {
        match evaluate(&audit.program, input, &mut budget) {
            Ok(Val::Str(text)) => {
                let text = text.trim();
                let end =
                    text.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= MAX_ANNOTATION).last();
                if let Some(end) = end {
                    verdict.annotations.push((audit.key.clone(), text[..end].to_owned()));
                }
            }
            Ok(_) => {}
            Err(_) if definition.fails_open => {}
            Err(failure) => verdict.broken.push(Denial::new(failure.text())),
        }
    }
}

/// Does what the binding wants done about a refusal; the error, if it is to refuse.
fn act(attempt: &Attempt<'_>, definition: &Definition, binding: &Binding, denial: &Denial) -> Option<ApiError> {
    let notes = &attempt.call.notes;
    let mut error = None;
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => error = Some(refusal(attempt, &definition.name, Some(&binding.name), denial)),
            "Warn" => notes.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                definition.name, binding.name, denial.message
            )),
            _ => {
                let failure = json!([{
                    "message": denial.message, "policy": definition.name, "binding": binding.name,
                    "expressionIndex": denial.index, "validationActions": binding.actions,
                }]);
                notes.annotate("validation.policy.admission.k8s.io/validation_failure", failure.to_string());
            }
        }
    }
    error
}

fn refusal(attempt: &Attempt<'_>, policy: &str, binding: Option<&str>, denial: &Denial) -> ApiError {
    let with = binding.map(|name| format!(" with binding '{name}'")).unwrap_or_default();
    let message = format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {}", denial.message);
    let mut error = attempt.target.forbidden(&message).with_cause("", message, "");
    (error.code, error.reason) = match denial.reason.as_str() {
        "Forbidden" => (403, "Forbidden".into()),
        "Unauthorized" => (401, "Unauthorized".into()),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge".into()),
        _ => (422, "Invalid".into()),
    };
    error
}
