//! CustomResourceDefinitions (apiextensions-apiserver `pkg/apis/apiextensions` and `pkg/registry/customresourcedefinition`).

mod conversion;
mod definition;
mod versions;

use serde_json::{Value, json};

use super::{
    Cell, Column, PLAIN, Resource, STATUS, Strategy, row,
    writing::{self, keep_status},
};
use crate::value::{bool_at, default_to, list_at, str_at, with_mut};

pub use versions::{Column as PrinterColumn, columns, selectable, written_schema};

pub(super) static RESOURCES: &[Resource] = &[Resource {
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    subresources: &[STATUS],
    columns: COLUMNS,
    strategy: Strategy {
        default: defaults,
        prepare_create,
        prepare_update,
        prepare_delete,
        validate_create: definition::validate,
        validate_update: definition::validate_update,
        validate_status_update: |new, _| definition::status(new),
        generation: true,
        unconditional_update: false,
        ..PLAIN
    },
    ..row(
        ("apiextensions.k8s.io", "v1"),
        ("CustomResourceDefinition", "CustomResourceDefinitionList"),
        ("customresourcedefinitions", "customresourcedefinition"),
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    )
}];

const COLUMNS: &[Column] = &[
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
        description: "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
        cell: Cell::Path("metadata.name"),
    },
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        priority: 0,
        description: "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.",
        cell: Cell::Path("metadata.creationTimestamp"),
    },
];

fn defaults(object: &mut Value) {
    with_mut(object, "spec", |spec| {
        let kind = str_at(spec, "names.kind").to_owned();
        with_mut(spec, "names", |names| {
            if !kind.is_empty() {
                default_to(names, "singular", kind.to_lowercase());
                default_to(names, "listKind", format!("{kind}List"));
            }
        });
        if !spec["conversion"].is_object() {
            spec["conversion"] = json!({"strategy": "None"});
        }
        let service = spec.pointer_mut("/conversion/webhook/clientConfig/service");
        if let Some(service) = service.filter(|it| it.is_object() && it["port"].is_null()) {
            service["port"] = 443.into();
        }
        if !bool_at(spec, "preserveUnknownFields") {
            crate::value::remove(spec, "preserveUnknownFields");
        }
    });
}

fn prepare_create(object: &mut Value) {
    writing::drop_status(object);
    object["status"] = json!({"storedVersions": []});
    add_stored_version(object);
}

fn prepare_update(new: &mut Value, old: &Value) {
    keep_status(new, old);
    add_stored_version(new);
}

/// A definition goes when its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn prepare_delete(object: &mut Value) {
    let mut finalizers = list_at(object, "metadata.finalizers").to_vec();
    if !finalizers.iter().any(|f| f == CLEANUP) {
        finalizers.push(CLEANUP.into());
    }
    object["metadata"]["finalizers"] = finalizers.into();
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(object, "Terminating", "True", "InstanceDeletionPending", message);
}

/// Sets a condition of a definition; its time moves only with its status.
pub fn set_condition(object: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    let mut all = list_at(object, "status.conditions").to_vec();
    let before = all.iter().position(|c| str_at(c, "type") == kind);
    let since = before.map(|i| &all[i]).filter(|c| c["status"] == status).map(|c| c["lastTransitionTime"].clone());
    let new = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| crate::time::now().into()),
    });
    match before {
        Some(index) => all[index] = new,
        None => all.push(new),
    }
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["conditions"] = all.into();
}

/// The storage version has been stored as soon as it is the storage version.
fn add_stored_version(object: &mut Value) {
    let storage = list_at(object, "spec.versions").iter().find(|v| bool_at(v, "storage")).map(|v| v["name"].clone());
    let mut stored = list_at(object, "status.storedVersions").to_vec();
    if let Some(name) = storage.filter(|name| !stored.contains(name)) {
        stored.push(name);
        if !object["status"].is_object() {
            object["status"] = json!({});
        }
        object["status"]["storedVersions"] = stored.into();
    }
}

/// Whether a condition of a definition has the status `True`.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    list_at(definition, "status.conditions")
        .iter()
        .any(|c| str_at(c, "type") == condition && str_at(c, "status") == "True")
}
