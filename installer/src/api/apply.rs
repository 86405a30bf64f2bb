//! Brings objects to the API: created when absent, patched when they differ. By a JSON merge patch: lists are replaced as a whole,
//! while a strategic merge knows ports by their number only, and makes one of DNS' two.
//!
//! Why not server-side apply: see `docs/decisions/0004-create-or-patch.md`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, ApiResource, Scope, oneshot};
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};

pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kinstall");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Created,
    Updated,
    Unchanged,
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
            let object: DynamicObject =
                serde_json::from_value(document.clone()).context("a document is no Kubernetes object")?;
            let name = describe(&object);
            let outcome = self.with_retries(&object, document).await.with_context(|| format!("cannot apply {name}"))?;
            outcomes.push((name, outcome));
        }
        Ok(outcomes)
    }

    /// A young cluster answers with passing errors: a namespace that admission does not know yet, a store under load.
    async fn with_retries(&mut self, object: &DynamicObject, wanted: &Value) -> anyhow::Result<Outcome> {
        let mut attempt = 0;
        loop {
            match self.once(object, wanted).await {
                Err(error) if attempt < 20 && passing(&error) => {
                    attempt += 1;
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                result => return Ok(result?),
            }
        }
    }

    async fn once(&mut self, object: &DynamicObject, wanted: &Value) -> Result<Outcome, kube::Error> {
        let api = self.api(object).await?;
        let name = object.name_any();
        let Some(live) = api.get_opt(&name).await? else {
            return match api.create(&PostParams::default(), object).await {
                Ok(_) => Ok(Outcome::Created),
                // somebody was quicker; the next attempt compares
                Err(error) => Err(error),
            };
        };
        let before = live.resource_version();
        if contains(&serde_json::to_value(&live).map_err(kube::Error::SerdeError)?, wanted) {
            return Ok(Outcome::Unchanged);
        }
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

/// Whether `live` has everything that `wanted` says; what defaults added is of no matter.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| match live.get(key) {
            Some(live) => contains(live, wanted),
            // the API drops empty lists and objects; an empty text (a label's value) is something
            None => is_empty(wanted),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| contains(l, w))
        }
        (live, wanted) => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn defaults_are_no_difference_but_other_values_and_lengths_are() {
        let live = json!({"spec": {"replicas": 1, "ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"}});
        assert!(contains(&live, &json!({"spec": {"ports": [{"port": 80}]}, "data": {}})));
        assert!(!contains(&live, &json!({"spec": {"replicas": 2}})));
        assert!(!contains(&live, &json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}})));
    }

    #[test]
    fn documents_are_labelled_and_empty_ones_left_out() {
        let found = documents("a: 1\nmetadata: {name: x}\n---\n# nothing\n---\nb: 2\n").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["metadata"]["labels"][MANAGED_BY.0], "kinstall");
    }
}
