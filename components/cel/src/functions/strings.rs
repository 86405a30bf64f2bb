//! The string library, version 2 (cel-go `ext/strings.go`). Positions count characters.

use super::{Answer, Function, no_overload};
use crate::{
    eval::{Ctx, Fault},
    value::{List, Val},
};

pub(super) static TABLE: &[Function] = &[
    Function {
        name: "startsWith",
        overloads: &[("starts_with_string", "string.(string) -> bool")],
        run: |_, args| match args {
            [Val::Str(text), Val::Str(part)] => Ok(Val::Bool(text.starts_with(&**part))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "endsWith",
        overloads: &[("ends_with_string", "string.(string) -> bool")],
        run: |_, args| match args {
            [Val::Str(text), Val::Str(part)] => Ok(Val::Bool(text.ends_with(&**part))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "contains",
        overloads: &[("contains_string", "string.(string) -> bool")],
        run: |_, args| match args {
            [Val::Str(text), Val::Str(part)] => Ok(Val::Bool(text.contains(&**part))),
            _ => no_overload(args),
        },
    },
    Function {
        name: "charAt",
        overloads: &[("string_char_at_int", "string.(int) -> string")],
        run: |_, args| match args {
            [Val::Str(text), Val::Int(index)] => {
                let count = text.chars().count();
                let index = within(*index, count)?;
                Ok(Val::text(text.chars().nth(index).map(String::from).unwrap_or_default()))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "lowerAscii",
        overloads: &[("string_lower_ascii", "string.() -> string")],
        run: |ctx, args| change(ctx, args, |t| t.to_ascii_lowercase()),
    },
    Function {
        name: "upperAscii",
        overloads: &[("string_upper_ascii", "string.() -> string")],
        run: |ctx, args| change(ctx, args, |t| t.to_ascii_uppercase()),
    },
    Function {
        name: "trim",
        overloads: &[("string_trim", "string.() -> string")],
        run: |ctx, args| change(ctx, args, |t| t.trim().to_owned()),
    },
    Function {
        name: "replace",
        overloads: &[
            ("string_replace_string_string", "string.(string, string) -> string"),
            ("string_replace_string_string_int", "string.(string, string, int) -> string"),
        ],
        run: |ctx, args| match args {
            [Val::Str(text), Val::Str(from), Val::Str(to)] => replace(ctx, text, from, to, -1),
            [Val::Str(text), Val::Str(from), Val::Str(to), Val::Int(limit)] => replace(ctx, text, from, to, *limit),
            _ => no_overload(args),
        },
    },
    Function {
        name: "split",
        overloads: &[
            ("string_split_string", "string.(string) -> list(string)"),
            ("string_split_string_int", "string.(string, int) -> list(string)"),
        ],
        run: |ctx, args| match args {
            [Val::Str(text), Val::Str(separator)] => split(ctx, text, separator, -1),
            [Val::Str(text), Val::Str(separator), Val::Int(limit)] => split(ctx, text, separator, *limit),
            _ => no_overload(args),
        },
    },
    Function {
        name: "substring",
        overloads: &[
            ("string_substring_int", "string.(int) -> string"),
            ("string_substring_int_int", "string.(int, int) -> string"),
        ],
        run: |_, args| match args {
            [Val::Str(text), Val::Int(start)] => substring(text, *start, None),
            [Val::Str(text), Val::Int(start), Val::Int(end)] => substring(text, *start, Some(*end)),
            _ => no_overload(args),
        },
    },
    Function {
        name: "join",
        overloads: &[
            ("list_join", "list(string).() -> string"),
            ("list_join_string", "list(string).(string) -> string"),
        ],
        run: |ctx, args| match args {
            [Val::List(list)] => join(ctx, list, ""),
            [Val::List(list), Val::Str(separator)] => join(ctx, list, separator),
            _ => no_overload(args),
        },
    },
    Function {
        name: "strings.quote",
        overloads: &[("strings_quote", "(string) -> string")],
        run: |ctx, args| change(ctx, args, quote),
    },
    // only where mutations are written
    Function {
        name: "jsonpatch.escapeKey",
        overloads: &[("string_jsonpatch_escape_key_string", "(string) -> string")],
        run: |ctx, args| change(ctx, args, |t| t.replace('~', "~0").replace('/', "~1")),
    },
];

fn change<'a>(ctx: &mut Ctx<'a>, args: &[Val<'a>], f: fn(&str) -> String) -> Answer<'a> {
    let [Val::Str(text)] = args else { return no_overload(args) };
    ctx.allocate(text.len())?;
    Ok(Val::text(f(text)))
}

fn within(index: i64, count: usize) -> Result<usize, Fault> {
    usize::try_from(index)
        .ok()
        .filter(|i| *i <= count)
        .ok_or_else(|| Fault::new(format!("index out of range: {index}")))
}

/// `text.indexOf(part[, offset])`, or from the end.
pub fn index_of<'a>(args: &[Val<'a>], last: bool) -> Answer<'a> {
    let (text, part, offset) = match args {
        [Val::Str(text), Val::Str(part)] => (text, part, None),
        [Val::Str(text), Val::Str(part), Val::Int(offset)] => (text, part, Some(*offset)),
        _ => return no_overload(args),
    };
    let text: Vec<char> = text.chars().collect();
    let part: Vec<char> = part.chars().collect();
    let default = if last { text.len() as i64 } else { 0 };
    let offset = within(offset.unwrap_or(default), text.len())?;
    if part.is_empty() {
        return Ok(Val::Int(offset as i64));
    }
    let Some(latest) = text.len().checked_sub(part.len()) else { return Ok(Val::Int(-1)) };
    let fits = |i: &usize| text[*i..*i + part.len()] == part[..];
    let found = if last { (0..=latest.min(offset)).rev().find(fits) } else { (offset..=latest).find(fits) };
    Ok(Val::Int(found.map_or(-1, |i| i as i64)))
}

fn replace<'a>(ctx: &mut Ctx<'a>, text: &str, from: &str, to: &str, limit: i64) -> Answer<'a> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = text.matches(from).take(limit).count();
    ctx.allocate(text.len().saturating_add(count.saturating_mul(to.len())))?;
    Ok(Val::text(text.replacen(from, to, limit)))
}

fn split<'a>(ctx: &mut Ctx<'a>, text: &str, separator: &str, limit: i64) -> Answer<'a> {
    let limit = match limit {
        0 => return Ok(Val::list(Vec::new())),
        negative if negative < 0 => usize::MAX,
        positive => positive as usize,
    };
    let mut parts = Vec::new();
    let mut add = |ctx: &mut Ctx<'a>, part: &str| {
        ctx.allocate(part.len() + size_of::<Val<'_>>())?;
        parts.push(Val::text(part));
        Ok::<(), Fault>(())
    };
    if separator.is_empty() {
        // each character by itself, the rest in the last part
        let mut rest = text;
        let mut left = limit;
        while let Some(first) = rest.chars().next() {
            let width = if left == 1 { rest.len() } else { first.len_utf8() };
            add(ctx, &rest[..width])?;
            rest = &rest[width..];
            left -= 1;
        }
    } else {
        for part in text.splitn(limit, separator) {
            add(ctx, part)?;
        }
    }
    Ok(Val::list(parts))
}

fn substring<'a>(text: &str, start: i64, end: Option<i64>) -> Answer<'a> {
    let count = text.chars().count();
    let (from, to) = (within(start, count)?, end.map_or(Ok(count), |e| within(e, count))?);
    if from > to {
        return Err(Fault::new(format!("invalid substring range. start: {start}, end: {}", end.unwrap_or(0))));
    }
    Ok(Val::text(text.chars().skip(from).take(to - from).collect::<String>()))
}

fn join<'a>(ctx: &mut Ctx<'a>, list: &List<'a>, separator: &str) -> Answer<'a> {
    let mut out = String::new();
    for (i, item) in list.iter().enumerate() {
        let Val::Str(part) = item else { return no_overload(&[]) };
        let separator = if i == 0 { "" } else { separator };
        ctx.allocate(separator.len() + part.len())?;
        out.push_str(separator);
        out.push_str(&part);
    }
    Ok(Val::text(out))
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
