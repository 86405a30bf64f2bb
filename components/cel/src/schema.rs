//! Declared shapes of data: what a variable holds, for the checker, for estimating costs, and for reading JSON by it.

use std::{collections::BTreeMap, sync::Arc};

use crate::types::Type;

/// How JSON at a place is read.
#[derive(Clone, Debug)]
pub enum Shape {
    /// By what the JSON itself is.
    Dyn,
    Bool,
    Int,
    Double,
    String,
    /// base64 text
    Bytes,
    /// Text such as `1h30m`.
    Duration,
    /// RFC 3339 text; `true`: a date without time.
    Timestamp(bool),
    List(Arc<Schema>, ListKind),
    Map(Arc<Schema>),
    Object(Arc<Object>),
    /// Not JSON: `authorizer` and the like.
    Typed(Type),
}

/// `x-kubernetes-list-type`: how lists are compared and joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    /// The keys (already escaped? no: as in the JSON).
    Map(Vec<String>),
}

/// A shape, and how large its values may become.
#[derive(Clone, Debug)]
pub struct Schema {
    pub shape: Shape,
    /// Elements, entries or characters at most; `None` is unbounded.
    pub max: Option<u64>,
    pub nullable: bool,
}

#[derive(Debug)]
pub struct Object {
    pub name: String,
    /// By the name expressions use (escaped).
    pub fields: BTreeMap<String, Field>,
}

#[derive(Debug)]
pub struct Field {
    /// As in the JSON.
    pub name: String,
    pub schema: Schema,
}

impl Schema {
    pub fn of(shape: Shape) -> Self {
        Schema { shape, max: None, nullable: false }
    }

    pub fn max(mut self, max: u64) -> Self {
        self.max = Some(max);
        self
    }

    pub fn dynamic() -> Self {
        Self::of(Shape::Dyn)
    }

    pub fn string() -> Self {
        Self::of(Shape::String)
    }

    pub fn list(item: Schema) -> Self {
        Self::of(Shape::List(Arc::new(item), ListKind::Atomic))
    }

    pub fn map(value: Schema) -> Self {
        Self::of(Shape::Map(Arc::new(value)))
    }

    /// An object whose fields need no escaping.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, Schema)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, schema)| (name.to_owned(), Field { name: name.to_owned(), schema }))
            .collect();
        Self::of(Shape::Object(Arc::new(Object { name: name.to_owned(), fields })))
    }

    pub fn ty(&self) -> Type {
        match &self.shape {
            Shape::Dyn => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Duration => Type::Duration,
            Shape::Timestamp(_) => Type::Timestamp,
            Shape::List(item, _) => Type::list(item.ty()),
            Shape::Map(value) => Type::map(Type::String, value.ty()),
            Shape::Object(object) => Type::Object(object.clone()),
            Shape::Typed(ty) => ty.clone(),
        }
    }

    /// What lies one step of a path below: a field, `@items`, `@values`, `@keys`.
    pub fn step(&self, step: &str) -> Option<Schema> {
        match (&self.shape, step) {
            (Shape::List(item, _), "@items") => Some((**item).clone()),
            (Shape::Map(value), "@values") => Some((**value).clone()),
            (Shape::Map(_), "@keys") => Some(Schema { max: None, ..Schema::string() }),
            (Shape::Map(value), _) if !step.starts_with('@') => Some((**value).clone()),
            (Shape::Object(object), _) => object.fields.get(step).map(|f| f.schema.clone()),
            _ => None,
        }
    }
}

const WORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name by which expressions reach a property, or `None` if they cannot (apiserver `pkg/cel/escaping.go`).
pub fn escape(property: &str) -> Option<String> {
    let begins_well = property.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    if !begins_well || !property.chars().all(fits) {
        return None;
    }
    if WORDS.contains(&property) {
        return Some(format!("__{property}__"));
    }
    let escaped = property.replace("__", "\u{0}").replace('.', "__dot__").replace('-', "__dash__");
    Some(escaped.replace('/', "__slash__").replace('\u{0}', "__underscores__"))
}
