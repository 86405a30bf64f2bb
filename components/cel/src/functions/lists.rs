//! Kubernetes' list functions, sets, and insertion into maps (for the two-variable macros).

use std::{cmp::Ordering, sync::Arc};

use super::{
    Answer, Function, no_overload,
    operators::{compare, equal},
    strings,
};
use crate::{
    eval::{Ctx, Fault},
    value::{Key, List, Map, Val},
};

pub(super) static TABLE: &[Function] = &[
    Function {
        name: "isSorted",
        overloads: &[
            ("list_int_is_sorted_bool", "list(int).() -> bool"),
            ("list_uint_is_sorted_bool", "list(uint).() -> bool"),
            ("list_double_is_sorted_bool", "list(double).() -> bool"),
            ("list_bool_is_sorted_bool", "list(bool).() -> bool"),
            ("list_duration_is_sorted_bool", "list(duration).() -> bool"),
            ("list_timestamp_is_sorted_bool", "list(timestamp).() -> bool"),
            ("list_string_is_sorted_bool", "list(string).() -> bool"),
            ("list_bytes_is_sorted_bool", "list(bytes).() -> bool"),
        ],
        run: |_, args| match args {
            [Val::List(list)] => {
                let items: Vec<Val<'_>> = list.iter().collect();
                Ok(Val::Bool(items.windows(2).all(|w| compare(&w[0], &w[1]).is_some_and(|o| o != Ordering::Greater))))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "sum",
        overloads: &[
            ("list_int_sum_int", "list(int).() -> int"),
            ("list_uint_sum_uint", "list(uint).() -> uint"),
            ("list_double_sum_double", "list(double).() -> double"),
            ("list_duration_sum_duration", "list(duration).() -> duration"),
        ],
        run: sum,
    },
    Function {
        name: "max",
        overloads: &[
            ("list_int_max_int", "list(int).() -> int"),
            ("list_uint_max_uint", "list(uint).() -> uint"),
            ("list_double_max_double", "list(double).() -> double"),
            ("list_bool_max_bool", "list(bool).() -> bool"),
            ("list_duration_max_duration", "list(duration).() -> duration"),
            ("list_timestamp_max_timestamp", "list(timestamp).() -> timestamp"),
            ("list_string_max_string", "list(string).() -> string"),
            ("list_bytes_max_bytes", "list(bytes).() -> bytes"),
        ],
        run: |_, args| extreme(args, "max", Ordering::Greater),
    },
    Function {
        name: "min",
        overloads: &[
            ("list_int_min_int", "list(int).() -> int"),
            ("list_uint_min_uint", "list(uint).() -> uint"),
            ("list_double_min_double", "list(double).() -> double"),
            ("list_bool_min_bool", "list(bool).() -> bool"),
            ("list_duration_min_duration", "list(duration).() -> duration"),
            ("list_timestamp_min_timestamp", "list(timestamp).() -> timestamp"),
            ("list_string_min_string", "list(string).() -> string"),
            ("list_bytes_min_bytes", "list(bytes).() -> bytes"),
        ],
        run: |_, args| extreme(args, "min", Ordering::Less),
    },
    Function {
        name: "indexOf",
        overloads: &[
            ("list_a_index_of_int", "list(A).(A) -> int"),
            ("string_index_of_string", "string.(string) -> int"),
            ("string_index_of_string_int", "string.(string, int) -> int"),
        ],
        run: |_, args| match args {
            [Val::List(list), item] => Ok(position(list.iter().position(|i| equal(&i, item)))),
            _ => strings::index_of(args, false),
        },
    },
    Function {
        name: "lastIndexOf",
        overloads: &[
            ("list_a_last_index_of_int", "list(A).(A) -> int"),
            ("string_last_index_of_string", "string.(string) -> int"),
            ("string_last_index_of_string_int", "string.(string, int) -> int"),
        ],
        run: |_, args| match args {
            [Val::List(list), item] => {
                Ok(position((0..list.len()).rev().find(|i| list.get(*i).is_some_and(|v| equal(&v, item)))))
            }
            _ => strings::index_of(args, true),
        },
    },
    Function {
        name: "sets.contains",
        overloads: &[("list_sets_contains_list", "(list(A), list(A)) -> bool")],
        run: |_, args| match args {
            [Val::List(a), Val::List(b)] => Ok(Val::Bool(contains(a, b))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "sets.equivalent",
        overloads: &[("list_sets_equivalent_list", "(list(A), list(A)) -> bool")],
        run: |_, args| match args {
            [Val::List(a), Val::List(b)] => Ok(Val::Bool(contains(a, b) && contains(b, a))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "sets.intersects",
        overloads: &[("list_sets_intersects_list", "(list(A), list(A)) -> bool")],
        run: |_, args| match args {
            [Val::List(a), Val::List(b)] => Ok(Val::Bool(a.iter().any(|x| b.iter().any(|y| equal(&x, &y))))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "cel.@mapInsert",
        overloads: &[
            ("@mapInsert_map_map", "(map(A, B), map(A, B)) -> map(A, B)"),
            ("@mapInsert_map_key_value", "(map(A, B), A, B) -> map(A, B)"),
        ],
        run: insert,
    },
];

fn position<'a>(found: Option<usize>) -> Val<'a> {
    Val::Int(found.map_or(-1, |i| i as i64))
}

fn contains(all: &List<'_>, some: &List<'_>) -> bool {
    some.iter().all(|x| all.iter().any(|y| equal(&x, &y)))
}

fn sum<'a>(ctx: &mut Ctx<'a>, args: &[Val<'a>]) -> Answer<'a> {
    let [Val::List(list)] = args else { return no_overload(args) };
    let mut items = list.iter();
    let Some(mut total) = items.next() else { return Ok(Val::Int(0)) };
    let add = super::find("_+_").ok_or_else(|| Fault::new("no such overload"))?;
    if !matches!(total, Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Duration(_)) {
        return no_overload(args);
    }
    for item in items {
        total = (add.run)(ctx, &[total, item])?;
    }
    Ok(total)
}

fn extreme<'a>(args: &[Val<'a>], name: &str, wanted: Ordering) -> Answer<'a> {
    let [Val::List(list)] = args else { return no_overload(args) };
    let mut items = list.iter();
    let Some(mut best) = items.next() else {
        return Err(Fault::new(format!("{name} called on empty list")));
    };
    for item in items {
        match compare(&item, &best) {
            Some(order) if order == wanted => best = item,
            Some(_) => {}
            None => return no_overload(args),
        }
    }
    Ok(best)
}

/// `cel.@mapInsert(map, key, value)` or `(map, entries)`.
pub fn insert<'a>(ctx: &mut Ctx<'a>, args: &[Val<'a>]) -> Answer<'a> {
    match args {
        [map, rest @ ..] => insert_into(ctx, map.clone(), rest),
        [] => no_overload(args),
    }
}

/// Puts entries into a map that is usually nobody else's: then it grows in place.
pub fn insert_into<'a>(ctx: &mut Ctx<'a>, map: Val<'a>, rest: &[Val<'a>]) -> Answer<'a> {
    let new = match rest {
        [Val::Map(new)] => new.keys().into_iter().filter_map(|key| new.get(&key).map(|value| (key, value))).collect(),
        [key, value] => {
            let key = Key::of(key).ok_or_else(|| Fault::new(format!("unsupported key type: {}", key.type_name())))?;
            vec![(key, value.clone())]
        }
        _ => return no_overload(rest),
    };
    ctx.allocate(new.len() * size_of::<(Key, Val<'_>)>())?;
    let Val::Map(Map::Made(mut made, None)) = map else { return no_overload(rest) };
    if Arc::get_mut(&mut made).is_none() {
        ctx.allocate(made.items.len() * size_of::<(Key, Val<'_>)>())?;
        made = Arc::new((*made).clone());
    }
    let inner = Arc::get_mut(&mut made).ok_or_else(|| Fault::new("no such overload"))?;
    for (key, value) in new {
        if inner.items.contains_key(&key) {
            let text = super::convert::to_text(&key.value()).unwrap_or_default();
            return Err(Fault::new(format!("insert failed: key {text} already exists")));
        }
        inner.depth = inner.depth.max(value.depth() + 1);
        inner.items.insert(key, value);
    }
    ctx.made(Val::Map(Map::Made(made, None)))
}

/// Puts one element at the end of a list that is usually nobody else's.
pub fn push<'a>(ctx: &mut Ctx<'a>, list: Val<'a>, item: Val<'a>) -> Answer<'a> {
    let Val::List(List::Made(mut made)) = list else { return Err(Fault::new("no such overload")) };
    ctx.allocate(size_of::<Val<'_>>())?;
    match Arc::get_mut(&mut made) {
        Some(inner) => {
            inner.depth = inner.depth.max(item.depth() + 1);
            inner.items.push(item);
            ctx.made(Val::List(List::Made(made)))
        }
        None => {
            let mut items = made.items.clone();
            items.push(item);
            ctx.made(Val::list(items))
        }
    }
}
