//! One served version of a definition, as a row.

use std::sync::Arc;

use machinery::{
    ApiError, FieldError, Path,
    apply::Shape,
    field::FieldErrorKind,
    resources::{Custom, CustomResource, CustomRow, Pending, ScalePaths, apiextensions::selectable},
    selector::LabelSelector,
    structural::{self, openapi},
    value::{bool_at, get, list_at, str_at},
};
use serde_json::Value;

use super::definition::{Definition, Version};

/// A row for each served version.
pub fn rows(definition: &Arc<Definition>) -> Vec<CustomResource> {
    let object = &definition.object;
    let versions = list_at(object, "spec.versions");
    // names that were refused are not served
    let accepted = &object["status"]["acceptedNames"];
    let texts = |key: &str| list_at(accepted, key).iter().filter_map(Value::as_str).collect();
    let served = versions.iter().enumerate().filter(|(_, v)| bool_at(v, "served"));
    served
        .map(|(index, version)| {
            let row = CustomRow {
                group: &definition.group,
                version: str_at(version, "name"),
                kind: str_at(accepted, "kind"),
                list_kind: str_at(accepted, "listKind"),
                plural: str_at(accepted, "plural"),
                singular: str_at(accepted, "singular"),
                short_names: texts("shortNames"),
                categories: texts("categories"),
                namespaced: str_at(object, "spec.scope") == "Namespaced",
                status: get(version, "subresources.status").is_some_and(|it| !it.is_null()),
                scale: get(version, "subresources.scale").is_some_and(|it| !it.is_null()),
                selectable: selectable(version),
            };
            CustomResource::new(&row, Arc::new(Kind { definition: definition.clone(), index }))
        })
        .collect()
}

struct Kind {
    definition: Arc<Definition>,
    index: usize,
}

impl Kind {
    fn version(&self) -> &Version {
        // as many as the definition has, and never fewer
        &self.definition.versions[self.index]
    }

    /// What the schema, embedded resources, list types, scale and rules say, in upstream's order.
    fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let version = self.version();
        let schema = &version.schema;
        let mut errors = structural::validate(schema, object, old);
        errors.extend(self.scale_problems(object));
        errors.extend(structural::embedded(schema, object, &Path::default()));
        if old.is_none_or(|old| structural::unique(schema, old, &Path::default()).is_empty()) {
            errors.extend(structural::unique(schema, object, &Path::default()));
        }
        if let Some(rules) = &version.rules {
            match errors.iter().any(is_blocking) {
                true => errors.push(FieldError::invalid(&Path::new("<nil>"), Value::Null, UNCHECKED)),
                false => errors.extend(rules.validate(&Path::default(), object, old)),
            }
        }
        errors
    }

    fn scale_problems(&self, object: &Value) -> Vec<FieldError> {
        let Some(paths) = &self.version().scale else { return Vec::new() };
        let mut errors = Vec::new();
        for path in [&paths.spec_replicas, &paths.status_replicas] {
            let Some(value) = get(object, path).filter(|v| !v.is_null()) else { continue };
            let at = Path::new(&format!(".{path}"));
            match value.as_i64() {
                None => {
                    let detail =
                        format!(".{path} accessor error: {value} is of the type {}, expected int64", go_type(value));
                    errors.push(FieldError::invalid(&at, value.clone(), detail));
                }
                Some(n) if n < 0 => {
                    errors.push(FieldError::invalid(&at, n, "should be a non-negative integer"));
                }
                Some(n) if n > i64::from(i32::MAX) => {
                    let detail = format!("should be less than or equal to {}", i32::MAX);
                    errors.push(FieldError::invalid(&at, n, detail));
                }
                Some(_) => {}
            }
        }
        if let Some(path) = &paths.selector {
            let text = str_at(object, path);
            if let Err(why) = LabelSelector::parse(text) {
                errors.push(FieldError::invalid(&Path::new(&format!(".{path}")), text, why.to_string()));
            }
        }
        errors
    }
}

const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// Rules are only asked about objects whose shape they can rely on.
fn is_blocking(error: &FieldError) -> bool {
    use FieldErrorKind as K;
    matches!(error.kind, K::Required | K::TooLong | K::TooMany | K::TypeInvalid | K::NotSupported)
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    }
}

