//! Resources that come and go while the server runs: rows made from CustomResourceDefinitions.
//!
//! Generic code sees a [`Resource`] in both cases. What a custom kind does in another way than the tables say is behind [`Custom`].

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    mem::{self, ManuallyDrop},
    ops::Deref,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use serde_json::Value;

use super::{NameRule, PLAIN, Resource, SCALE, STATUS, Strategy, Subresource, writing};
use crate::{
    ApiError, FieldError,
    apply::{self, Shape},
};

/// Something that takes time; machinery itself never waits.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the scale subresource finds its numbers: dotted paths from the object's root (`spec.replicas`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: String,
    pub status_replicas: String,
    /// A string field that holds a selector in its text form.
    pub selector: Option<String>,
}

/// One served version of a custom kind.
pub trait Custom: Send + Sync {
    /// Drops (and returns the paths of) fields the schema does not know; `Err` says why it is no such object at all.
    fn decode(&self, object: &mut Value) -> Result<Vec<String>, String>;
    fn default(&self, object: &mut Value);
    fn validate_create(&self, object: &Value) -> Vec<FieldError>;
    /// (new, old)
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError>;
    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError>;
    /// `columnDefinitions` of a Table, and the cells that belong to them.
    fn columns(&self) -> Vec<Value>;
    fn cells(&self, object: &Value) -> Vec<Value>;
    fn scale(&self) -> Option<&ScalePaths>;
    /// What clients of a deprecated version are told.
    fn deprecation(&self) -> Option<&str>;
    /// Why nothing may be created now; `None`: it may.
    fn closed(&self) -> Option<String>;
    /// What is noted in the store beside an object that was checked against this version's schema, if objects are stored in
    /// this version. An object with this very note is served as it lies there.
    fn note(&self) -> Option<&str>;
    /// The object in the version that is stored now, and the note to store with it.
    fn to_stored<'a>(&'a self, object: &'a Value) -> Pending<'a, Result<(Value, String), ApiError>>;
    /// Objects as they lie in the store, each with its note, pruned, converted and defaulted to this version; as many and in
    /// the same order.
    fn present<'a>(&'a self, objects: Vec<(Value, String)>) -> Pending<'a, Result<Vec<Value>, ApiError>>;
    /// Whether an object with this note has to be written anew even if nothing in it changes.
    fn is_stale(&self, note: &str) -> bool;
    /// Ends when the definition changed or went away: watches that serve the old one end with it.
    fn replaced(&self) -> Pending<'static, ()>;
    /// The schema of this version as OpenAPI v3.
    fn openapi(&self) -> Value;
    /// The same as OpenAPI v2, which says less.
    fn openapi_v2(&self) -> Value;
    /// How fields merge and are owned.
    fn shape(&self) -> Shape {
        apply::structural(Some(&self.openapi()))
    }
    /// The CustomResourceDefinition this comes from.
    fn definition(&self) -> &Value;
}

/// The hook of a row. Built-in rows are constants, and constants must not have a destructor: hence `ManuallyDrop`;
/// [`CustomResource`] gives the hook back.
pub struct Hook(ManuallyDrop<Option<Arc<dyn Custom>>>);

impl Hook {
    pub const NONE: Hook = Hook(ManuallyDrop::new(None));

    pub fn get(&self) -> Option<&dyn Custom> {
        self.0.as_deref()
    }
}

/// A row with a hook; what it holds is freed with it.
pub struct CustomResource(Resource);

/// What a definition says about a row.
#[derive(Clone, Debug, Default)]
pub struct CustomRow<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub list_kind: &'a str,
    pub plural: &'a str,
    pub singular: &'a str,
    pub short_names: Vec<&'a str>,
    pub categories: Vec<&'a str>,
    pub namespaced: bool,
    pub status: bool,
    pub scale: bool,
    /// Dotted paths.
    pub selectable: Vec<String>,
}

const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

impl CustomResource {
    pub fn new(row: &CustomRow, custom: Arc<dyn Custom>) -> Self {
        let subresources: &'static [Subresource] = match (row.status, row.scale) {
            (false, false) => &[],
            (true, false) => &[STATUS],
            (false, true) => &[SCALE],
            (true, true) => &[STATUS, SCALE],
        };
        let status_apart =
            Strategy { prepare_create: writing::drop_status, prepare_update: writing::keep_status, ..PLAIN };
        let strategy = if row.status { status_apart } else { PLAIN };
        CustomResource(Resource {
            short_names: intern_list(row.short_names.iter().map(|it| intern(it)).collect()),
            categories: intern_list(row.categories.iter().map(|it| intern(it)).collect()),
            namespaced: row.namespaced,
            verbs: VERBS,
            subresources,
            columns: &[],
            field_selectors: intern_list(row.selectable.iter().map(|it| (intern(it), intern(it))).collect()),
            // a PUT without resourceVersion is refused for custom resources only
            strategy: Strategy {
                name: NameRule::DnsSubdomain,
                unconditional_update: false,
                generation: true,
                ..strategy
            },
            custom: Hook(ManuallyDrop::new(Some(custom))),
            ..super::row(
                (intern(row.group), intern(row.version)),
                (intern(row.kind), intern(row.list_kind)),
                (intern(row.plural), intern(row.singular)),
                "",
            )
        })
    }
}

impl Deref for CustomResource {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        &self.0
    }
}

impl Drop for CustomResource {
    fn drop(&mut self) {
        let hook = mem::replace(&mut self.0.custom, Hook::NONE);
        drop(ManuallyDrop::into_inner(hook.0));
    }
}

/// A resource, wherever its row comes from. Cheap to clone.
#[derive(Clone)]
pub enum ResourceRef {
    Static(&'static Resource),
    Custom(Arc<CustomResource>),
}

impl Deref for ResourceRef {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match self {
            ResourceRef::Static(row) => row,
            ResourceRef::Custom(row) => row,
        }
    }
}

impl From<&'static Resource> for ResourceRef {
    fn from(row: &'static Resource) -> Self {
        ResourceRef::Static(row)
    }
}

impl fmt::Debug for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.plural)
    }
}

/// Names of custom resources live as long as the process, each once: names are few and short, and so every row, label of a counter
/// and discovery entry is `'static`, whether built in or not.
pub fn intern(text: &str) -> &'static str {
    static TEXTS: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
    let mut texts = TEXTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = texts.get(text) {
        return found;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(kept);
    kept
}

/// Lists of interned names, likewise.
fn intern_list<T: Interned>(list: Vec<T>) -> &'static [T] {
    if list.is_empty() {
        return &[];
    }
    let mut lists = T::lists().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lists.get(list.as_slice()) {
        return found;
    }
    let kept: &'static [T] = Box::leak(list.into_boxed_slice());
    lists.insert(kept);
    kept
}

type Lists<T> = Mutex<HashSet<&'static [T]>>;

trait Interned: Eq + std::hash::Hash + Sized + 'static {
    fn lists() -> &'static Lists<Self>;
}

impl Interned for &'static str {
    fn lists() -> &'static Lists<Self> {
        static LISTS: OnceLock<Lists<&'static str>> = OnceLock::new();
        LISTS.get_or_init(Mutex::default)
    }
}

impl Interned for (&'static str, &'static str) {
    fn lists() -> &'static Lists<Self> {
        static LISTS: OnceLock<Lists<(&'static str, &'static str)>> = OnceLock::new();
        LISTS.get_or_init(Mutex::default)
    }
}
