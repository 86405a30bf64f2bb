//! `groups`: fields that several hosts share. A host's own fields are stronger than its groups', a later group's stronger than an
//! earlier one's, and all of them stronger than `ssh`.
//!
//! Labels (and other fields with fields of their own) are put together, taints are added, everything else is taken as a whole.
//! This is done with the nodes of the file, before they are decoded, so that every field of a host can stand in a group, and
//! what is wrong is told where it stands.

use std::borrow::Cow;

use super::decode::{Fields, Sink, nearest, text};
use super::yaml::{Key, Node, Value};
use super::{one_or_many, roles, ssh};

/// Fields that say which host this is; no two share them.
const OWN: [&str; 5] = ["name", "address", "nodeAddress", "group", "groups"];

pub struct Groups<'a>(&'a [(Key, Node)]);

impl<'a> Groups<'a> {
    pub fn read(root: &mut Fields<'a>, sink: &mut Sink) -> Self {
        let path = root.child("groups");
        let entries: &[(Key, Node)] = match root.node("groups") {
            None => &[],
            Some(Node { value: Value::Map(entries), .. }) => entries,
            Some(node) => {
                sink.add(node.pos, path, format!("expected names with the fields of hosts, found {}", node.kind()));
                &[]
            }
        };
        for (key, node) in entries {
            check(key, node, sink);
            share(node, sink);
        }
        Self(entries)
    }

    /// A host with what the groups that it names say; groups that there are not are told by [`Groups::check`].
    pub fn complete<'n>(&self, host: &'n Node) -> Cow<'n, Node> {
        let Value::Map(own) = &host.value else { return Cow::Borrowed(host) };
        let named = |field: &str| own.iter().find(|(key, _)| key.text == field).map(|(_, node)| node);
        let names: Vec<&str> = ["group", "groups"].into_iter().filter_map(named).flat_map(words).collect();
        if names.is_empty() {
            return Cow::Borrowed(host);
        }
        let mut fields = own.clone();
        for name in names.iter().rev() {
            if let Some((_, Node { value: Value::Map(group), .. })) = self.0.iter().find(|(key, _)| key.text == *name) {
                let group = group.iter().filter(|(key, _)| !OWN.contains(&key.text.as_str()));
                fill(&mut fields, group);
            }
        }
        Cow::Owned(Node { pos: host.pos, value: Value::Map(fields) })
    }

    /// The groups that a host names; those that there are not are told.
    pub fn check(&self, host: &mut Fields<'_>, sink: &mut Sink) -> Vec<String> {
        let mut names = Vec::new();
        for (path, node) in one_or_many(host, "group", "groups") {
            let Some(name) = text(node, &path, sink) else { continue };
            if !self.0.iter().any(|(key, _)| key.text == name.value) {
                let hint = match nearest(&name.value, self.0.iter().map(|(key, _)| key.text.as_str())) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => "name it under `groups`".to_owned(),
                };
                sink.add(name.pos, path, format!("there is no group {:?}; {hint}", name.value));
            }
            names.push(name.value);
        }
        names
    }
}

/// A group alone: what is wrong in it is told as the group's.
fn check(key: &Key, node: &Node, sink: &mut Sink) {
    let mut fields = Fields::open(node, format!("groups.{}", key.text), sink);
    for field in OWN {
        if let Some(node) = fields.node(field) {
            sink.add(node.pos, fields.child(field), "is of one host alone and cannot stand in a group");
        }
    }
    roles(&mut fields, sink);
    fields.strings("labels", sink);
    for (path, node) in fields.list("taints", sink) {
        text(node, &path, sink);
    }
    ssh(&mut fields, sink);
    fields.finish(sink);
}

fn share(node: &Node, sink: &mut Sink) {
    sink.share(node.pos);
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| share(item, sink)),
        Value::Map(entries) => entries.iter().for_each(|(key, value)| {
            sink.share(key.pos);
            share(value, sink);
        }),
        Value::Null | Value::Scalar { .. } => {}
    }
}

fn words(node: &Node) -> Vec<&str> {
    match &node.value {
        Value::Scalar { text, .. } => vec![text],
        Value::List(items) => items.iter().flat_map(words).collect(),
        _ => Vec::new(),
    }
}

/// Takes over what `fields` do not say themselves. `role` and `roles` are one field.
fn fill<'n>(fields: &mut Vec<(Key, Node)>, group: impl Iterator<Item = &'n (Key, Node)>) {
    let has_role = fields.iter().any(|(key, _)| is_role(key));
    for (key, node) in group {
        if has_role && is_role(key) {
            continue;
        }
        let Some((_, there)) = fields.iter_mut().find(|(there, _)| there.text == key.text) else {
            fields.push((key.clone(), node.clone()));
            continue;
        };
        match (&mut there.value, &node.value) {
            (Value::Map(own), Value::Map(group)) => fill(own, group.iter()),
            (Value::List(own), Value::List(group)) if key.text == "taints" => own.extend(group.iter().cloned()),
            _ => {}
        }
    }
}

fn is_role(key: &Key) -> bool {
    matches!(key.text.as_str(), "role" | "roles")
}
