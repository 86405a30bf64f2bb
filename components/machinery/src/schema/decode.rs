//! Decoding a value against a definition.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Number, Value};

use super::{Type, definition};
use crate::{quantity, time};

/// What happens to fields the definition does not have; they are reported either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    Prune,
    Keep,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("no definition is called {0}")]
    Definition(String),
    /// In the words of Go's JSON decoder, which clients know.
    #[error("json: cannot unmarshal {found} into Go struct field {place} of type {wanted}")]
    Type { found: &'static str, place: String, wanted: &'static str },
    #[error("{place}: {problem}")]
    Value { place: String, problem: String },
}

/// Decodes `value` in place as an object of `definition`; returns the paths of unknown fields (`spec.containers[0].x`).
pub fn check(definition_name: &str, value: &mut Value, unknown: Unknown) -> Result<Vec<String>, DecodeError> {
    let kind = definition_name.rsplit('.').next().unwrap_or_default();
    let mut decoder = Decoder { kind, unknown, found: Vec::new(), path: Vec::new() };
    decoder.object(definition_name, value)?;
    Ok(decoder.found)
}

const JSON_SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

enum Step {
    Field(String),
    Index(usize),
}

struct Decoder<'a> {
    kind: &'a str,
    unknown: Unknown,
    found: Vec<String>,
    path: Vec<Step>,
}