impl Custom for Kind {
    fn decode(&self, object: &mut Value) -> Result<Vec<String>, String> {
        let schema = &self.version().schema;
        let mut unknown = structural::prune(schema, object, true);
        structural::drop_nulls(schema, object);
        let mut all = structural::prune_metadata(schema, object, true)?;
        all.append(&mut unknown);
        Ok(all)
    }

    fn default(&self, object: &mut Value) {
        let schema = &self.version().schema;
        // what admission has added since the object was decoded
        structural::prune(schema, object, true);
        structural::drop_nulls(schema, object);
        structural::default(schema, object);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        self.validate(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate(new, Some(old))
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate(new, Some(old))
    }

    fn columns(&self) -> Vec<Value> {
        self.version().columns.iter().map(|it| it.definition.clone()).collect()
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        self.version().columns.iter().map(|it| it.cell(object)).collect()
    }

    fn scale(&self) -> Option<&ScalePaths> {
        self.version().scale.as_ref()
    }

    fn deprecation(&self) -> Option<&str> {
        self.version().deprecation.as_deref()
    }

    fn closed(&self) -> Option<String> {
        let why = "create not allowed while custom resource definition is terminating";
        self.definition.is_terminating().then(|| why.to_owned())
    }

    fn note(&self) -> Option<&str> {
        let version = self.version();
        version.storage.then_some(version.note.as_str())
    }

    fn to_stored<'a>(&'a self, object: &'a Value) -> Pending<'a, Result<(Value, String), ApiError>> {
        Box::pin(async move {
            let version = self.version();
            let storage = self.definition.storage().filter(|it| it.name != version.name);
            let Some(storage) = storage else { return Ok((object.clone(), version.note.clone())) };
            let mut source = object.clone();
            machinery::value::remove(&mut source["metadata"], "resourceVersion");
            let converter = &self.definition.converter;
            let converted = converter.convert(&self.definition.kind, vec![source], &storage.api_version).await?;
            let mut converted = converted.into_iter().next().unwrap_or_default();
            structural::prune(&storage.schema, &mut converted, true);
            // no schema hash: what comes back is looked at anew
            Ok((converted, storage.api_version.clone()))
        })
    }

    fn present<'a>(&'a self, objects: Vec<(Value, String)>) -> Pending<'a, Result<Vec<Value>, ApiError>> {
        Box::pin(async move {
            let version = self.version();
            let (mut done, mut todo) = (Vec::with_capacity(objects.len()), Vec::new());
            for (index, (mut object, note)) in objects.into_iter().enumerate() {
                let stored = api_version(&note);
                object["apiVersion"] = stored.into();
                machinery::value::remove(&mut object["metadata"], "resourceVersion");
                if let Some(written) = self.definition.versions.iter().find(|v| v.api_version == stored) {
                    structural::prune(&written.schema, &mut object, true);
                }
                match stored == version.api_version {
                    true => done.push(object),
                    false => {
                        done.push(Value::Null);
                        todo.push((index, object));
                    }
                }
            }
            if !todo.is_empty() {
                let (indices, objects): (Vec<usize>, Vec<Value>) = todo.into_iter().unzip();
                let converted = self.definition.converter.convert(&self.definition.kind, objects, &version.api_version);
                for (index, object) in indices.into_iter().zip(converted.await?) {
                    done[index] = object;
                }
            }
            for object in &mut done {
                structural::prune(&version.schema, object, true);
                structural::drop_nulls(&version.schema, object);
                structural::default(&version.schema, object);
            }
            Ok(done)
        })
    }

    fn is_stale(&self, note: &str) -> bool {
        self.definition.storage().is_some_and(|storage| storage.api_version != api_version(note))
    }

    fn replaced(&self) -> Pending<'static, ()> {
        Box::pin(self.definition.replaced.clone().cancelled_owned())
    }

    fn openapi(&self) -> Value {
        let version = self.version();
        openapi::v3(&version.written, &self.definition.group, &version.name, &self.definition.kind)
    }

    fn openapi_v2(&self) -> Value {
        let version = self.version();
        openapi::v2(&version.written, &self.definition.group, &version.name, &self.definition.kind)
    }

    fn shape(&self) -> Shape {
        self.version().shape.clone()
    }

    fn definition(&self) -> &Value {
        &self.definition.object
    }
}

/// A note begins with the version the object is stored in.
fn api_version(note: &str) -> &str {
    note.split(' ').next().unwrap_or_default()
}
