//! The shortest transaction from one table to another.

use std::collections::BTreeMap;

use super::batch::Batch;
use super::model::{Chain, Data, Set, Table};
use crate::Result;

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Increment,
    /// The shape of a set or base chain differed, so the whole table was exchanged.
    Replacement,
}

/// Turns `old`, which the kernel must have, into `new`.
pub fn update(old: &Table, new: &Table) -> Result<Change> {
    if old == new {
        return Ok(Change::Nothing);
    }
    match increment(old, new) {
        Some(batch) => batch.commit().map(|()| Change::Increment),
        None => super::replace(new).map(|()| Change::Replacement),
    }
}

/// `None` if something cannot be changed in place.
fn increment(old: &Table, new: &Table) -> Option<Batch> {
    let table = &new.name;
    let mut batch = Batch::new();
    for (name, set) in &new.sets {
        match old.sets.get(name) {
            None => batch.add_set(table, name, set),
            Some(before) if before.same_shape(set) => {}
            Some(_) => return None,
        }
    }
    for (name, chain) in &new.chains {
        match old.chains.get(name) {
            None => batch.add_chain(table, name, chain),
            Some(before) if before.base == chain.base => {}
            Some(_) => return None,
        }
    }
    // First everything that refers goes, then what was referred to; then the new references come.
    for (name, before) in &old.sets {
        let gone = elements_not_in(&before.elements, new.sets.get(name));
        batch.delete_elements(table, name, &gone);
    }
    for (name, before) in &old.chains {
        if new.chains.get(name).is_none_or(|after| after.rules != before.rules) {
            batch.flush_chain(table, name);
        }
    }
    for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
        batch.delete_chain(table, name);
    }
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
        batch.delete_set(table, name);
    }
    for (name, set) in &new.sets {
        let fresh = elements_not_in(&set.elements, old.sets.get(name));
        batch.add_elements(table, name, &fresh);
    }
    for (name, chain) in &new.chains {
        if rules_differ(old.chains.get(name), chain) {
            batch.add_rules(table, name, chain);
        }
    }
    Some(batch)
}

fn rules_differ(before: Option<&Chain>, after: &Chain) -> bool {
    before.is_none_or(|before| before.rules != after.rules)
}

fn elements_not_in<'a>(elements: &'a BTreeMap<Vec<u8>, Data>, other: Option<&Set>) -> Vec<(&'a Vec<u8>, &'a Data)> {
    elements.iter().filter(|(key, data)| other.and_then(|set| set.elements.get(*key)) != Some(data)).collect()
}
