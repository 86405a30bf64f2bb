//! Policies and bindings as the next request has to see them.
//!
//! Every write reads their keys from the store (in memory: a lookup, and usually nothing is there), so that a policy acts on the very next
//! request; what did not change since is neither read nor compiled again.

use std::{collections::HashMap, sync::Arc};

use cel::Program;
use machinery::{
    ApiError,
    expressions::{Mutation, Policy},
    value::{get, list_at, str_at},
};
use parking_lot::Mutex;
use serde_json::Value;
use store::{KeyValue, RangeRequest, Revision};

use super::matching::Matching;
use crate::{admission::expressions, core::Core, registry};

pub const GROUP: &str = "admissionregistration.k8s.io";

/// Which kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Mutating,
    Validating,
}

impl Phase {
    /// Plurals of policies and bindings.
    fn plurals(self) -> [&'static str; 2] {
        match self {
            Phase::Mutating => ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
            Phase::Validating => ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        }
    }
}

/// A policy, ready to run.
pub struct Definition {
    pub name: String,
    /// What is wrong with its expressions; never so for what was checked when it was written.
    pub compiled: Result<Policy, String>,
    pub matching: Matching,
    /// `failurePolicy: Ignore`
    pub fails_open: bool,
    /// `apiVersion` and `kind` of its parameters.
    pub param_kind: Option<(String, String)>,
    /// `reinvocationPolicy: IfNeeded`
    pub reinvoked: bool,
    /// Its expressions ask for authorization.
    pub asks: bool,
}

pub struct Binding {
    pub name: String,
    pub policy: String,
    pub matching: Option<Matching>,
    /// `paramRef`
    pub params: Option<Value>,
    /// `validationActions`
    pub actions: Vec<String>,
}

/// A policy with its bindings.
pub struct Hook {
    pub definition: Arc<Definition>,
    pub bindings: Vec<Arc<Binding>>,
}

impl Definition {
    fn from_value(object: &Value) -> Self {
        let (policy, errors) = Policy::compile(object);
        let asks = expressions::asks(programs(&policy));
        let compiled = match errors.first() {
            None => Ok(policy),
            Some(error) => Err(error.to_string()),
        };
        let spec = &object["spec"];
        Definition {
            name: str_at(object, "metadata.name").to_owned(),
            compiled,
            matching: Matching::from_value(&spec["matchConstraints"]),
            fails_open: str_at(spec, "failurePolicy") == "Ignore",
            param_kind: get(spec, "paramKind")
                .filter(|k| k.is_object())
                .map(|k| (str_at(k, "apiVersion").to_owned(), str_at(k, "kind").to_owned())),
            reinvoked: str_at(spec, "reinvocationPolicy") == "IfNeeded",
            asks,
        }
    }
}

fn programs(policy: &Policy) -> impl Iterator<Item = &Program> {
    let validations = policy.validations.iter().map(|v| &v.program);
    let mutations = policy.mutations.iter().map(|m| match m {
        Mutation::Apply(program) | Mutation::Patch(program) => program,
    });
    let named = policy.conditions.iter().chain(&policy.variables).map(|(_, program)| program);
    named.chain(validations).chain(policy.audit.iter().map(|a| &a.program)).chain(mutations)
}

impl Binding {
    fn from_value(object: &Value) -> Self {
        let spec = &object["spec"];
        let there = |field| get(spec, field).filter(|v| v.is_object());
        Binding {
            name: str_at(object, "metadata.name").to_owned(),
            policy: str_at(spec, "policyName").to_owned(),
            matching: there("matchResources").map(Matching::from_value),
            params: there("paramRef").cloned(),
            actions: list_at(spec, "validationActions").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

type Hooks = Arc<Vec<Hook>>;

/// Objects of one kind by their keys, as they were read last.
struct Read<T>(HashMap<Arc<str>, (Revision, Arc<T>)>);

impl<T> Default for Read<T> {
    fn default() -> Self {
        Read(HashMap::new())
    }
}

impl<T> Read<T> {
    fn is_current(&self, items: &[KeyValue]) -> bool {
        items.len() == self.0.len()
            && items.iter().all(|kv| self.0.get(&kv.key).is_some_and(|(at, _)| *at == kv.mod_revision))
    }

    /// Everything in order of the keys.
    fn refresh(
        &mut self,
        items: &[KeyValue],
        make: impl Fn(&KeyValue) -> Result<T, ApiError>,
    ) -> Result<Vec<Arc<T>>, ApiError> {
        let mut now = HashMap::new();
        let mut all = Vec::with_capacity(items.len());
        for kv in items {
            let known = self.0.get(&kv.key).filter(|(at, _)| *at == kv.mod_revision);
            let one = match known {
                Some((_, one)) => one.clone(),
                None => Arc::new(make(kv)?),
            };
            all.push(one.clone());
            now.insert(kv.key.clone(), (kv.mod_revision, one));
        }
        self.0 = now;
        Ok(all)
    }
}

#[derive(Default)]
struct Known {
    definitions: Read<Definition>,
    bindings: Read<Binding>,
    hooks: Hooks,
}

/// All policies; one for a server.
#[derive(Default)]
pub struct Policies {
    mutating: Mutex<Known>,
    validating: Mutex<Known>,
}

impl Policies {
    /// The policies of a phase that have bindings, in order of their names.
    pub async fn current(&self, core: &Core, phase: Phase) -> Result<Hooks, ApiError> {
        let [policies, bound] = phase.plurals();
        let definitions = read(core, policies).await?;
        if definitions.is_empty() {
            return Ok(Hooks::default());
        }
        let bindings = read(core, bound).await?;
        let mut known = match phase {
            Phase::Mutating => self.mutating.lock(),
            Phase::Validating => self.validating.lock(),
        };
        let known = &mut *known;
        if !known.definitions.is_current(&definitions) || !known.bindings.is_current(&bindings) {
            let definitions =
                known.definitions.refresh(&definitions, |kv| Ok(Definition::from_value(&decode(policies, kv)?)))?;
            let bindings = known.bindings.refresh(&bindings, |kv| Ok(Binding::from_value(&decode(bound, kv)?)))?;
            let hooks = definitions.into_iter().map(|definition| {
                let bindings = bindings.iter().filter(|b| b.policy == definition.name).cloned().collect();
                Hook { definition, bindings }
            });
            known.hooks = Arc::new(hooks.filter(|hook| !hook.bindings.is_empty()).collect());
        }
        Ok(known.hooks.clone())
    }
}

async fn read(core: &Core, plural: &str) -> Result<Vec<KeyValue>, ApiError> {
    let Some(resource) = registry::find(GROUP, "v1", plural) else { return Ok(Vec::new()) };
    let request = RangeRequest { prefix: registry::prefix(resource, ""), ..Default::default() };
    Ok(core.store.range(request).await.map_err(registry::store_error)?.items)
}

fn decode(plural: &str, kv: &KeyValue) -> Result<Value, ApiError> {
    let resource = registry::find(GROUP, "v1", plural).ok_or_else(ApiError::no_such_resource)?;
    registry::decode(resource, &kv.value, kv.mod_revision)
}
