//! Merging an applied configuration into an object: fields it mentions take its values, nothing goes.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::shape::{ListShape, MapShape, Resolved, Shape};

/// `live` with what `config` says. Elements that both lists have come in the order of the configuration.
pub fn merge(live: &Value, config: &Value, shape: &Shape) -> Value {
    walk(Some(live), Some(config), shape).unwrap_or_else(|| config.clone())
}

/// `None` for a container in which nothing is left to say.
fn walk(live: Option<&Value>, config: Option<&Value>, shape: &Shape) -> Option<Value> {
    match shape.resolve() {
        Resolved::Map { map, atomic: false } => maps(live, config, Some(map)),
        Resolved::List(list) if !list.is_atomic() => lists(live, config, list),
        Resolved::Deduced if config.or(live).is_some_and(Value::is_object) => maps(live, config, None),
        _ => keep(live, config),
    }
}

fn keep(live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    config.or(live).cloned()
}

fn entries(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|map| !map.is_empty())
}

fn maps(live: Option<&Value>, config: Option<&Value>, shape: Option<&MapShape>) -> Option<Value> {
    let (old, new) = (entries(live), entries(config));
    if old.is_none() && new.is_none() {
        return keep(live, config);
    }
    let mut out = Map::new();
    for (key, value) in old.into_iter().flatten() {
        let inner = shape.map_or(&Shape::Deduced, |map| map.child_or_opaque(key).0);
        if let Some(merged) = walk(Some(value), new.and_then(|new| new.get(key)), inner) {
            out.insert(key.clone(), merged);
        }
    }
    for (key, value) in new.into_iter().flatten().filter(|(key, _)| old.is_none_or(|old| !old.contains_key(*key))) {
        let inner = shape.map_or(&Shape::Deduced, |map| map.child_or_opaque(key).0);
        if let Some(merged) = walk(None, Some(value), inner) {
            out.insert(key.clone(), merged);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// A list's elements by their steps. Of elements that are there twice none stands for the others.
struct Index<'v> {
    steps: Vec<(String, &'v Value)>,
    by_step: HashMap<String, Option<&'v Value>>,
}

fn index<'v>(items: &'v [Value], shape: &ListShape) -> Index<'v> {
    let mut steps = Vec::with_capacity(items.len());
    let mut by_step = HashMap::with_capacity(items.len());
    for item in items {
        let Ok(step) = shape.step(item) else { continue };
        by_step.entry(step.clone()).and_modify(|it| *it = None).or_insert(Some(item));
        steps.push((step, item));
    }
    Index { steps, by_step }
}

fn lists(live: Option<&Value>, config: Option<&Value>, shape: &ListShape) -> Option<Value> {
    let old = live.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let new = config.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if old.is_empty() && new.is_empty() {
        return keep(live, config);
    }
    let (old, new) = (index(old, shape), index(new, shape));
    let merged = |step: &str, value: Option<&Value>| {
        let theirs = old.by_step.get(step).copied().flatten();
        walk(theirs, value, &shape.item)
    };
    let mut out = Vec::with_capacity(old.steps.len().max(new.steps.len()));
    // the elements both have, in the configuration's order: the next one to be written
    let mut shared =
        new.steps.iter().filter(|(step, _)| old.by_step.contains_key(step)).map(|(step, _)| step).peekable();
    let mut done: HashSet<&str> = HashSet::new();
    let (mut l, mut r) = (old.steps.iter().peekable(), new.steps.iter().peekable());
    loop {
        if let (Some((theirs, _)), Some((ours, value))) = (l.peek(), r.peek()) {
            if theirs == ours {
                out.extend(merged(ours, Some(value)));
                done.insert(ours);
                l.next();
                r.next();
                shared.next();
                continue;
            }
            if new.by_step.contains_key(theirs) && shared.peek().is_some_and(|next| *next != theirs) {
                l.next();
                continue;
            }
        }
        if let Some((theirs, value)) = l.peek() {
            if !new.by_step.contains_key(theirs) {
                out.extend(walk(Some(value), None, &shape.item));
                l.next();
                continue;
            }
            if done.contains(theirs.as_str()) {
                l.next();
            }
        }
        match r.next() {
            Some((ours, value)) => {
                out.extend(merged(ours, Some(value)));
                done.insert(ours);
                shared.next_if(|next| *next == ours);
            }
            None if l.peek().is_none() => break,
            // what is left was written with the configuration's elements
            None => {}
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}
