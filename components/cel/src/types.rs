//! Types of expressions.

use std::{fmt, sync::Arc};

use crate::schema::Object;

/// The type of an expression, as the checker sees it.
#[derive(Clone, Debug)]
pub enum Type {
    /// Known only at run time.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    /// The type of a type: what `type(x)` gives.
    Type(Arc<Type>),
    /// A parameter of a function's signature, or one not yet known.
    Param(usize),
    /// A library's own type: `kubernetes.URL`, `net.IP`, …
    Opaque(&'static str),
    /// An object with declared fields; equal when the names are.
    Object(Arc<Object>),
    /// After a problem was reported: fits everything, so that one problem is reported once.
    Error,
}

impl Type {
    pub fn list(of: Type) -> Self {
        Type::List(Arc::new(of))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    pub fn optional(of: Type) -> Self {
        Type::Optional(Arc::new(of))
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// Whether `null` is a value of it, as protobuf messages and wrappers are nullable.
    pub fn takes_null(&self) -> bool {
        matches!(
            self,
            Type::Null | Type::Object(_) | Type::Opaque(_) | Type::Duration | Type::Timestamp | Type::Optional(_)
        )
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Type::List(a), Type::List(b))
            | (Type::Optional(a), Type::Optional(b))
            | (Type::Type(a), Type::Type(b)) => a == b,
            (Type::Map(a, b), Type::Map(c, d)) => a == c && b == d,
            (Type::Param(a), Type::Param(b)) => a == b,
            (Type::Opaque(a), Type::Opaque(b)) => a == b,
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Type {
    /// As error texts name it: `list(int)`, `map(string, dyn)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn | Type::Param(_) => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Duration => f.write_str("google.protobuf.Duration"),
            Type::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Type::List(item) => write!(f, "list({item})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Type(inner) => write!(f, "type({inner})"),
            Type::Opaque(name) => f.write_str(name),
            Type::Object(object) => f.write_str(&object.name),
            Type::Error => f.write_str("!error!"),
        }
    }
}

/// Reads a type from a signature: `list(A)`, `map(string, B)`, `optional(A)`, `kubernetes.URL`. Capitals are parameters.
pub fn parse(text: &'static str) -> Type {
    let text = text.trim();
    if let Some((head, inner)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        return match head {
            "list" => Type::list(parse(inner)),
            "optional" => Type::optional(parse(inner)),
            "type" => Type::Type(Arc::new(parse(inner))),
            _ => {
                let (key, value) = inner.split_once(',').unwrap_or((inner, "dyn"));
                Type::map(parse(key), parse(value))
            }
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        other => Type::Opaque(other),
    }
}
