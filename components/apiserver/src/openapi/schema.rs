//! Definitions as OpenAPI v3 and v2 write them, made from k8s-openapi's schemas and Kubernetes' extensions.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
};

use flate2::read::GzDecoder;
use machinery::{apply, protobuf, resources, schema::DESCRIBED};
use serde_json::{Map, Value, json};

use crate::handlers::reviews;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    V2,
    V3,
}

impl Dialect {
    pub fn references(self) -> &'static str {
        match self {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        }
    }
}

const REFERENCE: &str = "#/$defs/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
pub const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

/// Runs over all definitions (name, JSON) by name, without ever holding all of them.
pub fn each(mut act: impl FnMut(&str, &str)) {
    let lines = BufReader::new(GzDecoder::new(DESCRIBED)).lines();
    // our own build compressed it; a broken end would show in the tests
    for line in lines.map_while(Result::ok) {
        if let Some((name, definition)) = line.split_once('\t') {
            act(name, definition);
        }
    }
}

/// Which definitions each one refers to.
pub fn graph() -> BTreeMap<String, Vec<String>> {
    let mut graph = BTreeMap::new();
    each(|name, text| drop(graph.insert(name.to_owned(), references(text))));
    graph
}

fn references(text: &str) -> Vec<String> {
    text.split(REFERENCE).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// Everything that the roots reach.
pub fn reachable(graph: &BTreeMap<String, Vec<String>>, roots: impl Iterator<Item = String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo: Vec<String> = roots.collect();
    while let Some(name) = todo.pop() {
        let Some(next) = graph.get(&name) else { continue };
        if found.insert(name) {
            todo.extend(next.iter().cloned());
        }
    }
    found
}

/// Group, version, kind.
pub type Kind = (String, String, String);

/// The kinds that definitions are the schemas of.
pub fn kinds() -> BTreeMap<String, BTreeSet<Kind>> {
    let mut kinds: BTreeMap<String, BTreeSet<Kind>> = BTreeMap::new();
    let mut add = |definition: String, group: &str, version: &str, kind: &str| {
        kinds.entry(definition).or_default().insert((group.into(), version.into(), kind.into()));
    };
    for resource in resources::all() {
        add(resource.definition.to_owned(), resource.group, resource.version, resource.kind);
        for sub in resource.subresources.iter().filter(|s| !s.kind.is_empty()) {
            let (group, version) =
                if sub.version.is_empty() { (resource.group, resource.version) } else { (sub.group, sub.version) };
            let definition = protobuf::definition(&crate::discovery::group_version(group, version), sub.kind);
            if let Some(definition) = definition {
                add(definition, group, version, sub.kind);
            }
        }
        for kind in ["DeleteOptions", "WatchEvent"] {
            add(format!("{META}.{kind}"), resource.group, resource.version, kind);
        }
    }
    for review in reviews::ALL {
        if let Some(definition) = protobuf::definition(&format!("{}/v1", review.group), review.kind) {
            add(definition, review.group, "v1", review.kind);
        }
    }
    for kind in ["Status", "APIGroup", "APIGroupList", "APIResourceList", "APIVersions"] {
        add(format!("{META}.{kind}"), "", "v1", kind);
    }
    kinds
}

pub fn kinds_value<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    kinds.into_iter().map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind})).collect()
}

/// One definition in a dialect.
pub fn definition(name: &str, text: &str, kinds: Option<&BTreeSet<Kind>>, dialect: Dialect) -> Value {
    let mut schema = serde_json::from_str(text).unwrap_or_else(|_| json!({"type": "object"}));
    special(name, &mut schema, dialect);
    for (field, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        rewrite(property, dialect);
        extend(property, apply::extension(name, field));
    }
    extend(&mut schema, apply::extension(name, ""));
    if let Some(kinds) = kinds {
        schema["x-kubernetes-group-version-kind"] = kinds_value(kinds);
    }
    schema
}

/// The `…List` of a kind.
pub fn list(kind: &str, item: &str, id: &Kind, dialect: Dialect) -> Value {
    let reference = |name: &str| json!({"$ref": format!("{}{name}", dialect.references())});
    let mut metadata = json!({
        "$ref": format!("{}{META}.ListMeta", REFERENCE),
        "description": "Standard list metadata.",
    });
    rewrite(&mut metadata, dialect);
    json!({
        "description": format!("{kind}List is a list of {kind} objects."),
        "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of the list's schema."},
            "kind": {"type": "string", "description": "The kind of the list."},
            "metadata": metadata,
            "items": {"type": "array", "description": "The objects.", "items": reference(item)},
        },
        "x-kubernetes-group-version-kind": kinds_value([id]),
    })
}

/// Definitions that are used in paths but come with no kind.
pub fn additional(dialect: Dialect) -> [(&'static str, Value); 2] {
    let raw = json!({"$ref": format!("{}io.k8s.apimachinery.pkg.runtime.RawExtension", dialect.references())});
    [
        (
            PATCH,
            json!({"type": "object", "description": "Patch is a patch of an object: its media type says in which form."}),
        ),
        (
            WATCH_EVENT,
            json!({
                "type": "object", "description": "Event represents a single event to a watched resource.",
                "required": ["type", "object"], "properties": {"type": {"type": "string"}, "object": raw},
            }),
        ),
    ]
}

/// Types that are numbers or texts.
fn special(name: &str, schema: &mut Value, dialect: Dialect) {
    let forms = match (name.rsplit('.').next(), dialect) {
        (Some("Quantity"), Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (Some("Quantity"), Dialect::V2) => json!({"type": "string"}),
        (Some("IntOrString"), Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (Some("IntOrString"), Dialect::V2) => json!({"format": "int-or-string", "type": "string"}),
        // published as anything
        (Some("JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray"), _) => {
            schema.as_object_mut().map(|s| s.remove("oneOf"));
            return;
        }
        _ => return,
    };
    let (Some(schema), Value::Object(forms)) = (schema.as_object_mut(), forms) else { return };
    schema.remove("x-kubernetes-int-or-string");
    schema.extend(forms);
}

/// References of the dialect. In v3 nothing may stand beside a reference, so it is wrapped.
fn rewrite(schema: &mut Value, dialect: Dialect) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
        let name = reference.strip_prefix(REFERENCE).unwrap_or(reference);
        let reference = json!(format!("{}{name}", dialect.references()));
        if dialect == Dialect::V3 && map.len() > 1 {
            map.remove("$ref");
            map.insert("allOf".into(), json!([{"$ref": reference}]));
        } else {
            map.insert("$ref".into(), reference);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            rewrite(inner, dialect);
        }
    }
}

fn extend(schema: &mut Value, extension: Option<&Value>) {
    let Some(schema) = schema.as_object_mut() else { return };
    for (key, value) in extension.and_then(Value::as_object).into_iter().flatten() {
        let name = if key == "default" { key.clone() } else { format!("x-kubernetes-{key}") };
        schema.insert(name, value.clone());
    }
    wrap_late(schema);
}

/// An extension may have come beside a lone reference.
fn wrap_late(schema: &mut Map<String, Value>) {
    let v3 = schema.get("$ref").and_then(Value::as_str).is_some_and(|r| r.starts_with(Dialect::V3.references()));
    if v3 && schema.len() > 1 {
        let reference = schema.remove("$ref");
        schema.insert("allOf".into(), json!([{"$ref": reference}]));
    }
}
