//! `"…%s…".format([…])` (cel-go `ext/formatting.go`).

use super::{Answer, Function, convert, no_overload, time};
use crate::{
    eval::{Ctx, Fault},
    value::{List, Val},
};

/// Digits after the point, at most.
const MAX_PRECISION: usize = 100;

pub(super) static TABLE: &[Function] = &[Function {
    name: "format",
    overloads: &[("string_format", "string.(list(dyn)) -> string")],
    run: |ctx, args| match args {
        [Val::Str(pattern), Val::List(list)] => format(ctx, pattern, list),
        _ => no_overload(args),
    },
}];

fn format<'a>(ctx: &mut Ctx<'a>, pattern: &str, list: &List<'a>) -> Answer<'a> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut used = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let wanted: usize =
                digits.parse().map_err(|_| Fault::new("error while converting precision to integer"))?;
            if wanted > MAX_PRECISION {
                return Err(Fault::new(format!("precision {wanted} exceeds the maximum of {MAX_PRECISION}")));
            }
            precision = Some(wanted);
        }
        let verb = chars.next().ok_or_else(|| Fault::new("unexpected end of string"))?;
        let value = list.get(used).ok_or_else(|| Fault::new(format!("index {used} out of range")))?;
        used += 1;
        let text = one(verb, precision, &value).map_err(|why| Fault::new(format!("error during formatting: {why}")))?;
        ctx.allocate(text.len())?;
        out.push_str(&text);
    }
    if used < list.len() {
        return Err(Fault::new(format!("error during formatting: {} arguments were not used", list.len() - used)));
    }
    ctx.allocate(out.len())?;
    Ok(Val::text(out))
}

fn one(verb: char, precision: Option<usize>, value: &Val<'_>) -> Result<String, String> {
    let refuse = |takes: &str| {
        Err(format!("{takes} clause can only be used on the types it is made for, was given {}", value.type_name()))
    };
    Ok(match (verb, value) {
        ('s', _) => shown(value)?,
        ('d', Val::Int(i)) => i.to_string(),
        ('d', Val::Uint(u)) => u.to_string(),
        ('d', Val::Double(d)) if d.is_nan() || d.is_infinite() => convert::double(*d),
        ('f', Val::Double(d)) => fixed(*d, precision.unwrap_or(6)),
        ('f', Val::Int(i)) => fixed(*i as f64, precision.unwrap_or(6)),
        ('f', Val::Uint(u)) => fixed(*u as f64, precision.unwrap_or(6)),
        ('e', Val::Double(d)) => exponent(*d, precision.unwrap_or(6)),
        ('e', Val::Int(i)) => exponent(*i as f64, precision.unwrap_or(6)),
        ('b', Val::Int(i)) => signed(*i, |n| format!("{n:b}")),
        ('b', Val::Uint(u)) => format!("{u:b}"),
        ('b', Val::Bool(b)) => u8::from(*b).to_string(),
        ('o', Val::Int(i)) => signed(*i, |n| format!("{n:o}")),
        ('o', Val::Uint(u)) => format!("{u:o}"),
        ('x', Val::Int(i)) => signed(*i, |n| format!("{n:x}")),
        ('X', Val::Int(i)) => signed(*i, |n| format!("{n:X}")),
        ('x', Val::Uint(u)) => format!("{u:x}"),
        ('X', Val::Uint(u)) => format!("{u:X}"),
        ('x', Val::Str(t)) => t.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Val::Str(t)) => t.bytes().map(|b| format!("{b:02X}")).collect(),
        ('x', Val::Bytes(t)) => t.iter().map(|b| format!("{b:02x}")).collect(),
        ('X', Val::Bytes(t)) => t.iter().map(|b| format!("{b:02X}")).collect(),
        ('d', _) => return refuse("decimal"),
        ('f', _) => return refuse("fixed-point"),
        ('e', _) => return refuse("scientific notation"),
        ('b', _) => return refuse("binary"),
        ('o', _) => return refuse("octal"),
        ('x' | 'X', _) => return refuse("hex"),
        _ => return Err(format!("unrecognized formatting clause \"{verb}\"")),
    })
}

fn signed(value: i64, digits: impl Fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, digits(value.unsigned_abs()))
}

fn fixed(value: f64, precision: usize) -> String {
    if value.is_finite() { format!("{value:.precision$}") } else { convert::double(value) }
}

fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return convert::double(value) };
    let power: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// `%s`
fn shown(value: &Val<'_>) -> Result<String, String> {
    Ok(match value {
        Val::Null => "null".into(),
        Val::Type(name) => name.to_string(),
        Val::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Val::Duration(nanos) => time::duration_text(*nanos),
        Val::List(list) => {
            let items: Result<Vec<String>, String> = list.iter().map(|v| shown(&v)).collect();
            format!("[{}]", items?.join(", "))
        }
        Val::Map(map) => {
            let mut entries = Vec::new();
            for key in map.keys() {
                let value = map.get(&key).map_or(Ok(String::new()), |v| shown(&v))?;
                entries.push(format!("{}: {value}", shown(&key.value())?));
            }
            format!("{{{}}}", entries.join(", "))
        }
        _ => convert::to_text(value).ok_or_else(|| {
            format!("string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}", value.type_name())
        })?,
    })
}
