//! Reads typed fields out of a marked YAML tree and collects every problem instead of stopping at the first.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use super::yaml::{Key, Node, Pos, Value};

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    pub value: T,
    pub pos: Pos,
}

/// One thing that is wrong in an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub pos: Pos,
    /// The field, e.g. `hosts[1].address`; empty for the whole file.
    pub path: String,
    pub message: String,
}

/// Every problem of one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    pub file: String,
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.list.len() == 1 { "" } else { "s" };
        write!(f, "{} has {} problem{plural}:", self.file, self.list.len())?;
        for problem in &self.list {
            let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
            write!(f, "\n  {}:{}:{}: {path}{}", self.file, problem.pos.line, problem.pos.column, problem.message)?;
        }
        Ok(())
    }
}

/// Where problems gather.
#[derive(Debug, Default)]
pub struct Sink {
    problems: Vec<Problem>,
    /// Places that several parts of the inventory are read from.
    shared: HashSet<Pos>,
}

impl Sink {
    pub fn add(&mut self, pos: Pos, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { pos, path: path.into(), message: message.into() });
    }

    /// What is wrong at this place is told for the first part that is read from it alone.
    pub fn share(&mut self, pos: Pos) {
        self.shared.insert(pos);
    }

    /// `Ok` when nothing was reported; otherwise all of it, in the order of the file.
    pub fn result(mut self, file: &str) -> Result<(), Problems> {
        let mut told = HashMap::new();
        let shared = self.shared;
        self.problems.retain(|problem| {
            let first = told.entry(problem.pos).or_insert_with(|| problem.path.clone());
            !shared.contains(&problem.pos) || *first == problem.path
        });
        if self.problems.is_empty() {
            return Ok(());
        }
        self.problems.sort_by_key(|problem| problem.pos);
        Err(Problems { file: file.to_owned(), list: self.problems })
    }
}

