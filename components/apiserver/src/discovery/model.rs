//! Everything served, as groups, versions and resources: made from the resource table, the definitions of custom resources and
//! the kinds that are only questions, and what extension servers offer.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use machinery::{Resource, ResourceRef, resources::Subresource, value::list_at, value::str_at};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::order::Order;
use crate::{core::Core, handlers::reviews, registry};

pub struct Group {
    pub name: String,
    /// The preferred one first.
    pub versions: Vec<Version>,
}

pub struct Version {
    pub name: String,
    /// By name.
    pub entries: Vec<Entry>,
    /// An extension server that does not answer cannot say what it serves.
    pub current: bool,
}

/// A resource of one version.
pub enum Entry {
    Stored(ResourceRef),
    Review(&'static reviews::Review),
    /// Of an extension server, in the words of the aggregated document.
    Foreign(Value),
}

impl Entry {
    pub fn name(&self) -> &str {
        match self {
            Entry::Stored(resource) => resource.plural,
            Entry::Review(review) => review.plural,
            Entry::Foreign(resource) => str_at(resource, "resource"),
        }
    }

    /// Its rows in an `APIResourceList`.
    pub fn plain(&self) -> Vec<Value> {
        match self {
            Entry::Stored(resource) => {
                let mut rows = vec![plain_resource(resource)];
                rows.extend(sorted(resource).iter().map(|s| plain_subresource(resource, s)));
                rows
            }
            Entry::Review(review) => vec![json!({
                "name": review.plural, "singularName": review.kind.to_ascii_lowercase(), "namespaced": review.namespaced,
                "kind": review.kind, "verbs": ["create"],
            })],
            // whoever asks for that list asks the extension server
            Entry::Foreign(_) => Vec::new(),
        }
    }
}

/// Subresources by name; those of custom resources as their definition lists them.
pub fn sorted(resource: &Resource) -> Vec<&'static Subresource> {
    let mut all: Vec<&Subresource> = resource.subresources.iter().collect();
    if resource.custom().is_none() {
        all.sort_by_key(|s| s.name);
    }
    all
}

fn plain_resource(resource: &Resource) -> Value {
    let mut row = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced, "kind": resource.kind,
        "verbs": resource.verbs, "storageVersionHash": storage_version_hash(resource),
    });
    if !resource.short_names.is_empty() {
        row["shortNames"] = resource.short_names.into();
    }
    if !resource.categories.is_empty() {
        row["categories"] = resource.categories.into();
    }
    row
}

fn plain_subresource(resource: &Resource, subresource: &Subresource) -> Value {
    let kind = if subresource.kind.is_empty() { resource.kind } else { subresource.kind };
    let mut row = json!({
        "name": format!("{}/{}", resource.plural, subresource.name), "singularName": "", "namespaced": resource.namespaced,
        "kind": kind, "verbs": subresource.verbs,
    });
    // said only where it is not the list's own
    if !subresource.version.is_empty() && (subresource.group, subresource.version) != (resource.group, resource.version)
    {
        row["group"] = subresource.group.into();
        row["version"] = subresource.version.into();
    }
    row
}

/// Kinds that are stored in another group or version than they are served: (group, version, kind) of both.
const STORED_ELSEWHERE: &[((&str, &str, &str), &str)] = &[
    (("events.k8s.io", "v1", "Event"), "/v1/Event"),
    (("autoscaling", "v1", "HorizontalPodAutoscaler"), "autoscaling/v2/HorizontalPodAutoscaler"),
];

/// Changes when objects are stored in another version (apiserver `pkg/endpoints/discovery/storageversionhash.go`).
fn storage_version_hash(resource: &Resource) -> String {
    let id = (resource.group, resource.version, resource.kind);
    let version = match resource.custom() {
        Some(custom) => list_at(custom.definition(), "spec.versions")
            .iter()
            .find(|v| v["storage"] == true)
            .map_or(resource.version, |v| str_at(v, "name")),
        None => resource.version,
    };
    let stored = STORED_ELSEWHERE.iter().find(|(served, _)| *served == id).map(|(_, stored)| (*stored).to_owned());
    let stored = stored.unwrap_or_else(|| format!("{}/{version}/{}", resource.group, resource.kind));
    STANDARD.encode(&Sha256::digest(stored.as_bytes())[..8])
}

/// All groups, the core one included, in the order of their priority.
pub fn groups(core: &Core) -> Vec<Group> {
    let mut found: BTreeMap<(String, String), Vec<Entry>> = BTreeMap::new();
    let mut add = |group: &str, version: &str, entry: Entry| {
        found.entry((group.to_owned(), version.to_owned())).or_default().push(entry);
    };
    for resource in registry::served(core) {
        let (group, version) = (resource.group, resource.version);
        add(group, version, Entry::Stored(resource));
    }
    for review in reviews::ALL {
        add(review.group, "v1", Entry::Review(review));
    }
    let mut stale = BTreeSet::new();
    for remote in core.aggregation.remotes() {
        let (id, offered) = ((remote.group.clone(), remote.version.clone()), remote.offered());
        found.insert(id.clone(), offered.resources.iter().cloned().map(Entry::Foreign).collect());
        if !offered.current {
            stale.insert(id);
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    for ((group, name), mut entries) in found {
        entries.sort_by(|a, b| a.name().cmp(b.name()));
        let current = !stale.contains(&(group.clone(), name.clone()));
        let version = Version { name, entries, current };
        match groups.last_mut() {
            Some(last) if last.name == group => last.versions.push(version),
            _ => groups.push(Group { name: group, versions: vec![version] }),
        }
    }
    Order::of(core).sort(&mut groups);
    groups
}
