//! Shapes of the built-in kinds.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use serde_json::Value;

use super::shape::{Key, ListShape, MapShape, Relation, Scalar, Shape};
use crate::schema::{self, Type};

/// OpenAPI extensions of Kubernetes v1.37 without their prefix `x-kubernetes-`: definition → field ("": the definition itself) →
/// extension; `default` is the schema's default of a list key.
const EXTENSIONS_JSON: &str = include_str!("../../data/extensions.json");

type Extensions = HashMap<String, HashMap<String, Value>>;

fn extensions() -> &'static Extensions {
    static EXTENSIONS: OnceLock<Extensions> = OnceLock::new();
    // a file of ours; were it unreadable, no list would merge, which the tests would show
    EXTENSIONS.get_or_init(|| serde_json::from_str(EXTENSIONS_JSON).unwrap_or_default())
}

/// The extensions of a field, or with an empty name of the definition itself.
pub fn extension(definition: &str, field: &str) -> Option<&'static Value> {
    extensions().get(definition)?.get(field)
}

/// Structs in structs that Go's types hold by value: where the outer one is, the inner one is too. (definition, fields)
const BY_VALUE: &[(&str, &[&str])] = &[
    ("DeploymentSpec", &["template", "strategy"]),
    ("ReplicaSetSpec", &["template"]),
    ("StatefulSetSpec", &["template", "updateStrategy"]),
    ("DaemonSetSpec", &["template", "updateStrategy"]),
    ("JobSpec", &["template"]),
    ("CronJobSpec", &["jobTemplate"]),
    ("Container", &["resources"]),
    ("EphemeralContainer", &["resources"]),
    ("PersistentVolumeClaimSpec", &["resources"]),
    ("ContainerStatus", &["state", "lastState"]),
    ("ServiceStatus", &["loadBalancer"]),
    ("IngressStatus", &["loadBalancer"]),
    ("NodeStatus", &["daemonEndpoints", "nodeInfo"]),
    ("NodeDaemonEndpoints", &["kubeletEndpoint"]),
    ("Event", &["involvedObject", "source"]),
    ("RoleBinding", &["roleRef"]),
    ("ClusterRoleBinding", &["roleRef"]),
    ("HorizontalPodAutoscalerSpec", &["scaleTargetRef"]),
    ("MutatingWebhook", &["clientConfig"]),
    ("ValidatingWebhook", &["clientConfig"]),
    ("VolumeAttachmentSpec", &["source"]),
];

/// Kinds and templates hold these by value.
const TOP: &[&str] = &["metadata", "spec", "status"];

fn implicit(definition: &str, fields: &BTreeMap<String, Type>) -> &'static [&'static str] {
    let kind = definition.rsplit('.').next().unwrap_or_default();
    let listed = BY_VALUE.iter().find(|(name, _)| *name == kind).map(|(_, fields)| *fields);
    listed.unwrap_or(if fields.contains_key("metadata") { TOP } else { &[] })
}

/// The shape of a definition's objects.
pub fn definition(name: &str) -> Option<&'static MapShape> {
    static SHAPES: OnceLock<HashMap<String, MapShape>> = OnceLock::new();
    SHAPES.get_or_init(|| schema::all().map(|(name, fields)| (name.clone(), compile(name, fields))).collect()).get(name)
}

/// The shape of a kind by its definition's name.
pub fn shape(definition_name: &str) -> Shape {
    Shape::Definition { name: definition_name.into(), atomic: None }
}

fn map_type(extensions: Option<&Value>) -> Option<bool> {
    match extensions?.get("map-type")?.as_str()? {
        "atomic" => Some(true),
        "granular" => Some(false),
        _ => None,
    }
}

fn compile(name: &str, fields: &BTreeMap<String, Type>) -> MapShape {
    MapShape {
        fields: fields
            .iter()
            .map(|(field, kind)| (field.clone(), compile_type(kind, extension(name, field))))
            .collect(),
        values: None,
        atomic: map_type(extension(name, "")).unwrap_or(false),
        implicit: implicit(name, fields),
    }
}

fn compile_type(kind: &Type, extensions: Option<&Value>) -> Shape {
    match kind {
        Type::Object(name) => Shape::Definition { name: name.as_str().into(), atomic: map_type(extensions) },
        Type::Map(inner) => Shape::Map(Arc::new(MapShape {
            values: Some(compile_type(inner, None)),
            atomic: map_type(extensions).unwrap_or(false),
            ..MapShape::default()
        })),
        Type::List(inner) => Shape::List(Arc::new(ListShape {
            item: compile_type(inner, None),
            relation: relation(inner, extensions.unwrap_or(&Value::Null)),
        })),
        Type::String | Type::Bytes => Shape::Scalar(Scalar::String),
        Type::Int32 | Type::Int64 | Type::Float => Shape::Scalar(Scalar::Number),
        Type::Bool => Shape::Scalar(Scalar::Bool),
        Type::Time | Type::MicroTime | Type::Quantity | Type::IntOrString => Shape::Scalar(Scalar::Any),
        Type::Any => Shape::Deduced,
    }
}

/// The list type; where there is none, the patch strategy says it.
fn relation(item: &Type, extensions: &Value) -> Relation {
    let text = |key: &str| extensions.get(key).and_then(Value::as_str).unwrap_or_default();
    let listed = extensions.get("list-map-keys").and_then(Value::as_array).into_iter().flatten();
    let mut keys: Vec<&str> = listed.filter_map(Value::as_str).collect();
    let merges = text("patch-strategy").split(',').any(|strategy| strategy == "merge");
    match text("list-type") {
        "set" => return Relation::Set,
        "map" => {}
        "" if merges && text("patch-merge-key").is_empty() => return Relation::Set,
        "" if merges => keys = vec![text("patch-merge-key")],
        _ => return Relation::Atomic,
    }
    keys.sort_unstable();
    Relation::Keys(
        keys.into_iter().map(|name| Key { name: name.to_owned(), default: key_default(item, name) }).collect(),
    )
}

fn key_default(item: &Type, key: &str) -> Option<Value> {
    let Type::Object(name) = item else { return None };
    extension(name, key)?.get("default").cloned()
}