/// As Go's encoding/json names the type of a value.
pub fn json_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Decoder<'_> {
    fn path_text(&self, indices: bool) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Index(i) if indices => text.push_str(&format!("[{i}]")),
                Step::Index(_) => {}
            }
        }
        text
    }

    fn wrong(&self, value: &Value, wanted: &'static str) -> DecodeError {
        let path = self.path_text(false);
        let place = if path.is_empty() { self.kind.to_owned() } else { format!("{}.{path}", self.kind) };
        DecodeError::Type { found: json_name(value), place, wanted }
    }

    fn bad(&self, problem: impl Into<String>) -> DecodeError {
        DecodeError::Value { place: self.path_text(true), problem: problem.into() }
    }

    fn object(&mut self, name: &str, value: &mut Value) -> Result<(), DecodeError> {
        let definition = definition(name).ok_or_else(|| DecodeError::Definition(name.to_owned()))?;
        if !value.is_object() {
            return Err(self.wrong(value, "object"));
        }
        let Some(map) = value.as_object_mut() else { return Ok(()) };
        // `null` is "not set" for a field of a Go struct
        map.retain(|_, v| !v.is_null());
        let mut strangers = Vec::new();
        for (key, inner) in map.iter_mut() {
            self.path.push(Step::Field(key.clone()));
            match definition.fields.get(key) {
                Some(field) => self.typed(field, inner)?,
                None => {
                    self.found.push(self.path_text(true));
                    strangers.push(key.clone());
                }
            }
            self.path.pop();
        }
        definition.off.iter().for_each(|field| drop(map.remove(*field)));
        if self.unknown == Unknown::Prune {
            strangers.iter().for_each(|key| drop(map.remove(key)));
        }
        if name == JSON_SCHEMA {
            self.schemas_below(map)?;
        }
        Ok(())
    }

    /// A schema may lie where the definition only says "something", as a schema or a simpler value may be there.
    fn schemas_below(&mut self, map: &mut Map<String, Value>) -> Result<(), DecodeError> {
        for key in ["items", "additionalProperties", "additionalItems"] {
            let Some(inner) = map.get_mut(key).filter(|it| it.is_object()) else { continue };
            self.path.push(Step::Field(key.to_owned()));
            self.object(JSON_SCHEMA, inner)?;
            self.path.pop();
        }
        Ok(())
    }

    fn typed(&mut self, kind: &Type, value: &mut Value) -> Result<(), DecodeError> {
        match kind {
            Type::Any => Ok(()),
            Type::Object(name) => self.object(name, value),
            Type::Map(inner) => self.map(inner, value),
            Type::List(inner) => self.list(inner, value),
            Type::String if value.is_string() => Ok(()),
            Type::String => Err(self.wrong(value, "string")),
            Type::Bool if value.is_boolean() => Ok(()),
            Type::Bool => Err(self.wrong(value, "bool")),
            Type::Float if value.is_number() => Ok(()),
            Type::Float => Err(self.wrong(value, "float64")),
            Type::Int32 => self.integer(value, i64::from(i32::MIN), i64::from(i32::MAX), "int32"),
            Type::Int64 => self.integer(value, i64::MIN, i64::MAX, "int64"),
            Type::IntOrString if value.is_string() => Ok(()),
            Type::IntOrString => self.integer(value, i64::from(i32::MIN), i64::from(i32::MAX), "int32"),
            Type::Quantity => self.quantity(value),
            Type::Time => self.time(value, time::rfc3339),
            Type::MicroTime => self.time(value, time::rfc3339_micro),
            Type::Bytes => self.bytes(value),
        }
    }

    fn map(&mut self, inner: &Type, value: &mut Value) -> Result<(), DecodeError> {
        if !value.is_object() {
            return Err(self.wrong(value, "map"));
        }
        for (key, item) in value.as_object_mut().into_iter().flatten() {
            self.path.push(Step::Field(key.clone()));
            self.item(inner, item)?;
            self.path.pop();
        }
        Ok(())
    }

    fn list(&mut self, inner: &Type, value: &mut Value) -> Result<(), DecodeError> {
        if !value.is_array() {
            return Err(self.wrong(value, "slice"));
        }
        for (i, item) in value.as_array_mut().into_iter().flatten().enumerate() {
            self.path.push(Step::Index(i));
            self.item(inner, item)?;
            self.path.pop();
        }
        Ok(())
    }

    /// A `null` in a list or map is the zero value there.
    fn item(&mut self, inner: &Type, value: &mut Value) -> Result<(), DecodeError> {
        if value.is_null() {
            *value = match inner {
                Type::Object(_) | Type::Map(_) => Value::Object(Map::new()),
                Type::String | Type::Bytes => "".into(),
                Type::List(_) => Value::Array(Vec::new()),
                Type::Int32 | Type::Int64 | Type::IntOrString | Type::Float => 0.into(),
                Type::Quantity => "0".into(),
                Type::Bool => false.into(),
                Type::Time | Type::MicroTime | Type::Any => return Ok(()),
            };
        }
        self.typed(inner, value)
    }

    fn integer(&self, value: &mut Value, min: i64, max: i64, wanted: &'static str) -> Result<(), DecodeError> {
        // YAML and scripts write 3.0; Go's decoder takes what is a whole number
        if let Some(float) = value.as_f64().filter(|f| value.is_f64() && f.fract() == 0.0 && f.abs() < 9e15) {
            #[allow(clippy::cast_possible_truncation)]
            let whole = float as i64;
            *value = Value::Number(Number::from(whole));
        }
        match value.as_i64() {
            Some(n) if (min..=max).contains(&n) => Ok(()),
            _ => Err(self.wrong(value, wanted)),
        }
    }

    fn quantity(&self, value: &mut Value) -> Result<(), DecodeError> {
        if !value.is_string() && !value.is_number() {
            return Err(self.wrong(value, "resource.Quantity"));
        }
        let quantity = quantity::from_json(value).map_err(|e| self.bad(e.to_string()))?;
        *value = quantity.to_string().into();
        Ok(())
    }

    fn time(&self, value: &mut Value, write: fn(::time::OffsetDateTime) -> String) -> Result<(), DecodeError> {
        let Some(text) = value.as_str() else { return Err(self.wrong(value, "string")) };
        let at = time::parse(text).ok_or_else(|| {
            self.bad(format!("parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse"))
        })?;
        *value = write(at).into();
        Ok(())
    }

    fn bytes(&self, value: &mut Value) -> Result<(), DecodeError> {
        let Some(text) = value.as_str() else { return Err(self.wrong(value, "[]uint8")) };
        let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        STANDARD.decode(&clean).map_err(|e| match e {
            base64::DecodeError::InvalidByte(at, _) => self.bad(format!("illegal base64 data at input byte {at}")),
            _ => self.bad(format!("illegal base64 data at input byte {}", clean.len())),
        })?;
        *value = clean.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const POD: &str = "io.k8s.api.core.v1.Pod";

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "x": 1, "metadata": {"name": "a", "zz": {}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "a", "foo": 2, "env": null}]}
        });
        let mut kept = pod.clone();
        let unknown = check(POD, &mut pod, Unknown::Prune).unwrap();
        assert_eq!(unknown, ["metadata.zz", "spec.containers[0].foo", "x"]);
        assert_eq!(
            pod,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}})
        );
        assert_eq!(check(POD, &mut kept, Unknown::Keep).unwrap().len(), 3);
        assert_eq!(kept["x"], 1);
    }

    #[test]
    fn wrong_types_are_refused() {
        for (spec, place) in [
            (json!({"containers": {}}), "Pod.spec.containers"),
            (json!({"containers": [{"name": 1}]}), "Pod.spec.containers.name"),
            (json!({"priority": 4_000_000_000u64}), "Pod.spec.priority"),
            (json!({"hostNetwork": "true"}), "Pod.spec.hostNetwork"),
            (json!({"nodeSelector": {"a": true}}), "Pod.spec.nodeSelector.a"),
        ] {
            let error = check(POD, &mut json!({"spec": spec}), Unknown::Prune).unwrap_err();
            assert!(error.to_string().contains(&format!("Go struct field {place} of type")), "{error}");
        }
    }

    #[test]
    fn values_become_canonical() {
        let mut pod = json!({
            "metadata": {"creationTimestamp": "2026-01-01T01:00:00.5+01:00"},
            "spec": {"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}, "livenessProbe": {"httpGet": {"port": 80}}}]}
        });
        check(POD, &mut pod, Unknown::Prune).unwrap();
        assert_eq!(pod["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "500m", "memory": "1Gi"}));
        let mut bad = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}});
        assert!(check(POD, &mut bad, Unknown::Prune).is_err());
        let secret = |text: &str| check("io.k8s.api.core.v1.Secret", &mut json!({"data": {"a": text}}), Unknown::Prune);
        assert!(secret("aGk=").is_ok() && secret("a").is_err() && secret("").is_ok());
    }
}
