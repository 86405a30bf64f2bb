//! Operators: arithmetic that refuses to overflow, equality and order across number types, membership, index, size.

use std::cmp::Ordering;

use super::{Answer, Function, no_overload};
use crate::{
    eval::{Ctx, Fault},
    schema::ListKind,
    value::{Key, List, Map, Val},
};

macro_rules! order {
    ($name:literal, $run:expr) => {
        Function {
            name: $name,
            overloads: &[
                ("less_bool", "(bool, bool) -> bool"),
                ("less_int64", "(int, int) -> bool"),
                ("less_int64_double", "(int, double) -> bool"),
                ("less_int64_uint64", "(int, uint) -> bool"),
                ("less_uint64", "(uint, uint) -> bool"),
                ("less_uint64_double", "(uint, double) -> bool"),
                ("less_uint64_int64", "(uint, int) -> bool"),
                ("less_double", "(double, double) -> bool"),
                ("less_double_int64", "(double, int) -> bool"),
                ("less_double_uint64", "(double, uint) -> bool"),
                ("less_string", "(string, string) -> bool"),
                ("less_bytes", "(bytes, bytes) -> bool"),
                ("less_timestamp", "(timestamp, timestamp) -> bool"),
                ("less_duration", "(duration, duration) -> bool"),
            ],
            run: |_, args| match args {
                [a, b] => match compare(a, b) {
                    Some(order) => Ok(Val::Bool($run(order))),
                    // a number that is none is neither less nor greater
                    None if number(a) && number(b) => Ok(Val::Bool(false)),
                    None => no_overload(args),
                },
                _ => no_overload(args),
            },
        }
    };
}

