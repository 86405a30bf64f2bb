//! The OpenAPI v2 document of an extension server: the part of it that is its own, to stand beside ours, and the same as v3 for
//! servers that know no v3 (kube-openapi `pkg/aggregator`, `pkg/openapiconv`).

use std::collections::{BTreeMap, BTreeSet};

use machinery::value::{list_at, str_at};
use serde_json::{Map, Value, json};

use super::{
    documents::{Document, INFO},
    etag,
};

const DEFINITIONS: &str = "#/definitions/";
const SCHEMAS: &str = "#/components/schemas/";
const PARAMETERS: &str = "#/parameters/";
/// Types that every server shares: ours are as good as theirs.
const SHARED: &str = "io.k8s.apimachinery.";
/// Of operations that say nothing about it.
const ANY: &str = "*/*";
const JSON: &str = "application/json";
/// Of a parameter that is not a body, what its schema is about.
const OF_SCHEMA: &[&str] =
    &["type", "format", "items", "default", "enum", "pattern", "minimum", "maximum", "uniqueItems"];

/// Paths of one group and version, and the definitions they need.
pub struct Foreign {
    pub paths: Map<String, Value>,
    pub definitions: Map<String, Value>,
    /// Changes with the content.
    pub tag: String,
}

impl Foreign {
    /// The part of a document whose paths begin with a prefix.
    pub fn extract(document: &Value, prefix: &str) -> Self {
        let parameters = &document["parameters"];
        let mut paths = Map::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten().filter(|(it, _)| it.starts_with(prefix))
        {
            let mut item = item.clone();
            inline(&mut item, parameters);
            paths.insert(path.clone(), item);
        }
        let all = &document["definitions"];
        let mut definitions = Map::new();
        let mut todo: BTreeSet<String> = BTreeSet::new();
        paths.values().for_each(|item| referenced(item, &mut todo));
        while let Some(name) = todo.pop_first() {
            if let Some(definition) = all.get(&name).filter(|_| !definitions.contains_key(&name)) {
                referenced(definition, &mut todo);
                definitions.insert(name, definition.clone());
            }
        }
        let tag = etag::of(json!([paths, definitions]).to_string().as_bytes());
        Foreign { paths, definitions, tag }
    }

    /// As it can stand in a document that has definitions of these names already.
    pub fn beside(&self, taken: &BTreeSet<String>) -> (Map<String, Value>, Map<String, Value>) {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for name in self.definitions.keys().filter(|it| taken.contains(*it) && !it.starts_with(SHARED)) {
            let free = (2..).map(|n| format!("{name}_v{n}"));
            let free = free.into_iter().find(|it| !taken.contains(it) && !self.definitions.contains_key(it));
            names.extend(free.map(|free| (name.clone(), free)));
        }
        let renamed = |value: &Value| {
            let mut value = value.clone();
            rename(&mut value, &|reference| {
                let name = reference.strip_prefix(DEFINITIONS)?;
                names.get(name).map(|new| format!("{DEFINITIONS}{new}"))
            });
            value
        };
        let paths = self.paths.iter().map(|(path, item)| (path.clone(), renamed(item))).collect();
        let own = self.definitions.iter().filter(|(name, _)| !taken.contains(*name) || names.contains_key(*name));
        let definitions = own.map(|(name, value)| (names.get(name).unwrap_or(name).clone(), renamed(value))).collect();
        (paths, definitions)
    }

    /// The v3 document.
    pub fn v3(&self) -> Document {
        let mut paths: Map<String, Value> =
            self.paths.iter().map(|(path, item)| (path.clone(), item_v3(item))).collect();
        let mut schemas = self.definitions.clone();
        let to_v3 = |reference: &str| reference.strip_prefix(DEFINITIONS).map(|name| format!("{SCHEMAS}{name}"));
        paths.values_mut().chain(schemas.values_mut()).for_each(|value| rename(value, &to_v3));
        let info = json!({"title": INFO.0, "version": INFO.1});
        let document = json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}});
        Document::new(document.to_string().as_bytes())
    }
}

/// Runs over every reference.
fn each_reference(value: &Value, act: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                act(reference);
            }
            map.values().for_each(|inner| each_reference(inner, act));
        }
        Value::Array(all) => all.iter().for_each(|inner| each_reference(inner, act)),
        _ => {}
    }
}

fn referenced(value: &Value, to: &mut BTreeSet<String>) {
    each_reference(value, &mut |reference| to.extend(reference.strip_prefix(DEFINITIONS).map(str::to_owned)));
}

/// Replaces references for which there is another one.
fn rename(value: &mut Value, to: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::Object(map) => {
            if let Some(new) = map.get("$ref").and_then(Value::as_str).and_then(to) {
                map.insert("$ref".into(), new.into());
            }
            map.values_mut().for_each(|inner| rename(inner, to));
        }
        Value::Array(all) => all.iter_mut().for_each(|inner| rename(inner, to)),
        _ => {}
    }
}

/// Parameters that the document has in common for all paths, where they are used.
fn inline(value: &mut Value, parameters: &Value) {
    match value {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix(PARAMETERS));
            if let Some(parameter) = name.and_then(|name| parameters.get(name)) {
                *value = parameter.clone();
                return;
            }
            map.values_mut().for_each(|inner| inline(inner, parameters));
        }
        Value::Array(all) => all.iter_mut().for_each(|inner| inline(inner, parameters)),
        _ => {}
    }
}

