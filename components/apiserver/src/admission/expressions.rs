//! Expressions in admission: what `object`, `request`, `authorizer` and the other variables are for one request.

use cel::{Authorize, Budget, Check, Decision, Fault, Input, Program, Val, Variables, cost::MATCH_CONDITIONS_BUDGET};
use machinery::{ApiError, expressions};
use serde_json::{Value, json};

use super::{Attempt, Operation};
use crate::{
    authz::{self, Attributes},
    core::Core,
    identity::Identity,
    registry,
};

static NULL: Value = Value::Null;

/// What expressions see of a request, beside its objects.
pub struct Scene {
    request: Value,
    namespace: Value,
    asked: Check,
}

impl Scene {
    pub async fn of(attempt: &Attempt<'_>) -> Result<Self, ApiError> {
        let target = attempt.target;
        let resource = &*target.resource;
        let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
        // a namespace is asked about as being in itself, but no object lies around it
        let within = if is_namespace { &target.name } else { &target.namespace };
        let mut namespace = Value::Null;
        if !is_namespace
            && !target.namespace.is_empty()
            && let Some(row) = registry::find("", "v1", "namespaces")
        {
            let stored = registry::look(&attempt.call.core, row, "", &target.namespace).await?;
            namespace = expressions::namespace_object(&stored);
        }
        let asked = Check {
            group: resource.group.to_string(),
            resource: resource.plural.to_string(),
            subresource: attempt.subresource.to_owned(),
            namespace: within.clone(),
            name: target.name.clone(),
            ..Check::default()
        };
        Ok(Scene { request: request(attempt, within), namespace, asked })
    }

    /// The variables; `params` is declared only for policies that have some.
    pub fn input<'a>(
        &'a self,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
        params: Option<&'a Value>,
        authorizer: &'a Live<'a>,
        variables: Option<&'a Variables<'a>>,
    ) -> Input<'a> {
        let (request, namespace) = expressions::schemas();
        let values = vec![
            ("object", Val::dynamic(object.unwrap_or(&NULL))),
            ("oldObject", Val::dynamic(old.unwrap_or(&NULL))),
            ("request", Val::read(&self.request, request)),
            ("namespaceObject", Val::read(&self.namespace, namespace)),
            ("params", Val::dynamic(params.unwrap_or(&NULL))),
            ("authorizer", cel::authorizer()),
            ("authorizer.requestResource", cel::request_resource(self.asked.clone())),
        ];
        Input { values, variables, authorizer: Some(authorizer) }
    }
}

fn request(attempt: &Attempt<'_>, within: &str) -> Value {
    let resource = &*attempt.target.resource;
    let who = &attempt.call.identity;
    let (group, version, kind) = attempt.kind.unwrap_or((resource.group, resource.version, resource.kind));
    let kind = json!({"group": group, "version": version, "kind": kind});
    let place = json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
    let operation = match attempt.operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    };
    let mut user = json!({"username": who.user, "groups": who.groups});
    if !who.uid.is_empty() {
        user["uid"] = who.uid.as_str().into();
    }
    if !who.extra.is_empty() {
        user["extra"] = json!(who.extra);
    }
    let mut request = json!({
        "kind": kind, "resource": place, "requestKind": kind, "requestResource": place,
        "operation": operation, "userInfo": user, "dryRun": attempt.dry_run, "options": attempt.options(),
    });
    let optional = [
        ("name", attempt.target.name.as_str()),
        ("namespace", within),
        ("subResource", attempt.subresource),
        ("requestSubResource", attempt.subresource),
    ];
    for (key, text) in optional.into_iter().filter(|(_, text)| !text.is_empty()) {
        request[key] = text.into();
    }
    request
}

/// The object and the old object as expressions see them: what there is depends on the operation.
pub fn objects<'a>(attempt: &Attempt<'a>, object: &'a Value) -> (Option<&'a Value>, Option<&'a Value>) {
    match attempt.operation {
        Operation::Create | Operation::Connect => (Some(object), None),
        Operation::Update => (Some(object), attempt.old),
        Operation::Delete => (None, attempt.old),
    }
}

/// Authorization as it stands now, for who asks.
pub struct Live<'a> {
    core: &'a Core,
    who: &'a Identity,
}

impl<'a> Live<'a> {
    /// Waits until every role that was written before is known, if expressions will ask.
    pub async fn of(attempt: &Attempt<'a>, asks: bool) -> Self {
        let core = &attempt.call.core;
        if asks {
            core.observed.caught_up(registry::newest(core).await).await;
        }
        Live { core, who: &attempt.call.identity }
    }
}

impl Authorize for Live<'_> {
    fn decide(&self, check: &Check) -> Decision {
        let what = Attributes {
            verb: check.verb.clone(),
            is_resource: check.path.is_empty(),
            group: check.group.clone(),
            version: "*".into(),
            resource: check.resource.clone(),
            subresource: check.subresource.clone(),
            namespace: check.namespace.clone(),
            name: check.name.clone(),
            path: check.path.clone(),
            field_selector: check.field_selector.clone(),
        };
        let account;
        let who = match &check.account {
            None => self.who,
            Some(given) => {
                let groups =
                    ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", given.namespace)];
                account = Identity::new(format!("system:serviceaccount:{}:{}", given.namespace, given.name), groups);
                &account
            }
        };
        Decision { allowed: authz::allows_now(self.core, who, &what), ..Decision::default() }
    }
}

/// What evaluating an expression ended with, in upstream's words.
pub fn evaluate<'a>(program: &Program, input: &Input<'a>, budget: &mut Budget) -> Result<Val<'a>, Failure> {
    match program.run(input, budget) {
        Ok(value) => Ok(value),
        Err(Fault { fatal: true, .. }) if budget.0 == 0 => Err(Failure::Budget),
        Err(fault) => Err(Failure::Expression(format!("expression '{}' resulted in error: {fault}", program.source))),
    }
}

#[derive(Debug)]
pub enum Failure {
    Expression(String),
    /// Nothing more may be evaluated for this object.
    Budget,
}

impl Failure {
    pub fn text(self) -> String {
        match self {
            Failure::Expression(text) => text,
            Failure::Budget => {
                "validation failed due to running out of cost budget, no further validation rules will be run".into()
            }
        }
    }
}

/// Whether all conditions hold. One that is false wins over others that fail; what failed is the error.
pub fn hold(conditions: &[(String, Program)], input: &Input<'_>) -> Result<bool, String> {
    let mut budget = Budget(MATCH_CONDITIONS_BUDGET);
    let mut errors = Vec::new();
    for (_, program) in conditions {
        match evaluate(program, input, &mut budget) {
            Ok(Val::Bool(false)) => return Ok(false),
            Ok(_) => {}
            Err(failure @ Failure::Budget) => return Err(failure.text()),
            Err(failure) => errors.push(failure.text()),
        }
    }
    match errors.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// Whether any of the programs asks for authorization.
pub fn asks<'p>(programs: impl IntoIterator<Item = &'p Program>) -> bool {
    programs.into_iter().any(|program| program.mentions("authorizer"))
}
