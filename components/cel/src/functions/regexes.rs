//! Regular expressions: linear in time, bounded in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use regex::{Regex, RegexBuilder};

use super::{Answer, Function, no_overload};
use crate::{
    eval::{Ctx, Fault},
    value::{Text, Val},
};

/// Bytes of a compiled expression.
const SIZE_LIMIT: usize = 1 << 20;

pub fn compile(pattern: &str) -> Result<Arc<Regex>, Fault> {
    RegexBuilder::new(pattern)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .map(Arc::new)
        .map_err(|error| Fault::new(format!("error parsing regexp: {}", one_line(&error.to_string()))))
}

/// As [`compile`], remembering what was compiled last.
pub fn shared(pattern: &str) -> Result<Arc<Regex>, Fault> {
    /// Compiled expressions are up to a megabyte.
    const KEPT: usize = 64;
    static KNOWN: Mutex<Option<HashMap<String, Arc<Regex>>>> = Mutex::new(None);
    let lock = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get_or_insert_default().get(pattern) {
        return Ok(known.clone());
    }
    let regex = compile(pattern)?;
    let mut guard = lock();
    let known = guard.get_or_insert_default();
    if known.len() >= KEPT {
        known.clear();
    }
    known.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}

/// The parser's drawing ends with a line that says what is wrong.
fn one_line(error: &str) -> String {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

pub(super) static TABLE: &[Function] = &[
    Function {
        name: "matches",
        overloads: &[("matches", "(string, string) -> bool"), ("matches_string", "string.(string) -> bool")],
        run: |ctx, args| match args {
            [Val::Str(text), Val::Str(pattern)] => Ok(Val::Bool(ctx.regex(pattern)?.is_match(text))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "find",
        overloads: &[("string_find_string", "string.(string) -> string")],
        run: |ctx, args| match args {
            [Val::Str(text), Val::Str(pattern)] => {
                let regex = ctx.regex(pattern)?;
                Ok(regex.find(text).map_or(Val::Str(Text::Borrowed("")), |m| Val::text(m.as_str())))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "findAll",
        overloads: &[
            ("string_find_all_string", "string.(string) -> list(string)"),
            ("string_find_all_string_int", "string.(string, int) -> list(string)"),
        ],
        run: |ctx, args| match args {
            [Val::Str(text), Val::Str(pattern)] => find_all(ctx, text, pattern, -1),
            [Val::Str(text), Val::Str(pattern), Val::Int(limit)] => find_all(ctx, text, pattern, *limit),
            _ => no_overload(args),
        },
    },
];

fn find_all<'a>(ctx: &mut Ctx<'a>, text: &str, pattern: &str, limit: i64) -> Answer<'a> {
    let regex = ctx.regex(pattern)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for part in regex.find_iter(text).take(limit) {
        ctx.allocate(size_of::<Val<'_>>() + part.len())?;
        found.push(Val::text(part.as_str()));
    }
    Ok(Val::list(found))
}
