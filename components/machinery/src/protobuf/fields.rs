//! The table of field numbers (`data/protobuf-fields.txt`, whose head tells its format and source), joined with the schema's types.

use std::{collections::HashMap, sync::OnceLock};

use crate::schema::{self, Type};

/// What the schema's type alone does not say about a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the type says.
    Typed,
    /// A message whose field 1 holds JSON.
    Raw,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    /// A list of strings in a message of its own.
    Strings,
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    /// The number, after those of the messages it is embedded in.
    pub path: Vec<u32>,
    pub form: Form,
    /// A zero value is a value, not an unset field.
    pub keeps_zero: bool,
    pub kind: &'static Type,
}

#[derive(Debug, Default)]
pub struct Message {
    /// By path.
    pub fields: Vec<Field>,
    /// Fields without a known number.
    pub unnumbered: Vec<&'static str>,
}

const DATA: &str = include_str!("../../data/protobuf-fields.txt");

/// The field numbers of a definition (`io.k8s.api.core.v1.Pod`).
pub fn message(definition: &str) -> Option<&'static Message> {
    // read on first use: a cluster whose clients speak JSON never needs it
    static TABLE: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    TABLE.get_or_init(read).get(definition)
}

fn read() -> HashMap<&'static str, Message> {
    let mut table: HashMap<&str, Message> = HashMap::new();
    let mut current = "";
    for line in DATA.lines().filter(|l| !l.starts_with('#')) {
        if !line.starts_with(' ') {
            current = line;
            // only what the schema knows can be transcoded
            if schema::definition(current).is_some() {
                table.insert(current, Message::default());
            }
            continue;
        }
        let Some(message) = table.get_mut(current) else { continue };
        for entry in line.split_whitespace() {
            take(message, current, entry);
        }
    }
    table.values_mut().for_each(|m| m.fields.sort_by(|a, b| a.path.cmp(&b.path)));
    table
}

fn take(message: &mut Message, definition: &str, entry: &'static str) {
    let Some((name, rest)) = entry.split_once('=') else { return };
    if rest == "?" {
        message.unnumbered.push(name);
        return;
    }
    let keeps_zero = rest.ends_with('+');
    let rest = rest.trim_end_matches('+');
    let form = match rest.bytes().last() {
        Some(b'r') => Form::Raw,
        Some(b'a') => Form::SchemaOrArray,
        Some(b'b') => Form::SchemaOrBool,
        Some(b's') => Form::SchemaOrStrings,
        Some(b'x') => Form::Strings,
        _ => Form::Typed,
    };
    let path = rest.trim_end_matches(char::is_alphabetic).split('.').filter_map(|n| n.parse().ok()).collect();
    if let Some(kind) = schema::field(definition, name) {
        message.fields.push(Field { name, path, form, keeps_zero, kind });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    fn object_name(kind: &Type) -> Option<&str> {
        match kind {
            Type::Object(name) => Some(name),
            Type::Map(inner) | Type::List(inner) => object_name(inner),
            _ => None,
        }
    }

    fn is_any(kind: &Type) -> bool {
        match kind {
            Type::Any => true,
            Type::Map(inner) | Type::List(inner) => is_any(inner),
            _ => false,
        }
    }

    fn reached() -> BTreeSet<&'static str> {
        let mut found = BTreeSet::new();
        let mut todo: Vec<&str> = crate::resources::all().map(|r| r.definition).collect();
        todo.push("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
        todo.push("io.k8s.apimachinery.pkg.apis.meta.v1.Status");
        while let Some(name) = todo.pop() {
            if found.insert(name) {
                let message = message(name).unwrap_or_else(|| unreachable!("{name} has no numbers"));
                todo.extend(message.fields.iter().filter_map(|f| object_name(f.kind)));
            }
        }
        found
    }

    #[test]
    fn every_field_has_its_number() {
        for name in reached() {
            let message = message(name).unwrap();
            let definition = schema::definition(name).unwrap();
            for (field, kind) in &definition.fields {
                // kind and version of an object stand in the envelope
                if matches!(field.as_str(), "apiVersion" | "kind") || message.unnumbered.contains(&field.as_str()) {
                    continue;
                }
                let entry = message.fields.iter().find(|f| f.name == field);
                let entry = entry.unwrap_or_else(|| unreachable!("{name}.{field} has no number"));
                assert!(!entry.path.is_empty() && entry.path.iter().all(|n| *n > 0), "{name}.{field}");
                assert_eq!(
                    is_any(kind),
                    matches!(entry.form, Form::Raw | Form::SchemaOrArray | Form::SchemaOrBool | Form::SchemaOrStrings),
                    "{name}.{field}"
                );
            }
            let paths: BTreeSet<_> = message.fields.iter().map(|f| &f.path).collect();
            assert_eq!(paths.len(), message.fields.len(), "{name}: a number given twice");
        }
    }

    #[test]
    fn embedded_messages_have_longer_paths() {
        let volume = message("io.k8s.api.core.v1.Volume").unwrap();
        let secret = volume.fields.iter().find(|f| f.name == "secret").unwrap();
        assert_eq!(secret.path, [2, 6]);
        let key = message("io.k8s.api.core.v1.SecretKeySelector").unwrap();
        assert_eq!(key.fields[0].path, [1, 1]);
    }
}