pub(super) static TABLE: &[Function] = &[
    Function { name: "_?_:_", overloads: &[("conditional", "(bool, A, A) -> A")], run: |_, args| no_overload(args) },
    Function { name: "_&&_", overloads: &[("logical_and", "(bool, bool) -> bool")], run: |_, args| no_overload(args) },
    Function { name: "_||_", overloads: &[("logical_or", "(bool, bool) -> bool")], run: |_, args| no_overload(args) },
    Function {
        name: "@not_strictly_false",
        overloads: &[("not_strictly_false", "(bool) -> bool")],
        run: |_, args| no_overload(args),
    },
    Function {
        name: "!_",
        overloads: &[("logical_not", "(bool) -> bool")],
        run: |_, args| match args {
            [Val::Bool(b)] => Ok(Val::Bool(!b)),
            _ => no_overload(args),
        },
    },
    Function {
        name: "_==_",
        overloads: &[("equals", "(A, A) -> bool")],
        run: |_, args| match args {
            [a, b] => Ok(Val::Bool(equal(a, b))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "_!=_",
        overloads: &[("not_equals", "(A, A) -> bool")],
        run: |_, args| match args {
            [a, b] => Ok(Val::Bool(!equal(a, b))),
            _ => no_overload(args),
        },
    },
    order!("_<_", |o| o == Ordering::Less),
    order!("_<=_", |o| o != Ordering::Greater),
    order!("_>_", |o| o == Ordering::Greater),
    order!("_>=_", |o| o != Ordering::Less),
    Function {
        name: "_+_",
        overloads: &[
            ("add_bytes", "(bytes, bytes) -> bytes"),
            ("add_double", "(double, double) -> double"),
            ("add_duration_duration", "(duration, duration) -> duration"),
            ("add_duration_timestamp", "(duration, timestamp) -> timestamp"),
            ("add_timestamp_duration", "(timestamp, duration) -> timestamp"),
            ("add_int64", "(int, int) -> int"),
            ("add_list", "(list(A), list(A)) -> list(A)"),
            ("add_string", "(string, string) -> string"),
            ("add_uint64", "(uint, uint) -> uint"),
        ],
        run: add,
    },
    Function {
        name: "_-_",
        overloads: &[
            ("subtract_double", "(double, double) -> double"),
            ("subtract_duration_duration", "(duration, duration) -> duration"),
            ("subtract_int64", "(int, int) -> int"),
            ("subtract_timestamp_duration", "(timestamp, duration) -> timestamp"),
            ("subtract_timestamp_timestamp", "(timestamp, timestamp) -> duration"),
            ("subtract_uint64", "(uint, uint) -> uint"),
        ],
        run: subtract,
    },
    Function {
        name: "_*_",
        overloads: &[
            ("multiply_double", "(double, double) -> double"),
            ("multiply_int64", "(int, int) -> int"),
            ("multiply_uint64", "(uint, uint) -> uint"),
        ],
        run: |_, args| match args {
            [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a * b)),
            [Val::Int(a), Val::Int(b)] => a.checked_mul(*b).map(Val::Int).ok_or_else(int_overflow),
            [Val::Uint(a), Val::Uint(b)] => a.checked_mul(*b).map(Val::Uint).ok_or_else(uint_overflow),
            _ => no_overload(args),
        },
    },
    Function {
        name: "_/_",
        overloads: &[
            ("divide_double", "(double, double) -> double"),
            ("divide_int64", "(int, int) -> int"),
            ("divide_uint64", "(uint, uint) -> uint"),
        ],
        run: |_, args| match args {
            [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a / b)),
            [Val::Int(_), Val::Int(0)] | [Val::Uint(_), Val::Uint(0)] => Err(Fault::new("division by zero")),
            [Val::Int(a), Val::Int(b)] => a.checked_div(*b).map(Val::Int).ok_or_else(int_overflow),
            [Val::Uint(a), Val::Uint(b)] => Ok(Val::Uint(a / b)),
            _ => no_overload(args),
        },
    },
    Function {
        name: "_%_",
        overloads: &[("modulo_int64", "(int, int) -> int"), ("modulo_uint64", "(uint, uint) -> uint")],
        run: |_, args| match args {
            [Val::Int(_), Val::Int(0)] | [Val::Uint(_), Val::Uint(0)] => Err(Fault::new("modulus by zero")),
            [Val::Int(a), Val::Int(b)] => a.checked_rem(*b).map(Val::Int).ok_or_else(int_overflow),
            [Val::Uint(a), Val::Uint(b)] => Ok(Val::Uint(a % b)),
            _ => no_overload(args),
        },
    },
    Function {
        name: "-_",
        overloads: &[("negate_double", "(double) -> double"), ("negate_int64", "(int) -> int")],
        run: |_, args| match args {
            [Val::Double(a)] => Ok(Val::Double(-a)),
            [Val::Int(a)] => a.checked_neg().map(Val::Int).ok_or_else(int_overflow),
            _ => no_overload(args),
        },
    },
    Function {
        name: "@in",
        overloads: &[("in_list", "(A, list(A)) -> bool"), ("in_map", "(A, map(A, B)) -> bool")],
        run: |_, args| match args {
            [item, Val::List(list)] => Ok(Val::Bool(list.iter().any(|i| equal(&i, item)))),
            [item, Val::Map(map)] => Ok(Val::Bool(Key::of(item).is_some_and(|key| map.get(&key).is_some()))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "_[_]",
        overloads: &[
            ("index_list", "(list(A), int) -> A"),
            ("index_map", "(map(A, B), A) -> B"),
            ("optional_list_index_int", "(optional(list(A)), int) -> optional(A)"),
            ("optional_map_index_value", "(optional(map(A, B)), A) -> optional(B)"),
        ],
        run: |_, args| match args {
            [Val::Optional(None), _] => Ok(Val::Optional(None)),
            [Val::Optional(Some(inner)), index] => optional_index(inner, index),
            [container, index] => member(container, index),
            _ => no_overload(args),
        },
    },
    Function {
        name: "_[?_]",
        overloads: &[
            ("list_optindex_optional_int", "(list(A), int) -> optional(A)"),
            ("map_optindex_optional_value", "(map(A, B), A) -> optional(B)"),
            ("optional_list_optindex_optional_int", "(optional(list(A)), int) -> optional(A)"),
            ("optional_map_optindex_optional_value", "(optional(map(A, B)), A) -> optional(B)"),
        ],
        run: |_, args| match args {
            [Val::Optional(None), _] => Ok(Val::Optional(None)),
            [Val::Optional(Some(inner)), index] => optional_index(inner, index),
            [container, index] => optional_index(container, index),
            _ => no_overload(args),
        },
    },
    Function {
        name: "size",
        overloads: &[
            ("size_bytes", "(bytes) -> int"),
            ("size_list", "(list(A)) -> int"),
            ("size_map", "(map(A, B)) -> int"),
            ("size_string", "(string) -> int"),
            ("bytes_size", "bytes.() -> int"),
            ("list_size", "list(A).() -> int"),
            ("map_size", "map(A, B).() -> int"),
            ("string_size", "string.() -> int"),
        ],
        run: |_, args| match args {
            [value] => size(value).map_or_else(|| no_overload(args), |n| Ok(Val::Int(n as i64))),
            _ => no_overload(args),
        },
    },
];

fn int_overflow() -> Fault {
    Fault::new("integer overflow")
}

fn uint_overflow() -> Fault {
    Fault::new("unsigned integer overflow")
}

fn duration_overflow() -> Fault {
    Fault::new("duration overflow")
}

fn number(value: &Val<'_>) -> bool {
    matches!(value, Val::Int(_) | Val::Uint(_) | Val::Double(_))
}

/// Elements, entries, characters or bytes, of values that have a size.
pub fn size(value: &Val<'_>) -> Option<usize> {
    Some(match value {
        Val::Str(text) => text.chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        Val::List(list) => list.len(),
        Val::Map(map) => map.len(),
        _ => return None,
    })
}

fn add<'a>(ctx: &mut Ctx<'a>, args: &[Val<'a>]) -> Answer<'a> {
    match args {
        [Val::Int(a), Val::Int(b)] => a.checked_add(*b).map(Val::Int).ok_or_else(int_overflow),
        [Val::Uint(a), Val::Uint(b)] => a.checked_add(*b).map(Val::Uint).ok_or_else(uint_overflow),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a + b)),
        [Val::Str(a), Val::Str(b)] => {
            ctx.allocate(a.len() + b.len())?;
            Ok(Val::text([&**a, &**b].concat()))
        }
        [Val::Bytes(a), Val::Bytes(b)] => {
            ctx.allocate(a.len() + b.len())?;
            Ok(Val::Bytes([&**a, &**b].concat().into()))
        }
        [Val::List(a), Val::List(b)] => join(ctx, a, b),
        [Val::Duration(a), Val::Duration(b)] => a.checked_add(*b).map(Val::Duration).ok_or_else(duration_overflow),
        [Val::Timestamp(at), Val::Duration(by)] | [Val::Duration(by), Val::Timestamp(at)] => at
            .checked_add(time::Duration::nanoseconds(*by))
            .filter(in_range)
            .map(Val::Timestamp)
            .ok_or_else(|| Fault::new("timestamp overflow")),
        _ => no_overload(args),
    }
}

/// Timestamps lie in the years 1 to 9999.
pub fn in_range(at: &time::OffsetDateTime) -> bool {
    (1..=9999).contains(&at.year())
}

fn subtract<'a>(_: &mut Ctx<'a>, args: &[Val<'a>]) -> Answer<'a> {
    match args {
        [Val::Int(a), Val::Int(b)] => a.checked_sub(*b).map(Val::Int).ok_or_else(int_overflow),
        [Val::Uint(a), Val::Uint(b)] => a.checked_sub(*b).map(Val::Uint).ok_or_else(uint_overflow),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a - b)),
        [Val::Duration(a), Val::Duration(b)] => a.checked_sub(*b).map(Val::Duration).ok_or_else(duration_overflow),
        [Val::Timestamp(at), Val::Duration(by)] => at
            .checked_sub(time::Duration::nanoseconds(*by))
            .filter(in_range)
            .map(Val::Timestamp)
            .ok_or_else(|| Fault::new("timestamp overflow")),
        [Val::Timestamp(a), Val::Timestamp(b)] => {
            i64::try_from((*a - *b).whole_nanoseconds()).map(Val::Duration).map_err(|_| duration_overflow())
        }
        _ => no_overload(args),
    }
}

