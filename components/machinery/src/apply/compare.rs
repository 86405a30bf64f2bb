//! What differs between two objects, as sets of fields.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value};

use super::{
    element,
    set::FieldSet,
    shape::{ListShape, MapShape, Resolved, Shape},
};

/// The fields that differ; no field is in more than one of the sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Forgets these fields and everything below them.
    pub fn ignore(&mut self, fields: &FieldSet) {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.subtract_trees(fields);
        }
    }

    /// What the new object has and the old one had not, or not so.
    pub fn into_set(self) -> FieldSet {
        let mut set = self.modified;
        set.unite(self.added);
        set
    }
}

/// Compares two objects of a shape.
pub fn compare(old: &Value, new: &Value, shape: &Shape) -> Comparison {
    walk(Some(old), Some(new), shape).below
}

#[derive(Clone, Copy, PartialEq)]
enum Change {
    Added,
    Modified,
    Removed,
}

/// What became of a value itself and of what is below it.
#[derive(Default)]
struct Diff {
    own: Option<Change>,
    below: Comparison,
}

impl Comparison {
    fn add(&mut self, step: String, diff: Diff) {
        let Diff { own, below } = diff;
        if own.is_none() && below.is_same() {
            return;
        }
        let became = |wanted: Change| own == Some(wanted);
        let parts = [
            (&mut self.added, became(Change::Added), below.added),
            (&mut self.modified, became(Change::Modified), below.modified),
            (&mut self.removed, became(Change::Removed), below.removed),
        ];
        // most changes are of one kind: the step is copied only for others
        let mut step = Some(step);
        let mut wanted = parts.into_iter().filter(|(_, member, below)| *member || !below.is_empty()).peekable();
        while let Some((set, member, below)) = wanted.next() {
            let last = wanted.peek().is_none();
            let step = if last { step.take() } else { step.clone() };
            set.add(step.unwrap_or_default(), member, below);
        }
    }
}

/// At least one side is there.
fn walk(old: Option<&Value>, new: Option<&Value>, shape: &Shape) -> Diff {
    match shape.resolve() {
        Resolved::Map { map, atomic: false } => maps(old, new, Some(map)),
        Resolved::List(list) if !list.is_atomic() => lists(old, new, list),
        Resolved::Deduced if is_map(old) || is_map(new) => {
            let mut diff = maps(old, new, None);
            // one side is no map: the field itself changed too
            if old.is_some_and(|v| !v.is_object()) || new.is_some_and(|v| !v.is_object()) {
                diff.own = leaf(old, new).own;
            }
            diff
        }
        _ => leaf(old, new),
    }
}

fn is_map(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_object)
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Diff {
    Diff { own: change(old, new), below: Comparison::default() }
}

fn change(old: Option<&Value>, new: Option<&Value>) -> Option<Change> {
    match (old, new) {
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
        (Some(old), Some(new)) => (!equal(old, new)).then_some(Change::Modified),
    }
}

/// 1 and 1.0 are the same number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || ((x.is_f64() || y.is_f64()) && x.as_f64() == y.as_f64()),
        _ => a == b,
    }
}

/// A container that came or went is a field itself.
fn presence(old: Option<&Value>, new: Option<&Value>) -> Option<Change> {
    match (old, new) {
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
        _ => None,
    }
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

fn entries(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|map| !map.is_empty())
}

/// Compares maps; `shape` is `None` for free content.
fn maps(old: Option<&Value>, new: Option<&Value>, shape: Option<&MapShape>) -> Diff {
    let (before, after) = (entries(old), entries(new));
    if before.is_none() && after.is_none() {
        return leaf(old, new);
    }
    let none = Map::new();
    let (before, after) = (before.unwrap_or(&none), after.unwrap_or(&none));
    let mut below = Comparison::default();
    let keys = after.keys().chain(before.keys().filter(|key| !after.contains_key(*key)));
    for key in keys {
        let (mut l, mut r) = (before.get(key), after.get(key));
        let inner = shape.map_or(&Shape::Deduced, |map| map.child_or_opaque(key).0);
        if shape.is_some_and(|map| map.implicit.contains(&key.as_str())) {
            l = l.or(old.map(|_| &*EMPTY));
            r = r.or(new.map(|_| &*EMPTY));
        }
        let diff = walk(l, r, inner);
        if diff.own.is_some() || !diff.below.is_same() {
            below.add(element::field(key), diff);
        }
    }
    Diff { own: presence(old, new), below }
}

/// The elements of both lists that share a step.
#[derive(Default)]
struct Pair<'v> {
    old: Vec<&'v Value>,
    new: Vec<&'v Value>,
}

fn lists(old: Option<&Value>, new: Option<&Value>, shape: &ListShape) -> Diff {
    let before = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let after = new.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if before.is_empty() && after.is_empty() {
        return leaf(old, new);
    }
    if before == after {
        return Diff::default();
    }
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    for item in before {
        if let Ok(step) = shape.step(item) {
            pairs.entry(step).or_default().old.push(item);
        }
    }
    for item in after {
        if let Ok(step) = shape.step(item) {
            pairs.entry(step).or_default().new.push(item);
        }
    }
    let mut below = Comparison::default();
    for (step, pair) in pairs {
        let diff = elements(&pair, &shape.item);
        below.add(step, diff);
    }
    Diff { own: presence(old, new), below }
}

/// Elements that are there more than once are compared as one field.
fn elements(pair: &Pair, shape: &Shape) -> Diff {
    match (pair.old.as_slice(), pair.new.as_slice()) {
        (old @ ([] | [_]), new @ ([] | [_])) => walk(old.first().copied(), new.first().copied(), shape),
        (old @ [_, _, ..], new @ [_, _, ..]) => {
            Diff { own: (old != new).then_some(Change::Modified), below: Comparison::default() }
        }
        ([_, _, ..], new) => Diff {
            own: Some(Change::Removed),
            below: new.first().map(|new| walk(None, Some(new), shape).below).unwrap_or_default(),
        },
        (old, _) => Diff {
            own: Some(Change::Added),
            below: old.first().map(|old| walk(Some(old), None, shape).below).unwrap_or_default(),
        },
    }
}
