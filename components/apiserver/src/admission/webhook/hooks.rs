//! Webhooks of all configurations, as the next request has to see them.
//!
//! Every write reads the configurations' keys from the store (in memory: a lookup, and usually nothing is there), so that a
//! configuration acts on the very next request; what did not change since is not read again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cel::Program;
use machinery::{
    ApiError, Path, Resource,
    expressions::match_conditions,
    selector::LabelSelector,
    value::{get, int_at, list_at, str_at},
};
use parking_lot::Mutex;
use serde_json::Value;
use store::{RangeRequest, Revision};

use super::rules::Rule;
use crate::{callback::Destination, core::Core, registry};

pub const GROUP: &str = "admissionregistration.k8s.io";
/// Versions of AdmissionReview this server writes, as configurations list them.
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const TIMEOUT_SECONDS: i64 = 10;

/// One webhook, ready to be asked.
pub struct Hook {
    /// Name of its configuration, and its own.
    pub configuration: String,
    pub name: String,
    /// Unique among all, also when names are not.
    pub id: String,
    pub destination: Result<Destination, String>,
    pub rules: Vec<Rule>,
    /// `failurePolicy: Ignore`
    pub fails_open: bool,
    /// `matchPolicy: Exact`
    pub exact: bool,
    pub namespaces: LabelSelector,
    pub objects: LabelSelector,
    /// `sideEffects` allow to ask it during a dry run.
    pub dry_run: bool,
    pub timeout: Duration,
    /// `reinvocationPolicy: IfNeeded`
    pub reinvoked: bool,
    /// The version of AdmissionReview it understands and this server writes.
    pub version: Result<&'static str, String>,
    /// (name, expression), or what is wrong with them.
    pub conditions: Result<Vec<(String, Program)>, String>,
}

impl Hook {
    fn from_value(configuration: &str, index: usize, hook: &Value) -> Self {
        let name = str_at(hook, "name").to_owned();
        let selector = |path| match get(hook, path) {
            None => LabelSelector::everything(),
            given => LabelSelector::from_object(given).unwrap_or_else(|_| LabelSelector::nothing()),
        };
        let listed = list_at(hook, "admissionReviewVersions");
        let version = REVIEW_VERSIONS.iter().find(|v| listed.iter().any(|l| l == *v)).copied();
        Hook {
            id: format!("{configuration}/{name}/{index}"),
            configuration: configuration.to_owned(),
            destination: Destination::from_client_config(hook.get("clientConfig").unwrap_or(&Value::Null)),
            rules: list_at(hook, "rules").iter().map(Rule::from_value).collect(),
            fails_open: str_at(hook, "failurePolicy") == "Ignore",
            exact: str_at(hook, "matchPolicy") == "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            dry_run: matches!(str_at(hook, "sideEffects"), "None" | "NoneOnDryRun"),
            timeout: seconds(int_at(hook, "timeoutSeconds")),
            reinvoked: str_at(hook, "reinvocationPolicy") == "IfNeeded",
            version: version.ok_or_else(|| {
                format!("webhook does not accept known AdmissionReview versions ({})", REVIEW_VERSIONS.join(", "))
            }),
            conditions: conditions(list_at(hook, "matchConditions")),
            name,
        }
    }
}

fn conditions(list: &[Value]) -> Result<Vec<(String, Program)>, String> {
    let (conditions, errors) = match_conditions(list, false, &Path::new("matchConditions"));
    errors.first().map_or(Ok(conditions), |error| Err(error.to_string()))
}

fn seconds(given: Option<i64>) -> Duration {
    Duration::from_secs(given.unwrap_or(TIMEOUT_SECONDS).clamp(1, 30).unsigned_abs())
}

/// Which kind of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Mutating,
    Validating,
}

impl Phase {
    fn plural(self) -> &'static str {
        match self {
            Phase::Mutating => "mutatingwebhookconfigurations",
            Phase::Validating => "validatingwebhookconfigurations",
        }
    }
}

type Hooks = Arc<Vec<Arc<Hook>>>;

/// What was read last: the hooks of each configuration, by its revision.
#[derive(Default)]
struct Read {
    configurations: HashMap<Arc<str>, (Revision, Vec<Arc<Hook>>)>,
    all: Hooks,
}

/// All webhooks; one for a server.
#[derive(Default)]
pub struct Webhooks {
    mutating: Mutex<Read>,
    validating: Mutex<Read>,
}

impl Webhooks {
    /// The hooks of a phase in the order of their configurations' names, then as listed.
    pub async fn current(&self, core: &Core, phase: Phase) -> Result<Hooks, ApiError> {
        let Some(resource) = registry::find(GROUP, "v1", phase.plural()) else { return Ok(Hooks::default()) };
        let request = RangeRequest { prefix: registry::prefix(resource, ""), ..Default::default() };
        let range = core.store.range(request).await.map_err(registry::store_error)?;
        let mut read = match phase {
            Phase::Mutating => self.mutating.lock(),
            Phase::Validating => self.validating.lock(),
        };
        let same = range.items.len() == read.configurations.len()
            && range
                .items
                .iter()
                .all(|kv| read.configurations.get(&kv.key).is_some_and(|(at, _)| *at == kv.mod_revision));
        if !same {
            *read = reread(resource, range.items, &read)?;
        }
        Ok(read.all.clone())
    }
}

fn reread(resource: &Resource, items: Vec<store::KeyValue>, before: &Read) -> Result<Read, ApiError> {
    let mut now = Read::default();
    let mut all = Vec::new();
    for kv in items {
        let known = before.configurations.get(&kv.key).filter(|(at, _)| *at == kv.mod_revision);
        let hooks = match known {
            Some((_, hooks)) => hooks.clone(),
            None => hooks_of(&registry::decode(resource, &kv.value, kv.mod_revision)?),
        };
        all.extend(hooks.iter().cloned());
        now.configurations.insert(kv.key, (kv.mod_revision, hooks));
    }
    now.all = Arc::new(all);
    Ok(now)
}

fn hooks_of(configuration: &Value) -> Vec<Arc<Hook>> {
    let name = str_at(configuration, "metadata.name");
    list_at(configuration, "webhooks")
        .iter()
        .enumerate()
        .map(|(i, hook)| Arc::new(Hook::from_value(name, i, hook)))
        .collect()
}
