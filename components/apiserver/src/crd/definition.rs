//! An established definition, read once: its versions with their schemas, columns and rules.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use machinery::{
    apply::{self, Shape},
    resources::{
        ScalePaths,
        apiextensions::{PrinterColumn, columns, written_schema},
    },
    structural::{self, Schema, rules},
    value::{bool_at, get, list_at, str_at},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::convert::Converter;
use crate::callback::Callbacks;

pub struct Definition {
    /// As it was when this was made; its status may have changed since.
    pub object: Value,
    pub group: String,
    pub kind: String,
    pub versions: Vec<Version>,
    pub converter: Converter,
    /// Cancelled when another definition takes the place of this one, or none.
    pub replaced: CancellationToken,
    terminating: AtomicBool,
}

pub struct Version {
    pub name: String,
    /// `group/version`
    pub api_version: String,
    pub written: Value,
    pub schema: Schema,
    pub rules: Option<Arc<dyn rules::Rules>>,
    pub columns: Vec<PrinterColumn>,
    pub scale: Option<ScalePaths>,
    pub deprecation: Option<String>,
    pub shape: Shape,
    pub storage: bool,
    /// Stands in the store beside objects that were checked against this very schema.
    pub note: String,
}

impl Definition {
    pub fn new(object: &Value, callbacks: Arc<Callbacks>) -> Self {
        let text = |path: &str| str_at(object, path).to_owned();
        let (group, kind) = (text("spec.group"), text("spec.names.kind"));
        let versions = list_at(object, "spec.versions").iter().map(|v| Version::new(v, &group, &kind)).collect();
        let definition = Definition {
            object: object.clone(),
            versions,
            converter: Converter::new(object, callbacks),
            replaced: CancellationToken::new(),
            terminating: AtomicBool::new(false),
            group,
            kind,
        };
        definition.set_terminating(object);
        definition
    }

    /// Whether another state of the definition serves the very same.
    pub fn serves_same(&self, object: &Value) -> bool {
        self.object["spec"] == object["spec"] && self.object["metadata"]["uid"] == object["metadata"]["uid"]
    }

    pub fn set_terminating(&self, object: &Value) {
        let deleted = get(object, "metadata.deletionTimestamp").is_some_and(|it| !it.is_null());
        self.terminating.store(deleted, Ordering::Relaxed);
    }

    pub fn is_terminating(&self) -> bool {
        self.terminating.load(Ordering::Relaxed)
    }

    pub fn storage(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.storage)
    }
}

impl Version {
    fn new(version: &Value, group: &str, kind: &str) -> Self {
        let name = str_at(version, "name").to_owned();
        let api_version = format!("{group}/{name}");
        let written = written_schema(version);
        let schema = structural::parse(&written);
        let hash = hex::encode(&Sha256::digest(written.to_string())[..8]);
        let warning = version.get("deprecationWarning").and_then(Value::as_str);
        let deprecation = warning.map_or_else(|| format!("{api_version} {kind} is deprecated"), str::to_owned);
        Version {
            note: format!("{api_version} {hash}"),
            rules: rules::compile(&schema),
            columns: columns(version),
            scale: get(version, "subresources.scale").filter(|s| s.is_object()).map(scale),
            deprecation: bool_at(version, "deprecated").then_some(deprecation),
            shape: apply::structural(Some(&written)),
            storage: bool_at(version, "storage"),
            name,
            api_version,
            written,
            schema,
        }
    }
}

fn scale(scale: &Value) -> ScalePaths {
    let path = |key: &str| str_at(scale, key).trim_start_matches('.').to_owned();
    ScalePaths {
        spec_replicas: path("specReplicasPath"),
        status_replicas: path("statusReplicasPath"),
        selector: Some(path("labelSelectorPath")).filter(|it| !it.is_empty()),
    }
}
