//! `quantity()`, and the comparisons it shares with `semver()`.

use std::{cmp::Ordering, sync::Arc};

use notation::quantity::{Format, Quantity};

use super::Extra;
use crate::{
    eval::Fault,
    functions::{Answer, Function, no_overload},
    value::Val,
};

pub(crate) static TABLE: &[Function] = &[
    Function {
        name: "quantity",
        overloads: &[("string_to_quantity", "(string) -> kubernetes.Quantity")],
        run: |_, args| match args {
            [Val::Str(text)] => text.parse().map(made).map_err(|error| Fault::new(format!("{error}"))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "isQuantity",
        overloads: &[("is_quantity_string", "(string) -> bool")],
        run: |_, args| match args {
            [Val::Str(text)] => Ok(Val::Bool(text.parse::<Quantity>().is_ok())),
            _ => no_overload(args),
        },
    },
    Function {
        name: "sign",
        overloads: &[("quantity_sign", "kubernetes.Quantity.() -> int")],
        run: |_, args| of(args, |q| Ok(Val::Int(q.sign().into()))),
    },
    Function {
        name: "isInteger",
        overloads: &[("quantity_is_integer", "kubernetes.Quantity.() -> bool")],
        run: |_, args| of(args, |q| Ok(Val::Bool(q.is_integer()))),
    },
    Function {
        name: "asInteger",
        overloads: &[("quantity_as_integer", "kubernetes.Quantity.() -> int")],
        run: |_, args| {
            of(args, |q| {
                if q.is_integer() {
                    Ok(Val::Int(q.value()))
                } else {
                    Err(Fault::new("cannot convert value to integer"))
                }
            })
        },
    },
    Function {
        name: "asApproximateFloat",
        overloads: &[("quantity_get_float", "kubernetes.Quantity.() -> double")],
        run: |_, args| of(args, |q| Ok(Val::Double(q.approximate()))),
    },
    Function {
        name: "add",
        overloads: &[
            ("quantity_add", "kubernetes.Quantity.(kubernetes.Quantity) -> kubernetes.Quantity"),
            ("quantity_add_int", "kubernetes.Quantity.(int) -> kubernetes.Quantity"),
        ],
        run: |_, args| of_two(args, |a, b| made(a + b)),
    },
    Function {
        name: "sub",
        overloads: &[
            ("quantity_sub", "kubernetes.Quantity.(kubernetes.Quantity) -> kubernetes.Quantity"),
            ("quantity_sub_int", "kubernetes.Quantity.(int) -> kubernetes.Quantity"),
        ],
        run: |_, args| of_two(args, |a, b| made(a - b)),
    },
    Function {
        name: "isLessThan",
        overloads: &[
            ("quantity_less_than", "kubernetes.Quantity.(kubernetes.Quantity) -> bool"),
            ("semver_less_than", "kubernetes.Semver.(kubernetes.Semver) -> bool"),
        ],
        run: |_, args| compare(args, |o| Val::Bool(o == Ordering::Less)),
    },
    Function {
        name: "isGreaterThan",
        overloads: &[
            ("quantity_greater_than", "kubernetes.Quantity.(kubernetes.Quantity) -> bool"),
            ("semver_greater_than", "kubernetes.Semver.(kubernetes.Semver) -> bool"),
        ],
        run: |_, args| compare(args, |o| Val::Bool(o == Ordering::Greater)),
    },
    Function {
        name: "compareTo",
        overloads: &[
            ("quantity_compare_to", "kubernetes.Quantity.(kubernetes.Quantity) -> int"),
            ("semver_compare_to", "kubernetes.Semver.(kubernetes.Semver) -> int"),
        ],
        run: |_, args| compare(args, |o| Val::Int(o as i64)),
    },
];

fn made<'a>(quantity: Quantity) -> Val<'a> {
    Val::Extra(Arc::new(Extra::Quantity(quantity)))
}

fn of<'a>(args: &[Val<'a>], get: impl Fn(Quantity) -> Answer<'a>) -> Answer<'a> {
    match args {
        [Val::Extra(extra)] => match &**extra {
            Extra::Quantity(quantity) => get(*quantity),
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}

fn of_two<'a>(args: &[Val<'a>], f: fn(Quantity, Quantity) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Extra(a), b] => match (&**a, b) {
            (Extra::Quantity(a), Val::Int(b)) => Ok(f(*a, Quantity::from_int(*b, Format::DecimalSi))),
            (Extra::Quantity(a), Val::Extra(b)) => match &**b {
                Extra::Quantity(b) => Ok(f(*a, *b)),
                _ => no_overload(args),
            },
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}

fn compare<'a>(args: &[Val<'a>], f: fn(Ordering) -> Val<'a>) -> Answer<'a> {
    match args {
        [Val::Extra(a), Val::Extra(b)] => match (&**a, &**b) {
            (Extra::Quantity(a), Extra::Quantity(b)) => Ok(f(a.cmp(b))),
            (Extra::Semver(a), Extra::Semver(b)) => Ok(f(a.cmp_precedence(b))),
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}
