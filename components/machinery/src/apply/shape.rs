//! How the values of a type merge.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{builtin, element};

/// What a plain value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    String,
    Number,
    Bool,
    /// Whatever is neither a map nor a list: quantities, times, integers or strings.
    Any,
}

/// How a type merges. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Shape {
    Scalar(Scalar),
    Map(Arc<MapShape>),
    List(Arc<ListShape>),
    /// A built-in definition; `atomic` overrides what the definition itself says.
    Definition {
        name: Arc<str>,
        atomic: Option<bool>,
    },
    /// Free content: maps are many fields, lists are one.
    Deduced,
    /// Free content that is one field.
    Opaque,
}

/// A struct (`fields`) or a map (`values`), or both.
#[derive(Debug, Default)]
pub struct MapShape {
    pub fields: BTreeMap<String, Shape>,
    /// Of the keys that are not fields; `None`: there may be no others.
    pub values: Option<Shape>,
    pub atomic: bool,
    /// Fields that are never absent where the struct is: Go structs that are no pointers.
    pub implicit: &'static [&'static str],
}

#[derive(Debug)]
pub struct ListShape {
    pub item: Shape,
    pub relation: Relation,
}

/// How a list's elements are told apart.
#[derive(Debug)]
pub enum Relation {
    /// Not at all: the list is one field.
    Atomic,
    /// By their value.
    Set,
    /// By the values of these fields, in order of their names.
    Keys(Vec<Key>),
}

#[derive(Debug)]
pub struct Key {
    pub name: String,
    /// What an element without the field has.
    pub default: Option<Value>,
}

/// A shape with references followed.
#[derive(Clone, Copy)]
pub enum Resolved<'s> {
    Scalar(Scalar),
    Map { map: &'s MapShape, atomic: bool },
    List(&'s ListShape),
    Deduced,
    Opaque,
}

impl Shape {
    pub fn resolve(&self) -> Resolved<'_> {
        match self {
            Shape::Scalar(scalar) => Resolved::Scalar(*scalar),
            Shape::Map(map) => Resolved::Map { map, atomic: map.atomic },
            Shape::List(list) => Resolved::List(list),
            Shape::Definition { name, atomic } => match builtin::definition(name) {
                Some(map) => Resolved::Map { map, atomic: atomic.unwrap_or(map.atomic) },
                None => Resolved::Deduced,
            },
            Shape::Deduced => Resolved::Deduced,
            Shape::Opaque => Resolved::Opaque,
        }
    }
}

impl MapShape {
    /// The shape under a key, and whether it is a declared field; `None` for a key that there may not be.
    pub fn child(&self, key: &str) -> Option<(&Shape, bool)> {
        self.fields.get(key).map(|shape| (shape, true)).or_else(|| self.values.as_ref().map(|shape| (shape, false)))
    }

    /// As `child`; keys that there may not be are one field each.
    pub fn child_or_opaque(&self, key: &str) -> (&Shape, bool) {
        self.child(key).unwrap_or((&Shape::Opaque, false))
    }
}

impl ListShape {
    pub fn is_atomic(&self) -> bool {
        matches!(self.relation, Relation::Atomic)
    }

    /// The step that leads to an element.
    pub fn step(&self, item: &Value) -> Result<String, String> {
        match &self.relation {
            Relation::Atomic => Err("invalid indexing of non-associative list".into()),
            Relation::Set => element::value(item).map_err(str::to_owned),
            Relation::Keys(keys) => element::keyed(keys, item),
        }
    }
}