/// Lists joined; lists declared as sets or maps are united, the right side winning, as merging them would.
fn join<'a>(ctx: &mut Ctx<'a>, a: &List<'a>, b: &List<'a>) -> Answer<'a> {
    ctx.allocate((a.len() + b.len()) * size_of::<Val<'_>>())?;
    let mut items: Vec<Val<'a>> = a.iter().collect();
    match a.kind() {
        Some(ListKind::Set) => {
            for item in b.iter() {
                if !items.iter().any(|i| equal(i, &item)) {
                    items.push(item);
                }
            }
        }
        Some(ListKind::Map(keys)) => {
            for item in b.iter() {
                match items.iter_mut().find(|i| same_keys(i, &item, keys)) {
                    Some(found) => *found = item,
                    None => items.push(item),
                }
            }
        }
        _ => items.extend(b.iter()),
    }
    ctx.made(Val::list(items))
}

fn same_keys(a: &Val<'_>, b: &Val<'_>, keys: &[String]) -> bool {
    let (Val::Map(a), Val::Map(b)) = (a, b) else { return false };
    keys.iter().all(|key| match (a.field(key), b.field(key)) {
        (Some(a), Some(b)) => equal(&a, &b),
        (None, None) => true,
        _ => false,
    })
}

/// Equality: numbers by value, containers by content, different types never.
pub fn equal(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::Null, Val::Null) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Str(a), Val::Str(b)) => **a == **b,
        (Val::Bytes(a), Val::Bytes(b)) => a == b,
        (Val::Duration(a), Val::Duration(b)) => a == b,
        (Val::Timestamp(a), Val::Timestamp(b)) => a == b,
        (Val::Type(a), Val::Type(b)) => a == b,
        (Val::Optional(a), Val::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (None, None) => true,
            _ => false,
        },
        (Val::Extra(a), Val::Extra(b)) => a.equals(b),
        (Val::List(a), Val::List(b)) => equal_lists(a, b),
        (Val::Map(a), Val::Map(b)) => equal_maps(a, b),
        _ if number(a) && number(b) => compare(a, b) == Some(Ordering::Equal),
        _ => false,
    }
}

