//! The list library, version 3 (cel-go `ext/lists.go`).

use std::{cmp::Ordering, sync::Arc};

use super::{
    Answer, Function, no_overload,
    operators::{compare, equal},
};
use crate::{
    eval::{Ctx, Fault},
    value::{List, Val},
};

pub(super) static TABLE: &[Function] = &[
    Function {
        name: "slice",
        overloads: &[("list_slice", "list(A).(int, int) -> list(A)")],
        run: |ctx, args| match args {
            [Val::List(list), Val::Int(start), Val::Int(end)] => slice(ctx, list, *start, *end),
            _ => no_overload(args),
        },
    },
    Function {
        name: "flatten",
        overloads: &[
            ("list_flatten", "list(list(A)).() -> list(A)"),
            ("list_flatten_int", "list(dyn).(int) -> list(dyn)"),
        ],
        run: |ctx, args| match args {
            [Val::List(list)] => flatten(ctx, list, 1),
            [Val::List(_), Val::Int(depth)] if *depth < 0 => Err(Fault::new("level must be non-negative")),
            [Val::List(list), Val::Int(depth)] => flatten(ctx, list, *depth),
            _ => no_overload(args),
        },
    },
    Function {
        name: "lists.range",
        overloads: &[("lists_range", "(int) -> list(int)")],
        run: |ctx, args| match args {
            [Val::Int(count)] => {
                let count = (*count).max(0);
                ctx.allocate(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(size_of::<Val<'_>>()))?;
                Ok(Val::list((0..count).map(Val::Int).collect()))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "reverse",
        overloads: &[("list_reverse", "list(A).() -> list(A)")],
        run: |ctx, args| match args {
            [Val::List(list)] => {
                let mut items = copy(ctx, list)?;
                items.reverse();
                Ok(Val::list(items))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "distinct",
        overloads: &[("list_distinct", "list(A).() -> list(A)")],
        run: |ctx, args| match args {
            [Val::List(list)] => {
                let mut items: Vec<Val<'_>> = Vec::new();
                for item in copy(ctx, list)? {
                    if !items.iter().any(|i| equal(i, &item)) {
                        items.push(item);
                    }
                }
                Ok(Val::list(items))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "first",
        overloads: &[("list_first", "list(A).() -> optional(A)")],
        run: |_, args| match args {
            [Val::List(list)] => Ok(Val::Optional(list.get(0).map(Arc::new))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "last",
        overloads: &[("list_last", "list(A).() -> optional(A)")],
        run: |_, args| match args {
            [Val::List(list)] => {
                Ok(Val::Optional(list.len().checked_sub(1).and_then(|last| list.get(last)).map(Arc::new)))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "sort",
        overloads: &[("list_sort", "list(A).() -> list(A)")],
        run: |ctx, args| match args {
            [Val::List(list)] => {
                let items = copy(ctx, list)?;
                sorted(items.iter().cloned().zip(items.iter().cloned()).collect())
            }
            _ => no_overload(args),
        },
    },
    // what `sortBy` becomes: the list, and the keys of its elements
    Function {
        name: "@sortByAssociatedKeys",
        overloads: &[("list_sort_by_associated_keys", "list(A).(list(B)) -> list(A)")],
        run: |ctx, args| match args {
            [Val::List(list), Val::List(keys)] => {
                let (items, keys) = (copy(ctx, list)?, copy(ctx, keys)?);
                sorted(keys.into_iter().zip(items).collect())
            }
            _ => no_overload(args),
        },
    },
];

fn copy<'a>(ctx: &mut Ctx<'a>, list: &List<'a>) -> Result<Vec<Val<'a>>, Fault> {
    ctx.allocate(list.len() * size_of::<Val<'_>>())?;
    Ok(list.iter().collect())
}

/// The second of each pair, in the order of the first.
fn sorted<'a>(mut pairs: Vec<(Val<'a>, Val<'a>)>) -> Answer<'a> {
    if let [(first, _), ..] = pairs.as_slice()
        && pairs.iter().any(|(key, _)| key.type_name() != first.type_name() || compare(key, first).is_none())
    {
        return Err(Fault::new("list elements must have the same type and be comparable"));
    }
    pairs.sort_by(|(a, _), (b, _)| compare(a, b).unwrap_or(Ordering::Equal));
    Ok(Val::list(pairs.into_iter().map(|(_, value)| value).collect()))
}

fn slice<'a>(ctx: &mut Ctx<'a>, list: &List<'a>, start: i64, end: i64) -> Answer<'a> {
    let refuse = |why: &str| Err(Fault::new(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return refuse("negative indexes not supported");
    };
    if from > to {
        return refuse("start index must be less than or equal to end index");
    }
    if to > list.len() {
        return refuse(&format!("list is length {}", list.len()));
    }
    ctx.allocate((to - from) * size_of::<Val<'_>>())?;
    Ok(Val::list((from..to).filter_map(|i| list.get(i)).collect()))
}

fn flatten<'a>(ctx: &mut Ctx<'a>, list: &List<'a>, depth: i64) -> Answer<'a> {
    let mut items = Vec::new();
    gather(ctx, list, depth, &mut items)?;
    Ok(Val::list(items))
}

/// Lists nest only as deep as JSON and expressions do, so this recursion ends.
fn gather<'a>(ctx: &mut Ctx<'a>, list: &List<'a>, depth: i64, items: &mut Vec<Val<'a>>) -> Result<(), Fault> {
    for item in list.iter() {
        match item {
            Val::List(inner) if depth > 0 => gather(ctx, &inner, depth - 1, items)?,
            item => {
                ctx.allocate(size_of::<Val<'_>>())?;
                items.push(item);
            }
        }
    }
    Ok(())
}
