//! Admission, in upstream's order, in two phases: [`admit`] before an object is validated, [`review`] after it.

mod certificates;
mod escalation;
mod expressions;
mod ingress_class;
mod limit_range;
mod namespace;
mod node;
mod node_certificates;
mod pod;
pub mod pod_security;
pub mod policy;
pub mod quota;
mod runtime_class;
mod service_account;
mod storage;
mod token_secret;
pub mod webhook;

use machinery::ApiError;
use serde_json::{Value, json};

use webhook::Rounds;

use crate::{handlers::Target, pipeline::Call};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

/// One write (or connection) on its way.
pub struct Attempt<'a> {
    pub call: &'a Call,
    pub target: &'a Target,
    pub operation: Operation,
    pub subresource: &'a str,
    pub old: Option<&'a Value>,
    pub dry_run: bool,
    /// Group, version and kind of what a subresource takes, where that is not the resource's own.
    pub kind: Option<(&'a str, &'a str, &'a str)>,
}

impl<'a> Attempt<'a> {
    pub fn new(
        call: &'a Call,
        target: &'a Target,
        operation: Operation,
        subresource: &'a str,
        old: Option<&'a Value>,
    ) -> Self {
        Attempt { call, target, operation, subresource, old, dry_run: false, kind: None }
    }

    pub fn dry_run(self, dry_run: bool) -> Self {
        Attempt { dry_run, ..self }
    }

    pub fn of_kind(self, group: &'a str, version: &'a str, kind: &'a str) -> Self {
        Attempt { kind: Some((group, version, kind)), ..self }
    }

    /// Whether there is an object that plugins may change.
    pub fn is_changeable(&self) -> bool {
        self.operation != Operation::Delete
    }

    /// The options of the request, as an object; a patch is an update to admission.
    pub fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        if self.operation != Operation::Delete {
            for key in ["fieldManager", "fieldValidation"] {
                if let Some(value) = self.call.query.get(key) {
                    options[key] = value.into();
                }
            }
        }
        options
    }

    /// A write of the object itself (no subresource) of this resource.
    pub fn is(&self, operation: Operation, group: &str, plural: &str) -> bool {
        self.operation == operation && self.subresource.is_empty() && self.is_of(group, plural)
    }

    pub fn is_of(&self, group: &str, plural: &str) -> bool {
        self.target.resource.plural == plural && self.target.resource.group == group
    }
}

/// First phase, before the kind's own rules: plugins that change the object, and those that look at who asks. Whether
/// somebody from outside (a policy, a webhook) changed the object.
pub async fn admit(attempt: &Attempt<'_>, new: &mut Value) -> Result<bool, ApiError> {
    let mut rounds = Rounds::default();
    let mut policies = policy::Rounds::default();
    loop {
        plugins(attempt, new).await?;
        if policy::mutate(attempt, new, &mut policies).await? {
            rounds.note_change();
        }
        webhook::mutate(attempt, new, &mut rounds).await?;
        if !rounds.advance() {
            break;
        }
    }
    escalation::check(attempt, new).await?;
    Ok(rounds.changed())
}

/// What is built in; run again when webhooks changed the object.
async fn plugins(attempt: &Attempt<'_>, new: &mut Value) -> Result<(), ApiError> {
    namespace::lifecycle(attempt).await?;
    limit_range::fill(attempt, new).await?;
    service_account::admit(attempt, new).await?;
    node::restrict(attempt, new).await?;
    token_secret::fill(attempt, new).await?;
    node::taint(attempt, new);
    pod::priority(attempt, new).await?;
    pod::default_tolerations(attempt, new);
    storage::default_class(attempt, new).await?;
    storage::protect(attempt, new);
    runtime_class::admit(attempt, new).await?;
    certificates::admit(attempt, new).await?;
    ingress_class::default_class(attempt, new).await?;
    pod::topology_labels(attempt, new).await
}

/// Second phase, on the object as it will be stored: plugins that only say yes or no.
pub async fn review(attempt: &Attempt<'_>, new: &Value) -> Result<(), ApiError> {
    pod_security::check(attempt, new).await?;
    limit_range::check(attempt, new).await?;
    pod::one_default(attempt, new).await?;
    storage::resize(attempt, new).await?;
    certificates::attest(attempt, new).await?;
    policy::validate(attempt, new).await?;
    webhook::validate(attempt, new).await
}
