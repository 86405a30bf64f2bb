//! Brings objects to the API: created when absent, patched when they differ. By a JSON merge patch: lists are replaced as a whole,
//! while a strategic merge knows ports by their number only, and makes one of DNS' two.
//!
//! Why not server-side apply: see `docs/decisions/0004-create-or-patch.md`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use hoststate::Action;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, ApiResource, Scope, oneshot};
use kube::{Client, ResourceExt as _};
use serde::{Deserialize as _, Serialize};
use serde_json::{Value, json};

use super::difference::{Field, between, missing, shown};

pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kinstall");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Created,
    Updated,
    Unchanged,
}

/// What is about to become of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// `Kind namespace/name`
    pub object: String,
    pub action: Action,
    /// Of an update: what changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// How an object stands to what is wanted of it.
enum Standing {
    Absent,
    AsWanted,
    Differs(Box<DynamicObject>),
}

/// The documents of a YAML text, labelled as ours.
pub fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let mut value = Value::deserialize(document)?;
        if value.is_null() {
            continue;
        }
        let labels = value
            .as_object_mut()
            .and_then(|object| object.entry("metadata").or_insert_with(|| json!({})).as_object_mut())
            .and_then(|metadata| metadata.entry("labels").or_insert_with(|| json!({})).as_object_mut())
            .ok_or_else(|| anyhow!("a document is no object"))?;
        labels.insert(MANAGED_BY.0.to_owned(), json!(MANAGED_BY.1));
        documents.push(value);
    }
    Ok(documents)
}

/// How long the first passing error of an object may be followed by others.
const YOUTH: Duration = Duration::from_secs(10);

pub struct Applier {
    client: Client,
    kinds: HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>,
}

impl Applier {
    pub fn new(client: Client) -> Self {
        Self { client, kinds: HashMap::new() }
    }

    /// Applies in order; gives each object's name (`Kind namespace/name`) and what was done.
    pub async fn apply(&mut self, documents: &[Value]) -> anyhow::Result<Vec<(String, Outcome)>> {
        let mut outcomes = Vec::new();
        for document in documents {
            let object = object(document)?;
            let name = describe(&object);
            let outcome = self.with_retries(&object, document).await.with_context(|| format!("cannot apply {name}"))?;
            outcomes.push((name, outcome));
        }
        Ok(outcomes)
    }

    /// What [`Applier::apply`] would do; changes nothing. The server is asked what would become of an object that differs, so what
    /// it takes for the same ("0.1" and "100m") is the same.
    pub async fn plan(&mut self, documents: &[Value]) -> anyhow::Result<Vec<ObjectChange>> {
        let mut changes = Vec::new();
        for document in documents {
            let object = object(document)?;
            let name = describe(&object);
            let change = self.change(&object, document).await.with_context(|| format!("cannot compare {name}"))?;
            changes.extend(change.map(|(action, fields)| ObjectChange { object: name, action, fields }));
        }
        Ok(changes)
    }

    async fn change(&mut self, object: &DynamicObject, wanted: &Value) -> anyhow::Result<Option<(Action, Vec<Field>)>> {
        let api = self.api(object).await?;
        let live = match standing(&api, object, wanted).await? {
            Standing::Absent => return Ok(Some((Action::Create, Vec::new()))),
            Standing::AsWanted => return Ok(None),
            Standing::Differs(live) => serde_json::to_value(live)?,
        };
        let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
        let patched = api.patch(&object.name_any(), &parameters, &Patch::Merge(wanted)).await?;
        let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
        let fields = shown(kind, &between(&live, &serde_json::to_value(&patched)?));
        Ok((!fields.is_empty()).then_some((Action::Update, fields)))
    }

    /// A young cluster answers with passing errors: a namespace that admission does not know yet, a store under load.
    async fn with_retries(&mut self, object: &DynamicObject, wanted: &Value) -> anyhow::Result<Outcome> {
        let mut end = None;
        loop {
            match self.once(object, wanted).await {
                Err(error)
                    if passing(&error) && *end.get_or_insert_with(|| Instant::now() + YOUTH) > Instant::now() =>
                {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                result => return Ok(result?),
            }
        }
    }

    async fn once(&mut self, object: &DynamicObject, wanted: &Value) -> Result<Outcome, kube::Error> {
        let api = self.api(object).await?;
        let name = object.name_any();
        let before = match standing(&api, object, wanted).await? {
            Standing::AsWanted => return Ok(Outcome::Unchanged),
            Standing::Differs(live) => live.resource_version(),
            // when somebody is quicker the next attempt compares
            Standing::Absent => return api.create(&PostParams::default(), object).await.map(|_| Outcome::Created),
        };
        let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(wanted)).await?;
        // the server may see no difference where our comparison did ("0.1" and "100m")
        Ok(if patched.resource_version() == before { Outcome::Unchanged } else { Outcome::Updated })
    }

    async fn api(&mut self, object: &DynamicObject) -> Result<Api<DynamicObject>, kube::Error> {
        let types = object.types.clone().unwrap_or_default();
        let gvk = GroupVersionKind::try_from(&types).map_err(|error| kube::Error::Service(error.into()))?;
        let (resource, capabilities) = match self.kinds.get(&gvk) {
            Some(known) => known.clone(),
            None => {
                let found = oneshot::pinned_kind(&self.client, &gvk).await?;
                self.kinds.insert(gvk, found.clone());
                found
            }
        };
        Ok(match (capabilities.scope, object.namespace()) {
            (Scope::Cluster, _) => Api::all_with(self.client.clone(), &resource),
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            (Scope::Namespaced, None) => Api::default_namespaced_with(self.client.clone(), &resource),
        })
    }
}

fn object(document: &Value) -> anyhow::Result<DynamicObject> {
    serde_json::from_value(document.clone()).context("a document is no Kubernetes object")
}

async fn standing(api: &Api<DynamicObject>, object: &DynamicObject, wanted: &Value) -> Result<Standing, kube::Error> {
    let Some(live) = api.get_opt(&object.name_any()).await? else { return Ok(Standing::Absent) };
    let differs = !missing(&serde_json::to_value(&live).map_err(kube::Error::SerdeError)?, wanted).is_empty();
    Ok(if differs { Standing::Differs(Box::new(live)) } else { Standing::AsWanted })
}

/// A document's name as it is told.
pub fn named(document: &Value) -> String {
    object(document).map_or_else(|_| "object".to_owned(), |object| describe(&object))
}

/// `Kind namespace/name`.
pub fn describe(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    match object.namespace() {
        Some(namespace) => format!("{kind} {namespace}/{}", object.name_any()),
        None => format!("{kind} {}", object.name_any()),
    }
}

/// Whether asking again may help.
pub fn passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 404 | 409 | 429 | 500..),
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn documents_are_labelled_and_empty_ones_left_out() {
        let found = documents("a: 1\nmetadata: {name: x}\n---\n# nothing\n---\nb: 2\n").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["metadata"]["labels"][MANAGED_BY.0], "kinstall");
    }
}
