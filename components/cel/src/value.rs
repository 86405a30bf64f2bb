//! Values at run time. JSON is not copied: lists, maps and texts of the input are borrowed and read by their declared shape.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    functions::kubernetes::Extra,
    schema::{ListKind, Schema, Shape},
};

#[derive(Clone, Debug)]
pub enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Text<'a>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(OffsetDateTime),
    List(List<'a>),
    Map(Map<'a>),
    Type(Arc<str>),
    Optional(Option<Arc<Val<'a>>>),
    /// A value of a Kubernetes library.
    Extra(Arc<Extra>),
    /// The variable `variables`: its members are computed when they are asked for.
    Variables,
}

#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Owned(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }
}

#[derive(Clone, Debug)]
pub enum List<'a> {
    Json(&'a [Value], Option<(&'a Schema, &'a ListKind)>),
    Made(Arc<Made<Vec<Val<'a>>>>),
}

/// A container that an expression made, with its depth: nesting is bounded so that nothing recurses without end.
#[derive(Clone, Debug)]
pub struct Made<T> {
    pub items: T,
    pub depth: usize,
}

#[derive(Clone, Debug)]
pub enum Map<'a> {
    Json(&'a serde_json::Map<String, Value>, Option<&'a Schema>),
    /// A map, or an object of the named type (`Object{…}`).
    Made(Arc<Made<BTreeMap<Key, Val<'a>>>>, Option<Arc<str>>),
}

/// What may be a key; numbers of different types with the same value are the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Number(i128),
    Str(Arc<str>),
}

impl Key {
    pub fn of(value: &Val<'_>) -> Option<Key> {
        Some(match value {
            Val::Bool(b) => Key::Bool(*b),
            Val::Int(i) => Key::Number((*i).into()),
            Val::Uint(u) => Key::Number((*u).into()),
            Val::Double(d) if d.fract() == 0.0 && d.abs() < 1e19 => Key::Number(*d as i128),
            Val::Str(text) => Key::Str(Arc::from(&**text)),
            _ => return None,
        })
    }

    pub fn value<'a>(&self) -> Val<'a> {
        match self {
            Key::Bool(b) => Val::Bool(*b),
            Key::Number(n) => i64::try_from(*n).map_or_else(|_| Val::Uint(*n as u64), Val::Int),
            Key::Str(text) => Val::Str(Text::Owned(text.clone())),
        }
    }
}

/// Lists and maps deeper than this are refused, as JSON deeper than that cannot be read.
pub const MAX_DEPTH: usize = 256;

impl<'a> Val<'a> {
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Val::Str(Text::Owned(text.into()))
    }

    pub fn list(items: Vec<Val<'a>>) -> Self {
        let depth = items.iter().map(Val::depth).max().unwrap_or(0) + 1;
        Val::List(List::Made(Arc::new(Made { items, depth })))
    }

    pub fn map(items: BTreeMap<Key, Val<'a>>) -> Self {
        Self::object(items, None)
    }

    pub fn object(items: BTreeMap<Key, Val<'a>>, name: Option<Arc<str>>) -> Self {
        let depth = items.values().map(Val::depth).max().unwrap_or(0) + 1;
        Val::Map(Map::Made(Arc::new(Made { items, depth }), name))
    }

    pub fn depth(&self) -> usize {
        match self {
            Val::List(List::Made(made)) => made.depth,
            Val::Map(Map::Made(made, _)) => made.depth,
            Val::Optional(Some(inner)) => inner.depth() + 1,
            // serde_json reads at most 128 levels
            Val::List(_) | Val::Map(_) => 128,
            _ => 0,
        }
    }

    /// The name of its type, as `type()` and error texts give it.
    pub fn type_name(&self) -> &str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::Str(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::Duration(_) => "google.protobuf.Duration",
            Val::Timestamp(_) => "google.protobuf.Timestamp",
            Val::List(_) => "list",
            Val::Map(Map::Made(_, Some(name))) => name,
            Val::Map(Map::Json(_, Some(Schema { shape: Shape::Object(object), .. }))) => &object.name,
            Val::Map(_) | Val::Variables => "map",
            Val::Type(_) => "type",
            Val::Optional(_) => "optional_type",
            Val::Extra(extra) => extra.type_name(),
        }
    }

    /// JSON read by what it is.
    pub fn dynamic(json: &'a Value) -> Self {
        match json {
            Value::Null => Val::Null,
            Value::Bool(b) => Val::Bool(*b),
            Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(int), _) => Val::Int(int),
                (None, Some(uint)) => Val::Double(uint as f64),
                (None, None) => Val::Double(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Val::Str(Text::Borrowed(text)),
            Value::Array(items) => Val::List(List::Json(items, None)),
            Value::Object(map) => Val::Map(Map::Json(map, None)),
        }
    }

    /// JSON read by its schema; what does not fit the schema is read by what it is.
    pub fn read(json: &'a Value, schema: &'a Schema) -> Self {
        match (&schema.shape, json) {
            (Shape::Double, Value::Number(n)) => Val::Double(n.as_f64().unwrap_or(f64::NAN)),
            (Shape::Int, Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
                (Some(int), _) => Val::Int(int),
                (None, Some(f)) if f.fract() == 0.0 && f.abs() < 9.2e18 => Val::Int(f as i64),
                _ => Val::dynamic(json),
            },
            (Shape::List(item, kind), Value::Array(items)) => Val::List(List::Json(items, Some((item, kind)))),
            (Shape::Map(_) | Shape::Object(_), Value::Object(map)) => Val::Map(Map::Json(map, Some(schema))),
            (Shape::Bytes, Value::String(text)) => {
                use base64::Engine;
                match base64::engine::general_purpose::STANDARD.decode(text) {
                    Ok(bytes) => Val::Bytes(bytes.into()),
                    Err(_) => Val::dynamic(json),
                }
            }
            (Shape::Duration, Value::String(text)) => {
                crate::functions::time::parse_duration(text).map_or_else(|| Val::dynamic(json), Val::Duration)
            }
            (Shape::Timestamp(date), Value::String(text)) => {
                crate::functions::time::parse_timestamp(text, *date).map_or_else(|| Val::dynamic(json), Val::Timestamp)
            }
            _ => Val::dynamic(json),
        }
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Made(made) => made.items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Val<'a>> {
        match self {
            List::Json(items, Some((schema, _))) => items.get(index).map(|v| Val::read(v, schema)),
            List::Json(items, None) => items.get(index).map(Val::dynamic),
            List::Made(made) => made.items.get(index).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Val<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    pub fn kind(&self) -> Option<&'a ListKind> {
        match self {
            List::Json(_, Some((_, kind))) => Some(kind),
            _ => None,
        }
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Made(made, _) => made.items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value under a key; of an object, under an escaped field name.
    pub fn get(&self, key: &Key) -> Option<Val<'a>> {
        match (self, key) {
            (Map::Made(made, _), key) => made.items.get(key).cloned(),
            (Map::Json(map, schema), Key::Str(name)) => read_entry(map, *schema, name),
            _ => None,
        }
    }

    pub fn field(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Map::Json(map, schema) => read_entry(map, *schema, name),
            Map::Made(..) => self.get(&Key::Str(name.into())),
        }
    }

    pub fn keys(&self) -> Vec<Key> {
        match self {
            Map::Json(map, Some(Schema { shape: Shape::Object(object), .. })) => object
                .fields
                .iter()
                .filter(|(_, f)| map.contains_key(&f.name))
                .map(|(k, _)| Key::Str(k.as_str().into()))
                .collect(),
            Map::Json(map, _) => map.keys().map(|k| Key::Str(k.as_str().into())).collect(),
            Map::Made(made, _) => made.items.keys().cloned().collect(),
        }
    }
}

fn read_entry<'a>(map: &'a serde_json::Map<String, Value>, schema: Option<&'a Schema>, name: &str) -> Option<Val<'a>> {
    match schema.map(|s| &s.shape) {
        Some(Shape::Object(object)) => {
            let field = object.fields.get(name)?;
            let value = map.get(&field.name)?;
            // null in a field that is not nullable counts as absent
            if value.is_null() && !field.schema.nullable && !matches!(field.schema.shape, Shape::Dyn) {
                return None;
            }
            Some(Val::read(value, &field.schema))
        }
        Some(Shape::Map(item)) => map.get(name).map(|v| Val::read(v, item)),
        _ => map.get(name).map(Val::dynamic),
    }
}
