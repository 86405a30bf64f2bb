//! The resource table: one row for each built-in resource. Serving another kind is adding a row and its hooks.

use serde_json::Value;

use crate::field::FieldError;

mod admission;
pub mod apiextensions;
mod apps;
mod autoscaling;
mod cells;
mod certificates;
mod columns;
mod conditions;
mod core;
mod custom;
mod dra;
mod events;
mod flowcontrol;
mod limits;
mod meta;
mod networking;
mod other;
mod pod;
mod policies;
mod registration;
mod scheduling;
mod storage;
mod view;
mod workload;
mod writing;

pub use custom::{Custom, CustomResource, CustomRow, Hook, Pending, ResourceRef, ScalePaths, intern};
pub use meta::{validate_embedded_metadata, validate_metadata, validate_metadata_update};
pub use pod::qos_class;
pub use view::View;

/// What the names of a kind must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    DnsSubdomain,
    DnsLabel,
    Dns1035Label,
    PathSegment,
}

/// A subresource, as discovery lists it and the router knows it.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// Group, version and kind of what it takes; an empty kind means the resource's own group, version and kind.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// As in discovery: `get`, `patch`, `update`, `create`.
    pub verbs: &'static [&'static str],
}

/// Where a printer column takes its cell from.
#[derive(Clone, Copy)]
pub enum Cell {
    /// A dotted path; absent gives `<none>`.
    Path(&'static str),
    /// The age of the timestamp at a dotted path.
    Age(&'static str),
    /// Computed from the whole object.
    Of(fn(&Value) -> Value),
}

/// One column of a Table.
#[derive(Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `boolean`.
    pub kind: &'static str,
    /// `name` for the name column.
    pub format: &'static str,
    /// 0: always shown; 1: only with `-o wide`.
    pub priority: i32,
    pub description: &'static str,
    pub cell: Cell,
}

/// What a kind does on writes. All hooks are pure; generic code does metadata, generation and status separation around them.
#[derive(Clone, Copy)]
pub struct Strategy {
    pub name: NameRule,
    /// Fills defaults; idempotent. Runs after decoding, on every write, and never sees invalid types.
    pub default: fn(&mut Value),
    /// Before a create is validated (drop what a client may not set; initial status).
    pub prepare_create: fn(&mut Value),
    /// Before an update of the main resource is validated: (new, old).
    pub prepare_update: fn(&mut Value, &Value),
    /// Before an update through `/status` is validated: (new, old).
    pub prepare_status: fn(&mut Value, &Value),
    /// When an object is first marked as deleted: what it has to wait for.
    pub prepare_delete: fn(&mut Value),
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    /// (new, old); runs with `validate_create`'s checks included where they apply.
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// (new, old) for `/status`.
    pub validate_status_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// Before an update through a subresource other than `/status` is validated: (name, new, old). Drops what the subresource
    /// does not write.
    pub prepare_subresource: fn(&str, &mut Value, &Value),
    /// (name, new, old) for such a subresource.
    pub validate_subresource: fn(&str, &Value, &Value) -> Vec<FieldError>,
    /// What clients are warned of: (new, old), of an object that was accepted.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// PUT of a missing object creates it.
    pub create_on_update: bool,
    /// PUT without `resourceVersion` is allowed.
    pub unconditional_update: bool,
    /// `metadata.generation` counts changes outside metadata and status.
    pub generation: bool,
}

/// One row.
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub list_kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// Name in the schema definitions: `io.k8s.api.core.v1.Pod`.
    pub definition: &'static str,
    /// All columns, the name included.
    pub columns: &'static [Column],
    /// Fields selectable beside `metadata.name` and `metadata.namespace`: (label, path).
    pub field_selectors: &'static [(&'static str, &'static str)],
    /// What clients are told at every request, if the kind or its version is on its way out; empty otherwise.
    pub deprecation: &'static str,
    /// Set where the objects of this row are stored as those of another one.
    pub view: Option<View>,
    pub strategy: Strategy,
    /// Set for custom resources: what they do in another way. Code asks the methods of the row, seldom this.
    pub custom: Hook,
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Group and plural that keys in the store are made of.
    pub fn stored_as(&self) -> (&'static str, &'static str) {
        self.view.map_or((self.group, self.plural), |view| (view.group, view.plural))
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether status is written through `/status` only.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    pub fn supports(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// What makes this a custom resource; `None` for built-in ones.
    pub fn custom(&self) -> Option<&dyn Custom> {
        self.custom.get()
    }

    /// Fills defaults; idempotent.
    pub fn default(&self, object: &mut Value) {
        match self.custom() {
            Some(custom) => custom.default(object),
            None => (self.strategy.default)(object),
        }
    }

    pub fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        match self.custom() {
            Some(custom) => custom.validate_create(object),
            None => (self.strategy.validate_create)(object),
        }
    }

    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        match self.custom() {
            Some(custom) => custom.validate_update(new, old),
            None => (self.strategy.validate_update)(new, old),
        }
    }