fn equal_lists(a: &List<'_>, b: &List<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.kind().or(b.kind()) {
        Some(ListKind::Set) => a.iter().all(|x| b.iter().any(|y| equal(&x, &y))),
        Some(ListKind::Map(keys)) => a.iter().all(|x| b.iter().any(|y| same_keys(&x, &y, keys) && equal(&x, &y))),
        _ => a.iter().zip(b.iter()).all(|(x, y)| equal(&x, &y)),
    }
}

fn equal_maps(a: &Map<'_>, b: &Map<'_>) -> bool {
    let (left, right) = (a.keys(), b.keys());
    left.len() == right.len()
        && left.iter().all(|key| matches!((a.get(key), b.get(key)), (Some(x), Some(y)) if equal(&x, &y)))
}

/// Order, of values that have one.
pub fn compare(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
        (Val::Uint(a), Val::Uint(b)) => Some(a.cmp(b)),
        (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
        (Val::Int(a), Val::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Val::Uint(a), Val::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Val::Double(a), Val::Int(b)) => compare_double(*a, i128::from(*b)),
        (Val::Double(a), Val::Uint(b)) => compare_double(*a, i128::from(*b)),
        (Val::Int(a), Val::Double(b)) => compare_double(*b, i128::from(*a)).map(Ordering::reverse),
        (Val::Uint(a), Val::Double(b)) => compare_double(*b, i128::from(*a)).map(Ordering::reverse),
        (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
        (Val::Str(a), Val::Str(b)) => Some((**a).cmp(&**b)),
        (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
        (Val::Duration(a), Val::Duration(b)) => Some(a.cmp(b)),
        (Val::Timestamp(a), Val::Timestamp(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn compare_double(double: f64, int: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // beyond the integers the sign decides; within, doubles convert exactly after rounding down
    if double.abs() > 1e20 {
        return Some(if double > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    let floor = double.floor();
    Some((floor as i128).cmp(&int).then(if double > floor { Ordering::Greater } else { Ordering::Equal }))
}

/// `container[index]`
fn member<'a>(container: &Val<'a>, index: &Val<'a>) -> Answer<'a> {
    match container {
        Val::List(list) => {
            let position = match Key::of(index) {
                Some(Key::Number(n)) => n,
                _ => return Err(Fault::new(format!("unsupported index type '{}' in list", index.type_name()))),
            };
            usize::try_from(position)
                .ok()
                .and_then(|i| list.get(i))
                .ok_or_else(|| Fault::new(format!("index out of bounds: {position}")))
        }
        Val::Map(map) => Key::of(index).and_then(|key| map.get(&key)).ok_or_else(|| no_such_key(index)),
        _ => no_overload(&[]),
    }
}

fn optional_index<'a>(container: &Val<'a>, index: &Val<'a>) -> Answer<'a> {
    match container {
        Val::List(_) | Val::Map(_) => Ok(Val::Optional(member(container, index).ok().map(std::sync::Arc::new))),
        _ => no_overload(&[]),
    }
}

fn no_such_key(key: &Val<'_>) -> Fault {
    let text = super::convert::to_text(key).unwrap_or_else(|| key.type_name().to_owned());
    Fault::new(format!("no such key: {text}"))
}