/// The fields of one mapping. Asking for a field makes it known; [`Fields::finish`] reports those nobody asked for.
pub struct Fields<'a> {
    entries: &'a [(Key, Node)],
    pub pos: Pos,
    pub path: String,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub fn open(node: &'a Node, path: impl Into<String>, sink: &mut Sink) -> Self {
        let path = path.into();
        let entries: &[(Key, Node)] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                sink.add(node.pos, &path, format!("expected fields (`name: value`), found {}", node.kind()));
                &[]
            }
        };
        Self { entries, pos: node.pos, path, known: Vec::new() }
    }

    pub fn child(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// The field's node unless it is absent or null.
    pub fn node(&mut self, field: &'static str) -> Option<&'a Node> {
        self.known.push(field);
        let (_, node) = self.entries.iter().find(|(key, _)| key.text == field)?;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// A mapping as field; `None` when absent.
    pub fn section(&mut self, field: &'static str, sink: &mut Sink) -> Option<Fields<'a>> {
        let path = self.child(field);
        self.node(field).map(|node| Fields::open(node, path, sink))
    }

    /// As [`Fields::section`], but `field:` with nothing after it counts as an empty mapping.
    pub fn section_even_if_empty(&mut self, field: &'static str, sink: &mut Sink) -> Option<Fields<'a>> {
        self.known.push(field);
        let path = self.child(field);
        let (_, node) = self.entries.iter().find(|(key, _)| key.text == field)?;
        Some(Fields::open(node, path, sink))
    }

    pub fn string(&mut self, field: &'static str, sink: &mut Sink) -> Option<At<String>> {
        let path = self.child(field);
        self.node(field).and_then(|node| text(node, &path, sink))
    }

    pub fn required(&mut self, field: &'static str, sink: &mut Sink) -> Option<At<String>> {
        if !self.entries.iter().any(|(key, node)| key.text == field && !matches!(node.value, Value::Null)) {
            self.known.push(field);
            sink.add(self.pos, self.child(field), "is required");
            return None;
        }
        self.string(field, sink)
    }

    /// A value with a textual form; `expected` completes "expected …" in the message.
    pub fn parsed<T: FromStr>(&mut self, field: &'static str, expected: &str, sink: &mut Sink) -> Option<At<T>> {
        let path = self.child(field);
        let At { value, pos } = self.string(field, sink)?;
        match value.parse() {
            Ok(value) => Some(At { value, pos }),
            Err(_) => {
                sink.add(pos, path, format!("expected {expected}, found {value:?}"));
                None
            }
        }
    }

    pub fn boolean(&mut self, field: &'static str, sink: &mut Sink) -> Option<bool> {
        self.parsed::<bool>(field, "true or false", sink).map(|at| at.value)
    }

    /// One of some words; others are refused with what was probably meant.
    pub fn choice<T: Copy>(&mut self, field: &'static str, choices: &[(&str, T)], sink: &mut Sink) -> Option<T> {
        let path = self.child(field);
        let At { value, pos } = self.string(field, sink)?;
        pick(&value, choices).map_err(|message| sink.add(pos, path, message)).ok()
    }

    pub fn list(&mut self, field: &'static str, sink: &mut Sink) -> Vec<(String, &'a Node)> {
        let path = self.child(field);
        match self.node(field) {
            None => Vec::new(),
            Some(Node { value: Value::List(items), .. }) => {
                items.iter().enumerate().map(|(index, node)| (format!("{path}[{index}]"), node)).collect()
            }
            Some(node) => {
                sink.add(node.pos, path, format!("expected a list (`- …`), found {}", node.kind()));
                Vec::new()
            }
        }
    }

    /// A list of texts; what is none is told and left out.
    pub fn texts(&mut self, field: &'static str, sink: &mut Sink) -> Vec<At<String>> {
        let list = self.list(field, sink);
        list.into_iter().filter_map(|(path, node)| text(node, &path, sink)).collect()
    }

    /// A mapping of free names to text, such as labels.
    pub fn strings(&mut self, field: &'static str, sink: &mut Sink) -> Vec<(At<String>, At<String>)> {
        let path = self.child(field);
        match self.node(field) {
            None => Vec::new(),
            Some(Node { value: Value::Map(entries), .. }) => entries
                .iter()
                .filter_map(|(key, node)| {
                    let value = match node.value {
                        Value::Null => Some(At { value: String::new(), pos: node.pos }),
                        _ => text(node, &format!("{path}.{}", key.text), sink),
                    };
                    Some((At { value: key.text.clone(), pos: key.pos }, value?))
                })
                .collect(),
            Some(node) => {
                sink.add(node.pos, path, format!("expected names with values, found {}", node.kind()));
                Vec::new()
            }
        }
    }

    /// Reports every field that nobody asked for.
    pub fn finish(self, sink: &mut Sink) {
        for (key, _) in self.entries {
            if !self.known.contains(&key.text.as_str()) {
                let hint = nearest(&key.text, self.known.iter().copied()).map_or_else(
                    || format!("known here: {}", self.known.join(", ")),
                    |name| format!("did you mean {name:?}?"),
                );
                sink.add(key.pos, self.child(&key.text), format!("unknown field; {hint}"));
            }
        }
    }
}

/// A scalar's text.
pub fn text(node: &Node, path: &str, sink: &mut Sink) -> Option<At<String>> {
    match &node.value {
        Value::Scalar { text, .. } => Some(At { value: text.clone(), pos: node.pos }),
        _ => {
            sink.add(node.pos, path, format!("expected a single value, found {}", node.kind()));
            None
        }
    }
}

pub fn pick<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
        return Ok(*choice);
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    let hint =
        nearest(value, names.iter().copied()).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
    Err(format!("expected {}, found {value:?}{hint}", names.join(" or ")))
}

/// What was probably meant by a word that is none of these.
pub fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|name| (strsim::jaro_winkler(&word.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
