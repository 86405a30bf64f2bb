//! The variables of admission expressions (apiserver `pkg/admission/plugin/cel/compile.go`).

use std::sync::OnceLock;

use cel::{Env, Schema, Shape, Type};
use serde_json::{Map, Value};

/// What else is declared beside `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Declared {
    pub params: bool,
    pub authorizer: bool,
    /// The types of mutations.
    pub mutations: bool,
}

fn text() -> Schema {
    Schema::string()
}

fn texts() -> Schema {
    Schema::list(text())
}

fn moment() -> Schema {
    Schema::of(Shape::Timestamp(false))
}

fn kind(name: &str, last: &'static str) -> Schema {
    Schema::object(name, [("group", text()), ("version", text()), (last, text())])
}

fn request() -> Schema {
    let user = Schema::object(
        "kubernetes.UserInfo",
        [("username", text()), ("uid", text()), ("groups", texts()), ("extra", Schema::map(texts()))],
    );
    Schema::object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind("kubernetes.GroupVersionKind", "kind")),
            ("resource", kind("kubernetes.GroupVersionResource", "resource")),
            ("subResource", text()),
            ("requestKind", kind("kubernetes.GroupVersionKind", "kind")),
            ("requestResource", kind("kubernetes.GroupVersionResource", "resource")),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Schema::of(Shape::Bool)),
            ("options", Schema::dynamic()),
        ],
    )
}

fn namespace() -> Schema {
    let condition = Schema::object(
        "kubernetes.NamespaceCondition",
        [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", moment()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = Schema::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", Schema::map(text())),
            ("annotations", Schema::map(text())),
            ("UID", text()),
            ("creationTimestamp", moment()),
            ("deletionGracePeriodSeconds", Schema::of(Shape::Int)),
            ("deletionTimestamp", moment()),
            ("generation", Schema::of(Shape::Int)),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    Schema::object(
        "kubernetes.Namespace",
        [
            ("metadata", metadata),
            ("spec", Schema::object("kubernetes.NamespaceSpec", [("finalizers", texts())])),
            (
                "status",
                Schema::object(
                    "kubernetes.NamespaceStatus",
                    [("conditions", Schema::list(condition)), ("phase", text())],
                ),
            ),
        ],
    )
}

/// The part of a Namespace that expressions see, in the form they see it.
pub fn namespace_object(namespace: &Value) -> Value {
    let mut metadata = Map::new();
    for (key, value) in namespace["metadata"].as_object().into_iter().flatten() {
        match key.as_str() {
            "managedFields" | "ownerReferences" | "selfLink" => {}
            "uid" => drop(metadata.insert("UID".into(), value.clone())),
            _ => drop(metadata.insert(key.clone(), value.clone())),
        }
    }
    let mut object = Map::new();
    object.insert("metadata".into(), metadata.into());
    for key in ["spec", "status"] {
        object.insert(key.into(), namespace.get(key).cloned().unwrap_or_else(|| Map::new().into()));
    }
    object.into()
}

/// Schemas by which `request` and `namespaceObject` are read: (request, namespaceObject).
pub fn schemas() -> &'static (Schema, Schema) {
    static SCHEMAS: OnceLock<(Schema, Schema)> = OnceLock::new();
    SCHEMAS.get_or_init(|| (request(), namespace()))
}

pub fn environment(declared: Declared) -> Env {
    let opaque = |name| Schema::of(Shape::Typed(Type::Opaque(name)));
    let (request, namespace) = schemas();
    let mut env = Env::new()
        .with("object", Schema::dynamic())
        .with("oldObject", Schema::dynamic())
        .with("request", request.clone())
        .with("namespaceObject", namespace.clone());
    if declared.params {
        env = env.with("params", Schema::dynamic());
    }
    if declared.authorizer {
        env = env
            .with("authorizer", opaque("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", opaque("kubernetes.authorization.ResourceCheck"));
    }
    if declared.mutations { env.with_mutations() } else { env }
}
