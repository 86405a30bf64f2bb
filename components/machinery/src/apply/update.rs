//! Ownership after a create, update or patch: who changed a field owns it.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value};

use super::{
    Versions,
    compare::{Comparison, compare},
    conflict::Conflict,
    fields::reconciled,
    managers::{self, Entry, Operation, Writer},
    set::FieldSet,
    shape::Shape,
};

/// Fields that nobody owns: the server sets them, or they say which object it is.
static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// What ownership depends on beside the objects.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub shape: &'a Shape,
    /// Fields that this kind of request cannot set, with everything below them.
    pub reset: &'a FieldSet,
    pub versions: &'a dyn Versions,
}

/// Without what nobody owns and what the request cannot set.
pub fn ownable(mut fields: FieldSet, rules: &Rules) -> FieldSet {
    fields.subtract_trees(rules.reset);
    fields.subtract(&UNOWNED);
    fields
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

pub fn take_managed_fields(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

pub fn put_managed_fields(object: &mut Value, entries: Vec<Entry>) {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), Some(list)) = (metadata, managers::encode(entries)) {
        metadata.insert("managedFields".into(), list);
    }
}

/// An empty list or `[{}]`: the client wants ownership to be forgotten.
fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// The entries to begin with: those the client sent, if it may send any and sent some, or else those that are there.
fn begin(live: &Value, requested: Option<Value>, writer: &Writer) -> Vec<Entry> {
    let stored = managed_fields(live);
    let own = || managers::decode(stored.cloned().unwrap_or_default()).unwrap_or_default();
    let Some(requested) = requested.filter(|_| writer.subresource.is_empty()) else { return own() };
    if is_reset(&requested) {
        return Vec::new();
    }
    if Some(&requested) == stored {
        return managers::decode(requested).unwrap_or_default();
    }
    match managers::decode_checked(requested) {
        Ok(entries) if !entries.is_empty() => entries,
        _ => own(),
    }
}

/// Sets `managedFields` of `new`, which is about to replace `live` (`None`: it is being created).
pub fn update(live: Option<&Value>, new: &mut Value, writer: &Writer, rules: &Rules) {
    static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
    let requested = take_managed_fields(new);
    let mut entries = begin(live.unwrap_or(&NOTHING), requested, writer);
    if entries.is_empty() && live.is_some() {
        return;
    }
    own(live.unwrap_or(&NOTHING), new, writer, rules, &mut entries);
    managers::cap(&mut entries);
    put_managed_fields(new, entries);
}

/// Gives the writer what differs.
pub fn own(live: &Value, new: &Value, writer: &Writer, rules: &Rules, entries: &mut Vec<Entry>) {
    reconcile(live, writer, rules, entries);
    // an update takes over: there are no conflicts
    let Ok(comparison) = settle(live, new, writer, rules, entries, None, true) else { return };
    let mine = ownable(comparison.into_set(), rules);
    if mine.is_empty() {
        return;
    }
    match entries.iter_mut().find(|entry| entry.is_of(writer, Operation::Update)) {
        Some(entry) => {
            entry.fields().unite(mine);
            entry.time = Some(writer.time.to_owned());
        }
        None => entries.push(Entry::new(writer, Operation::Update, mine)),
    }
}

/// Takes from all managers but one applier what differs between two objects. Without `force` a field that somebody owns and that
/// is new or changed is a conflict.
pub fn settle(
    live: &Value,
    new: &Value,
    writer: &Writer,
    rules: &Rules,
    entries: &mut Vec<Entry>,
    applier: Option<usize>,
    force: bool,
) -> Result<Comparison, Vec<Conflict>> {
    let mut comparison = compare(live, new, rules.shape);
    comparison.ignore(rules.reset);
    let mut versions: BTreeMap<String, Option<Comparison>> = BTreeMap::new();
    let mut conflicts = Vec::new();
    let mut missing = Vec::new();
    for (index, entry) in entries.iter_mut().enumerate() {
        if Some(index) == applier {
            continue;
        }
        let changes = if entry.api_version == writer.api_version {
            &comparison
        } else {
            let other = versions.entry(entry.api_version.clone()).or_insert_with_key(|version| {
                let (before, shape) = rules.versions.convert(live, version)?;
                let (after, _) = rules.versions.convert(new, version)?;
                let mut comparison = compare(&before, &after, &shape);
                comparison.ignore(rules.reset);
                Some(comparison)
            });
            match other {
                Some(other) => other,
                None => {
                    missing.push(index);
                    continue;
                }
            }
        };
        lose(entry, changes, force, &mut conflicts);
    }
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    let mut index = 0;
    entries.retain(|_| {
        index += 1;
        !missing.contains(&(index - 1))
    });
    Ok(comparison)
}

fn lose(entry: &mut Entry, changes: &Comparison, force: bool, conflicts: &mut Vec<Conflict>) {
    for set in [&changes.modified, &changes.added] {
        if !entry.touches(set) {
            continue;
        }
        if force {
            entry.fields().subtract(set);
        } else {
            let paths = entry.fields().intersection(set).paths();
            conflicts.extend(paths.into_iter().map(|path| Conflict::new(entry, path)));
        }
    }
    if entry.touches(&changes.removed) {
        entry.fields().subtract(&changes.removed);
    }
}

/// Only schemas of custom resources change under the objects.
pub fn reconcile(live: &Value, writer: &Writer, rules: &Rules, entries: &mut [Entry]) {
    if matches!(rules.shape, Shape::Definition { .. }) || live.as_object().is_none_or(Map::is_empty) {
        return;
    }
    for entry in entries.iter_mut().filter(|entry| entry.api_version == writer.api_version) {
        let now = reconciled(entry.fields(), rules.shape);
        if now != *entry.fields() {
            entry.set_fields(now);
        }
    }
}

/// A write that changes nothing but times in `managedFields` changes nothing: the old times stay.
pub fn keep_times(new: &mut Value, old: &Value) {
    let (Some(Value::Array(after)), Some(Value::Array(before))) = (managed_fields(new), managed_fields(old)) else {
        return;
    };
    if after == before || after.len() != before.len() {
        return;
    }
    let same = after.iter().zip(before).all(|(a, b)| same_but(a, b, "time"));
    if !same {
        return;
    }
    let rest = new.as_object().zip(old.as_object()).is_some_and(|(n, o)| {
        n.len() == o.len() && n.iter().all(|(key, value)| key == "metadata" || o.get(key) == Some(value))
    });
    if rest && same_but(&new["metadata"], &old["metadata"], "managedFields") {
        new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
    }
}

/// Whether two objects differ at most in the value of one key.
fn same_but(a: &Value, b: &Value, key: &str) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    a.len() == b.len() && a.iter().all(|(k, v)| if k == key { b.contains_key(k) } else { b.get(k) == Some(v) })
}
