//! From one version to another: only the name changes, or a webhook knows how (apiextensions-apiserver `pkg/apiserver/conversion`).

use std::{sync::Arc, time::Duration};

use machinery::{
    ApiError, names,
    resources::validate_embedded_metadata,
    value::{list_at, remove, str_at},
};
use serde_json::{Map, Value, json};

use crate::callback::{Callbacks, Destination};

/// As long as admission webhooks may take at most.
const PATIENCE: Duration = Duration::from_secs(30);

pub enum Converter {
    None,
    Webhook(Box<Webhook>),
}

pub struct Webhook {
    destination: Result<Destination, String>,
    /// The version of ConversionReview that is spoken.
    review: String,
    callbacks: Arc<Callbacks>,
}

impl Converter {
    pub fn new(definition: &Value, callbacks: Arc<Callbacks>) -> Self {
        let conversion = &definition["spec"]["conversion"];
        if str_at(conversion, "strategy") != "Webhook" {
            return Converter::None;
        }
        let known = |v: &&str| matches!(*v, "v1" | "v1beta1");
        let versions = list_at(conversion, "webhook.conversionReviewVersions");
        let review = versions.iter().filter_map(Value::as_str).find(known).unwrap_or("v1").to_owned();
        let destination = Destination::from_client_config(&conversion["webhook"]["clientConfig"]);
        Converter::Webhook(Box::new(Webhook { destination, review, callbacks }))
    }

    /// Objects of one kind, in any versions, in the version `to`; as many and in the same order.
    pub async fn convert(&self, kind: &str, mut objects: Vec<Value>, to: &str) -> Result<Vec<Value>, ApiError> {
        match self {
            Converter::None => {
                objects.iter_mut().for_each(|object| object["apiVersion"] = to.into());
                Ok(objects)
            }
            Converter::Webhook(webhook) => {
                let from = objects.first().map(|o| str_at(o, "apiVersion").to_owned()).unwrap_or_default();
                let what = format!("conversion webhook for {}", kind_text(&from, kind));
                webhook.convert(objects, to).await.map_err(|why| ApiError::new(500, "", format!("{what} {why}")))
            }
        }
    }
}

/// As Go writes a GroupVersionKind.
fn kind_text(api_version: &str, kind: &str) -> String {
    format!("{api_version}, Kind={kind}")
}

impl Webhook {
    async fn convert(&self, objects: Vec<Value>, to: &str) -> Result<Vec<Value>, String> {
        let converted = self.ask(&objects, to).await.map_err(|why| format!("failed: {why}"))?;
        if converted.len() != objects.len() {
            return Err(format!("returned {} objects, expected {}", converted.len(), objects.len()));
        }
        let pairs = objects.iter().zip(converted).enumerate();
        pairs.map(|(index, (original, converted))| check(original, converted, to, index)).collect()
    }

    async fn ask(&self, objects: &[Value], to: &str) -> Result<Vec<Value>, String> {
        let uid = names::uid();
        let api_version = format!("apiextensions.k8s.io/{}", self.review);
        let question = json!({
            "kind": "ConversionReview", "apiVersion": api_version,
            "request": {"uid": uid, "desiredAPIVersion": to, "objects": objects},
        });
        let destination = self.destination.as_ref().map_err(Clone::clone)?;
        let body = self.callbacks.post(destination, question.to_string().into_bytes(), PATIENCE).await?;
        let mut answer: Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        if self.review == "v1" && (answer["kind"] != "ConversionReview" || answer["apiVersion"] != api_version.as_str())
        {
            let got = kind_text(str_at(&answer, "apiVersion"), str_at(&answer, "kind"));
            return Err(format!(
                "expected webhook response of {}, got {got}",
                kind_text(&api_version, "ConversionReview")
            ));
        }
        let response = answer.get_mut("response").filter(|it| it.is_object()).ok_or("no response provided")?;
        let got = str_at(response, "uid");
        if self.review == "v1" && got != uid {
            return Err(format!("expected response.uid={uid:?}, got {got:?}"));
        }
        let (status, message) = (str_at(response, "result.status"), str_at(response, "result.message"));
        match (status, message) {
            ("Success", _) => {}
            (status, "") => return Err(format!("response.result.status was '{status}', not 'Success'")),
            (_, message) => return Err(message.to_owned()),
        }
        match response["convertedObjects"].take() {
            Value::Array(objects) => Ok(objects),
            _ => Ok(Vec::new()),
        }
    }
}

/// A converted object is the same one still; of its metadata only labels and annotations may differ.
fn check(original: &Value, mut converted: Value, to: &str, index: usize) -> Result<Value, String> {
    let invalid = |why: String| format!("returned invalid converted object at index {index}: {why}");
    let got = str_at(&converted, "apiVersion");
    if got != to {
        return Err(invalid(format!("invalid groupVersion (expected {to}, received {got})")));
    }
    let (wanted, got) = (str_at(original, "kind"), str_at(&converted, "kind"));
    if wanted != got {
        return Err(invalid(format!("invalid kind (expected {wanted}, received {got})")));
    }
    for (key, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (a, b) = (str_at(&original["metadata"], key), str_at(&converted["metadata"], key));
        if a != b {
            return Err(invalid(format!("must have the same {name}: {a} != {b}")));
        }
    }
    let metadata = restored(original, &converted)
        .map_err(|why| format!("returned invalid metadata in object at index {index}: {why}"))?;
    converted["metadata"] = metadata;
    Ok(converted)
}

fn restored(original: &Value, converted: &Value) -> Result<Value, String> {
    let given = converted.get("metadata").ok_or("missing metadata in converted object")?;
    let mut metadata = original.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    for key in ["labels", "annotations"] {
        let Some(texts) = given.get(key).filter(|it| !it.is_null()) else {
            remove(&mut metadata, key);
            continue;
        };
        let map = texts.as_object().ok_or_else(|| format!("invalid metadata.{key} in converted object"))?;
        if let Some((name, _)) = map.iter().find(|(_, v)| !v.is_string()) {
            return Err(format!("metadata.{key}[{name}] must be a string in converted object"));
        }
        if metadata.get(key) != Some(texts) {
            let problems =
                validate_embedded_metadata(&json!({"metadata": {key: texts}}), &machinery::Path::new("metadata"));
            if !problems.is_empty() {
                return Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
            }
        }
        metadata[key] = texts.clone();
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_converted_object_stays_the_same_one() {
        let original = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "u", "finalizers": ["x/y"], "labels": {"a": "b"}}});
        let mut converted = json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a", "uid": "u", "labels": {"c": "d"}, "generation": 9}, "spec": {}});
        let done = check(&original, converted.clone(), "g/v2", 0).unwrap();
        assert_eq!(done["metadata"], json!({"name": "a", "uid": "u", "finalizers": ["x/y"], "labels": {"c": "d"}}));
        converted["metadata"]["uid"] = "other".into();
        let error = check(&original, converted.clone(), "g/v2", 1).unwrap_err();
        assert_eq!(error, "returned invalid converted object at index 1: must have the same UID: u != other");
        converted["metadata"] = json!({"name": "a", "uid": "u", "labels": {"a b": "c"}});
        assert!(check(&original, converted, "g/v2", 0).unwrap_err().contains("invalid metadata in object at index 0"));
    }
}
