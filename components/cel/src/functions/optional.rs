//! Optional values.

use std::sync::Arc;

use super::{Function, no_overload};
use crate::{eval::Fault, value::Val};

pub(super) static TABLE: &[Function] = &[
    Function {
        name: "optional.of",
        overloads: &[("optional_of", "(A) -> optional(A)")],
        run: |ctx, args| match args {
            [value] => ctx.made(Val::Optional(Some(Arc::new(value.clone())))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "optional.ofNonZeroValue",
        overloads: &[("optional_ofNonZeroValue", "(A) -> optional(A)")],
        run: |ctx, args| match args {
            [value] if is_zero(value) => Ok(Val::Optional(None)),
            [value] => ctx.made(Val::Optional(Some(Arc::new(value.clone())))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "optional.none",
        overloads: &[("optional_none", "() -> optional(A)")],
        run: |_, _| Ok(Val::Optional(None)),
    },
    Function {
        name: "hasValue",
        overloads: &[("optional_hasValue", "optional(A).() -> bool")],
        run: |_, args| match args {
            [Val::Optional(inner)] => Ok(Val::Bool(inner.is_some())),
            _ => no_overload(args),
        },
    },
    Function {
        name: "value",
        overloads: &[("optional_value", "optional(A).() -> A")],
        run: |_, args| match args {
            [Val::Optional(Some(inner))] => Ok((**inner).clone()),
            [Val::Optional(None)] => Err(Fault::new("optional.none() dereference")),
            _ => no_overload(args),
        },
    },
    Function {
        name: "or",
        overloads: &[("optional_or_optional", "optional(A).(optional(A)) -> optional(A)")],
        run: |_, args| match args {
            [Val::Optional(None), other] => Ok(other.clone()),
            [some @ Val::Optional(_), _] => Ok(some.clone()),
            _ => no_overload(args),
        },
    },
    Function {
        name: "orValue",
        overloads: &[("optional_orValue_value", "optional(A).(A) -> A")],
        run: |_, args| match args {
            [Val::Optional(None), other] => Ok(other.clone()),
            [Val::Optional(Some(inner)), _] => Ok((**inner).clone()),
            _ => no_overload(args),
        },
    },
];

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null => true,
        Val::Bool(b) => !b,
        Val::Int(i) => *i == 0,
        Val::Uint(u) => *u == 0,
        Val::Double(d) => *d == 0.0,
        Val::Str(text) => text.is_empty(),
        Val::Bytes(bytes) => bytes.is_empty(),
        Val::Duration(nanos) => *nanos == 0,
        Val::List(list) => list.is_empty(),
        Val::Map(map) => map.is_empty(),
        Val::Optional(inner) => inner.is_none(),
        Val::Timestamp(_) | Val::Type(_) | Val::Extra(_) | Val::Variables => false,
    }
}