fn item_v3(item: &Value) -> Value {
    let mut new = Map::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "parameters" => plain_parameters(value),
            _ if value.get("responses").is_some() => operation_v3(value),
            _ => value.clone(),
        };
        new.insert(key.clone(), value);
    }
    new.into()
}

fn media<'a>(operation: &'a Value, key: &str, otherwise: &'a str) -> Vec<&'a str> {
    let all: Vec<&str> = list_at(operation, key).iter().filter_map(Value::as_str).collect();
    if all.is_empty() { vec![otherwise] } else { all }
}

fn content(schema: &Value, media: &[&str]) -> Value {
    media.iter().map(|it| ((*it).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}

fn operation_v3(operation: &Value) -> Value {
    let mut new = operation.as_object().cloned().unwrap_or_default();
    for key in ["consumes", "produces", "schemes"] {
        new.remove(key);
    }
    if let Some(parameters) = operation.get("parameters") {
        new.insert("parameters".into(), plain_parameters(parameters));
        if let Some(body) = list_at(operation, "parameters").iter().find(|it| str_at(it, "in") == "body") {
            let content = content(&body["schema"], &media(operation, "consumes", ANY));
            let mut request = json!({"content": content});
            if body["required"] == true {
                request["required"] = true.into();
            }
            new.insert("requestBody".into(), request);
        }
    }
    let mut responses = Map::new();
    for (code, response) in operation["responses"].as_object().into_iter().flatten() {
        let mut response = response.clone();
        if let Some(schema) = response.as_object_mut().and_then(|it| it.remove("schema")) {
            response["content"] = content(&schema, &media(operation, "produces", JSON));
        }
        responses.insert(code.clone(), response);
    }
    new.insert("responses".into(), responses.into());
    new.into()
}

/// All but bodies.
fn plain_parameters(parameters: &Value) -> Value {
    let all = parameters.as_array().into_iter().flatten().filter(|it| str_at(it, "in") != "body");
    all.map(|parameter| {
        let (mut new, mut schema) = (Map::new(), Map::new());
        for (key, value) in parameter.as_object().into_iter().flatten() {
            let to = if OF_SCHEMA.contains(&key.as_str()) { &mut schema } else { &mut new };
            to.insert(key.clone(), value.clone());
        }
        if !schema.is_empty() {
            new.insert("schema".into(), schema.into());
        }
        Value::Object(new)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn document() -> Value {
        json!({
            "paths": {
                "/apis/w.io/v1/flunders": {"post": {
                    "consumes": ["application/json"],
                    "parameters": [
                        {"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/a.Flunder"}},
                        {"$ref": "#/parameters/pretty"}],
                    "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/a.Flunder"}}}}},
                "/apis/w.io/v1beta1/flunders": {"get": {"responses": {}}}, "/version": {"get": {"responses": {}}}},
            "parameters": {"pretty": {"name": "pretty", "in": "query", "type": "string"}},
            "definitions": {
                "a.Flunder": {"properties": {"metadata": {"$ref": "#/definitions/io.k8s.apimachinery.Meta"}, "x": {"$ref": "#/definitions/a.X"}}},
                "a.X": {"type": "string"}, "io.k8s.apimachinery.Meta": {"type": "object"}, "a.Unused": {"type": "string"}},
        })
    }

    #[test]
    fn only_what_the_paths_need_is_taken() {
        let foreign = Foreign::extract(&document(), "/apis/w.io/v1/");
        assert_eq!(foreign.paths.keys().collect::<Vec<_>>(), ["/apis/w.io/v1/flunders"]);
        assert_eq!(foreign.definitions.keys().collect::<Vec<_>>(), ["a.Flunder", "a.X", "io.k8s.apimachinery.Meta"]);
        assert_eq!(foreign.paths["/apis/w.io/v1/flunders"]["post"]["parameters"][1]["name"], "pretty");
    }

    #[test]
    fn names_that_are_taken_are_changed_but_shared_types_are_ours() {
        let foreign = Foreign::extract(&document(), "/apis/w.io/v1/");
        let taken = ["a.X", "io.k8s.apimachinery.Meta"].map(str::to_owned).into();
        let (paths, definitions) = foreign.beside(&taken);
        assert_eq!(definitions.keys().collect::<Vec<_>>(), ["a.Flunder", "a.X_v2"]);
        let properties = &definitions["a.Flunder"]["properties"];
        assert_eq!(properties["x"]["$ref"], "#/definitions/a.X_v2");
        assert_eq!(properties["metadata"]["$ref"], "#/definitions/io.k8s.apimachinery.Meta");
        assert_eq!(paths.len(), 1);
    }

    #[test]
    fn the_newer_form_says_the_same() {
        let foreign = Foreign::extract(&document(), "/apis/w.io/v1/");
        let v3: Value = serde_json::from_slice(&foreign.v3().plain()).unwrap();
        let post = &v3["paths"]["/apis/w.io/v1/flunders"]["post"];
        let schema = json!({"schema": {"$ref": "#/components/schemas/a.Flunder"}});
        assert_eq!(post["requestBody"], json!({"content": {"application/json": schema}, "required": true}));
        assert_eq!(post["responses"]["200"], json!({"description": "OK", "content": {"application/json": schema}}));
        assert_eq!(post["parameters"], json!([{"name": "pretty", "in": "query", "schema": {"type": "string"}}]));
        assert_eq!(post.get("consumes"), None);
        let meta = &v3["components"]["schemas"]["a.Flunder"]["properties"]["metadata"];
        assert_eq!(meta["$ref"], "#/components/schemas/io.k8s.apimachinery.Meta");
    }
}
