//! Every function expressions may call: its overloads (for the checker), and what it does (for evaluation).
//!
//! A function is one row: name, overloads, code. The signature `string.(int) -> bool` is a member of strings; `(A, list(A)) -> bool` is
//! global. What a function does depends only on the values it gets, so that dynamic arguments need no second dispatch.

pub mod convert;
mod format;
pub mod kubernetes;
pub mod lists;
mod more_lists;
pub mod operators;
mod optional;
pub mod regexes;
mod strings;
pub mod time;

use std::{collections::HashMap, sync::OnceLock};

use crate::{
    eval::{Ctx, Fault},
    types::{self, Type},
    value::Val,
};

pub type Answer<'a> = Result<Val<'a>, Fault>;
pub type Run = for<'a> fn(&mut Ctx<'a>, &[Val<'a>]) -> Answer<'a>;

/// One row.
pub struct Function {
    pub name: &'static str,
    /// (id, signature)
    pub overloads: &'static [(&'static str, &'static str)],
    pub run: Run,
}

/// An overload as the checker uses it.
pub struct Overload {
    pub id: &'static str,
    pub member: bool,
    /// The target first, if it is a member.
    pub args: Vec<Type>,
    pub result: Type,
}

pub struct Known {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
    pub run: Run,
}

static TABLES: &[&[Function]] = &[
    operators::TABLE,
    convert::TABLE,
    strings::TABLE,
    format::TABLE,
    time::TABLE,
    lists::TABLE,
    more_lists::TABLE,
    optional::TABLE,
    regexes::TABLE,
    kubernetes::url::TABLE,
    kubernetes::net::TABLE,
    kubernetes::quantity::TABLE,
    kubernetes::semantic::TABLE,
    kubernetes::names::TABLE,
    kubernetes::authz::TABLE,
];

/// A function by its name; rows of the same name are one function, whose code is found by asking each in turn.
pub fn find(name: &str) -> Option<&'static Known> {
    static KNOWN: OnceLock<HashMap<&'static str, Known>> = OnceLock::new();
    KNOWN.get_or_init(|| TABLES.iter().flat_map(|t| t.iter()).map(|f| (f.name, known(f))).collect()).get(name)
}

fn known(function: &Function) -> Known {
    let overloads = function.overloads.iter().map(|(id, text)| overload(id, text)).collect();
    Known { name: function.name, overloads, run: function.run }
}

fn overload(id: &'static str, signature: &'static str) -> Overload {
    let (head, result) = signature.split_once(" -> ").unwrap_or((signature, "dyn"));
    let (target, inner) = match head.strip_prefix('(') {
        Some(rest) => (None, rest),
        None => head.split_once(".(").map_or((None, head), |(target, rest)| (Some(target), rest)),
    };
    let inner = inner.strip_suffix(')').unwrap_or(inner);
    let args = target.into_iter().chain(split(inner)).map(types::parse).collect();
    Overload { id, member: target.is_some(), args, result: types::parse(result) }
}

/// At commas outside of brackets.
fn split(text: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
    }
    if !text[begin..].trim().is_empty() {
        parts.push(&text[begin..]);
    }
    parts
}

/// What a call with values of the wrong types gives.
pub fn no_overload<'a>(_: &[Val<'_>]) -> Answer<'a> {
    Err(Fault::new("no such overload"))
}
