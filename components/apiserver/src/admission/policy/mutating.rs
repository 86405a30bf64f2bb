//! MutatingAdmissionPolicies on one request (apiserver `pkg/admission/plugin/policy/mutating`).

use std::collections::BTreeSet;

use cel::{Budget, Input, Key, List, Map, Program, Val, Variables, cost::BUDGET, to_json};
use machinery::{ApiError, apply, expressions::Mutation, patch};
use serde_json::{Map as Object, Value, json};

use super::{Invocation, current::Phase, invocations};
use crate::{
    admission::{
        Attempt,
        expressions::{self, Live, Scene, evaluate},
    },
    handlers,
};

/// What the rounds of a request know of its mutating policies.
#[derive(Default)]
pub struct Rounds {
    /// Not the first round.
    again: bool,
    /// Invoked, and to be invoked again if something changes later.
    invoked: BTreeSet<String>,
    due: BTreeSet<String>,
    last: Option<Value>,
}

impl Rounds {
    fn recall(&mut self) {
        self.due.append(&mut self.invoked);
    }
}

/// Applies the mutations of every policy; whether the object is another now.
pub async fn mutate(attempt: &Attempt<'_>, object: &mut Value, rounds: &mut Rounds) -> Result<bool, ApiError> {
    if !attempt.is_changeable() {
        return Ok(false);
    }
    let (found, wrong) = invocations(attempt, object, Phase::Mutating).await?;
    if rounds.again && rounds.last.as_ref().is_some_and(|last| last != object) {
        rounds.recall();
    }
    let mut errors: Vec<String> = wrong
        .into_iter()
        .map(|wrong| match wrong.binding {
            Some(binding) => refusal(&wrong.policy, &binding, &wrong.message),
            None => format!("policy {:?} denied request: {}", wrong.policy, wrong.message),
        })
        .collect();
    if found.is_empty() && errors.is_empty() {
        // as nearly always: nobody will ask what the object was like
        rounds.again = true;
        return Ok(false);
    }
    let before = object.clone();
    let scene = Scene::of(attempt).await?;
    let live = Live::of(attempt, found.iter().any(|i| i.definition.asks)).await;
    for invocation in &found {
        errors.extend(invoke(attempt, object, invocation, &scene, &live, rounds)?);
    }
    if let Some(message) = errors.first() {
        let mut error = attempt.target.forbidden(message);
        error.message.clone_from(message);
        error.reason = "Invalid".into();
        return Err(errors.iter().fold(error, |error, message| error.with_cause("", message, "")));
    }
    rounds.again = true;
    rounds.last = Some(object.clone());
    Ok(*object != before)
}

fn refusal(policy: &str, binding: &str, why: &str) -> String {
    format!("policy '{policy}' with binding '{binding}' denied request: {why}")
}

/// One policy, binding and parameter; the refusals of its mutations.
fn invoke(
    attempt: &Attempt<'_>,
    object: &mut Value,
    invocation: &Invocation,
    scene: &Scene,
    live: &Live<'_>,
    rounds: &mut Rounds,
) -> Result<Vec<String>, ApiError> {
    let definition = &invocation.definition;
    let mut errors = Vec::new();
    let mut fail = |why: String| {
        if !definition.fails_open {
            errors.push(refusal(&definition.name, &invocation.binding.name, &why));
        }
    };
    let policy = match &definition.compiled {
        Ok(policy) => policy,
        Err(why) => {
            fail(format!("compilation error: {why}"));
            return Ok(errors);
        }
    };
    let param = invocation.param.as_ref();
    {
        let (new, old) = expressions::objects(attempt, object);
        match expressions::hold(&policy.conditions, &scene.input(new, old, param, live, None)) {
            Ok(true) => {}
            Ok(false) => return Ok(errors),
            Err(why) => {
                fail(why);
                return Ok(errors);
            }
        }
    }
    let id = invocation.id();
    if rounds.again && !rounds.due.contains(&id) {
        return Ok(errors);
    }
    let before = object.clone();
    for mutation in &policy.mutations {
        let changed = {
            let (new, old) = expressions::objects(attempt, object);
            let variables = Variables::new(&policy.variables);
            let input = scene.input(new, old, param, live, Some(&variables));
            change(attempt, object, mutation, &input)
        };
        match changed {
            Ok(mut changed) => {
                handlers::settle(&attempt.target.resource, &mut changed)?;
                *object = changed;
            }
            Err(why) => fail(why),
        }
    }
    if *object != before {
        rounds.recall();
    }
    if definition.reinvoked {
        rounds.invoked.insert(id);
    }
    Ok(errors)
}