    pub fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        match self.custom() {
            Some(custom) => custom.validate_status_update(new, old),
            None => (self.strategy.validate_status_update)(new, old),
        }
    }

    /// Whether a write of `/status` also sets labels, annotations and finalizers (upstream: not for custom resources).
    pub fn status_writes_metadata(&self) -> bool {
        self.custom().is_none()
    }

    /// Where a selectable field lies, see `selector::FieldSelector`.
    pub fn field_path(&self, label: &str) -> Option<&'static str> {
        match label {
            "metadata.name" => Some("metadata.name"),
            "metadata.namespace" if self.namespaced => Some("metadata.namespace"),
            _ => self.field_selectors.iter().find(|(l, _)| *l == label).map(|(_, path)| *path),
        }
    }
}

/// The status subresource of a kind.
const STATUS: Subresource =
    Subresource { name: "status", group: "", version: "", kind: "", verbs: &["get", "patch", "update"] };
const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: &["get", "patch", "update"],
};

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A strategy that leaves objects as they are.
const PLAIN: Strategy = Strategy {
    name: NameRule::DnsSubdomain,
    default: |_| {},
    prepare_create: |_| {},
    prepare_update: |_, _| {},
    prepare_status: |_, _| {},
    prepare_delete: |_| {},
    validate_create: |_| Vec::new(),
    validate_update: |_, _| Vec::new(),
    validate_status_update: |_, _| Vec::new(),
    prepare_subresource: |_, _, _| {},
    validate_subresource: |_, _, _| Vec::new(),
    warnings: |_, _| Vec::new(),
    create_on_update: false,
    unconditional_update: true,
    generation: false,
};

/// A namespaced row without anything special, to be completed by struct update.
const fn row(
    (group, version): (&'static str, &'static str),
    (kind, list_kind): (&'static str, &'static str),
    (plural, singular): (&'static str, &'static str),
    definition: &'static str,
) -> Resource {
    Resource {
        group,
        version,
        kind,
        list_kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: ALL_VERBS,
        subresources: &[],
        definition,
        columns: columns::NAME_AGE,
        field_selectors: &[],
        deprecation: "",
        view: None,
        strategy: PLAIN,
        custom: Hook::NONE,
    }
}

static TABLES: &[&[Resource]] = &[
    core::RESOURCES,
    events::RESOURCES,
    apps::RESOURCES,
    apiextensions::RESOURCES,
    autoscaling::RESOURCES,
    storage::RESOURCES,
    other::RESOURCES,
    policies::RESOURCES,
    networking::RESOURCES,
    certificates::RESOURCES,
    scheduling::RESOURCES,
    admission::RESOURCES,
    flowcontrol::RESOURCES,
    dra::RESOURCES,
    registration::RESOURCES,
];

/// Every built-in resource, grouped by API group, in a fixed order.
pub fn all() -> impl Iterator<Item = &'static Resource> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// By group, version and plural.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    all().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// By group, version and kind.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    all().find(|r| r.kind == kind && r.group == group && r.version == version)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