/// The object with one mutation.
fn change(attempt: &Attempt<'_>, object: &Value, mutation: &Mutation, input: &Input<'_>) -> Result<Value, String> {
    let run = |program: &Program| {
        let value = evaluate(program, input, &mut Budget(BUDGET)).map_err(|failure| failure.text())?;
        check_names(&value, None).map_err(|why| format!("type mismatch: {why}"))?;
        Ok::<_, String>(value)
    };
    match mutation {
        Mutation::Apply(program) => {
            let value = run(program)?;
            let mut config = to_json(&value).ok_or("the apply configuration cannot be written as JSON")?;
            for key in ["apiVersion", "kind"] {
                config[key] = object[key].clone();
            }
            let shape = handlers::shape(&attempt.target.resource);
            apply::merge_configuration(object, &config, &shape).map_err(|why| format!("error applying patch: {why}"))
        }
        Mutation::Patch(program) => {
            let operations = operations(&run(program)?)?;
            let mut changed = object.clone();
            match patch::json_patch(&mut changed, &operations) {
                Ok(()) => Ok(changed),
                // a test that fails is no failure: the patch is not meant for this object
                Err(_) if has_failing_test(object, &operations) => Ok(object.clone()),
                Err(error) => Err(format!("JSONPath: {error}")),
            }
        }
    }
}

/// Whether the patch fails because of one of its tests.
fn has_failing_test(object: &Value, operations: &Value) -> bool {
    let mut so_far = object.clone();
    for operation in operations.as_array().into_iter().flatten() {
        if patch::json_patch(&mut so_far, &json!([operation])).is_err() {
            return operation["op"] == "test";
        }
    }
    false
}

/// JSON Patch operations from a list of `JSONPatch{…}`.
fn operations(list: &Val<'_>) -> Result<Value, String> {
    let Val::List(list) = list else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".into());
    };
    let mut operations = Vec::new();
    for item in List::iter(list) {
        let Val::Map(operation) = item else {
            return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".into());
        };
        let mut object = Object::new();
        for field in ["op", "path", "from", "value"] {
            let Some(value) = operation.field(field) else { continue };
            let value =
                to_json(&value).ok_or("JSONPath valueExpression evaluated to a type that could not marshal to JSON")?;
            if !(field == "from" && value == "") {
                object.insert(field.into(), value);
            }
        }
        operations.push(Value::Object(object));
    }
    Ok(Value::Array(operations))
}

/// `Object.spec{…}` may stand only in the field `spec` of an `Object{…}`.
fn check_names(value: &Val<'_>, expected: Option<&str>) -> Result<(), String> {
    match value {
        Val::Map(map @ Map::Made(_, name)) => {
            let named = name.as_deref().filter(|name| *name == "Object" || name.starts_with("Object."));
            if let (Some(expected), Some(name)) = (expected, named)
                && expected != name
            {
                return Err(format!(
                    "unexpected type name {name:?}, expected {expected:?}, which matches field name path from root Object type"
                ));
            }
            for key in map.keys() {
                let (Key::Str(field), Some(inner)) = (&key, map.get(&key)) else { continue };
                let below = named.map(|name| format!("{name}.{field}"));
                check_names(&inner, below.as_deref())?;
            }
            Ok(())
        }
        Val::List(list) => list.iter().try_for_each(|item| check_names(&item, expected)),
        _ => Ok(()),
    }
}
