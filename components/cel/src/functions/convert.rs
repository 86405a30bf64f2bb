//! Conversions between types.

use std::sync::Arc;

use super::{Answer, Function, kubernetes::Extra, no_overload, time};
use crate::{
    eval::{Ctx, Fault},
    value::{Text, Val},
};

pub(super) static TABLE: &[Function] = &[
    Function {
        name: "dyn",
        overloads: &[("to_dyn", "(A) -> dyn")],
        run: |_, args| args.first().cloned().ok_or_else(|| Fault::new("no such overload")),
    },
    Function {
        name: "type",
        overloads: &[("type", "(A) -> type(A)")],
        run: |_, args| match args {
            [value] => Ok(Val::Type(value.type_name().into())),
            _ => no_overload(args),
        },
    },
    Function {
        name: "bool",
        overloads: &[("bool_to_bool", "(bool) -> bool"), ("string_to_bool", "(string) -> bool")],
        run: |_, args| match args {
            [Val::Bool(b)] => Ok(Val::Bool(*b)),
            [Val::Str(text)] => match &**text {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Val::Bool(true)),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Val::Bool(false)),
                _ => Err(mismatch("string", "bool")),
            },
            _ => no_overload(args),
        },
    },
    Function {
        name: "bytes",
        overloads: &[("bytes_to_bytes", "(bytes) -> bytes"), ("string_to_bytes", "(string) -> bytes")],
        run: |ctx, args| match args {
            [Val::Bytes(b)] => Ok(Val::Bytes(b.clone())),
            [Val::Str(text)] => {
                ctx.allocate(text.len())?;
                Ok(Val::Bytes(text.as_bytes().into()))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "double",
        overloads: &[
            ("double_to_double", "(double) -> double"),
            ("int64_to_double", "(int) -> double"),
            ("string_to_double", "(string) -> double"),
            ("uint64_to_double", "(uint) -> double"),
        ],
        run: |_, args| match args {
            [Val::Double(d)] => Ok(Val::Double(*d)),
            [Val::Int(i)] => Ok(Val::Double(*i as f64)),
            [Val::Uint(u)] => Ok(Val::Double(*u as f64)),
            [Val::Str(text)] => text.parse().map(Val::Double).map_err(|_| mismatch("string", "double")),
            _ => no_overload(args),
        },
    },
    Function {
        name: "int",
        overloads: &[
            ("int64_to_int64", "(int) -> int"),
            ("double_to_int64", "(double) -> int"),
            ("duration_to_int64", "(duration) -> int"),
            ("string_to_int64", "(string) -> int"),
            ("timestamp_to_int64", "(timestamp) -> int"),
            ("uint64_to_int64", "(uint) -> int"),
        ],
        run: |_, args| match args {
            [Val::Int(i)] => Ok(Val::Int(*i)),
            [Val::Double(d)] if d.is_finite() && d.abs() < 9_223_372_036_854_775_807.0 => Ok(Val::Int(*d as i64)),
            [Val::Double(_)] => Err(Fault::new("integer overflow")),
            [Val::Uint(u)] => i64::try_from(*u).map(Val::Int).map_err(|_| Fault::new("integer overflow")),
            [Val::Str(text)] => text.parse().map(Val::Int).map_err(|_| mismatch("string", "int")),
            [Val::Timestamp(at)] => Ok(Val::Int(at.unix_timestamp())),
            [Val::Duration(nanos)] => Ok(Val::Int(*nanos)),
            _ => no_overload(args),
        },
    },
    Function {
        name: "uint",
        overloads: &[
            ("uint64_to_uint64", "(uint) -> uint"),
            ("double_to_uint64", "(double) -> uint"),
            ("int64_to_uint64", "(int) -> uint"),
            ("string_to_uint64", "(string) -> uint"),
        ],
        run: |_, args| match args {
            [Val::Uint(u)] => Ok(Val::Uint(*u)),
            [Val::Double(d)] if *d >= 0.0 && *d < 18_446_744_073_709_551_615.0 => Ok(Val::Uint(*d as u64)),
            [Val::Double(_)] => Err(Fault::new("unsigned integer overflow")),
            [Val::Int(i)] => u64::try_from(*i).map(Val::Uint).map_err(|_| Fault::new("unsigned integer overflow")),
            [Val::Str(text)] => text.parse().map(Val::Uint).map_err(|_| mismatch("string", "uint")),
            _ => no_overload(args),
        },
    },
    Function {
        name: "string",
        overloads: &[
            ("string_to_string", "(string) -> string"),
            ("bool_to_string", "(bool) -> string"),
            ("bytes_to_string", "(bytes) -> string"),
            ("double_to_string", "(double) -> string"),
            ("duration_to_string", "(duration) -> string"),
            ("int64_to_string", "(int) -> string"),
            ("timestamp_to_string", "(timestamp) -> string"),
            ("uint64_to_string", "(uint) -> string"),
            ("ip_to_string", "(net.IP) -> string"),
            ("cidr_to_string", "(net.CIDR) -> string"),
        ],
        run: string,
    },
    Function {
        name: "duration",
        overloads: &[
            ("duration_to_duration", "(duration) -> duration"),
            ("string_to_duration", "(string) -> duration"),
        ],
        run: |_, args| match args {
            [Val::Duration(d)] => Ok(Val::Duration(*d)),
            [Val::Str(text)] => time::parse_duration(text)
                .map(Val::Duration)
                .ok_or_else(|| mismatch("string", "google.protobuf.Duration")),
            _ => no_overload(args),
        },
    },
    Function {
        name: "timestamp",
        overloads: &[
            ("timestamp_to_timestamp", "(timestamp) -> timestamp"),
            ("string_to_timestamp", "(string) -> timestamp"),
            ("int64_to_timestamp", "(int) -> timestamp"),
        ],
        run: |_, args| match args {
            [Val::Timestamp(at)] => Ok(Val::Timestamp(*at)),
            [Val::Int(seconds)] => ::time::OffsetDateTime::from_unix_timestamp(*seconds)
                .ok()
                .filter(super::operators::in_range)
                .map(Val::Timestamp)
                .ok_or_else(|| Fault::new("timestamp overflow")),
            [Val::Str(text)] => time::parse_timestamp(text, false)
                .map(Val::Timestamp)
                .ok_or_else(|| mismatch("string", "google.protobuf.Timestamp")),
            _ => no_overload(args),
        },
    },
];

fn mismatch(from: &str, to: &str) -> Fault {
    Fault::new(format!("type conversion error from '{from}' to '{to}'"))
}

fn string<'a>(ctx: &mut Ctx<'a>, args: &[Val<'a>]) -> Answer<'a> {
    match args {
        [Val::Str(text)] => Ok(Val::Str(text.clone())),
        [Val::Bytes(bytes)] => {
            ctx.allocate(bytes.len())?;
            let text = std::str::from_utf8(bytes)
                .map_err(|_| Fault::new("invalid UTF-8 in bytes, cannot convert to string"))?;
            Ok(Val::Str(Text::Owned(Arc::from(text))))
        }
        [value] => to_text(value).map_or_else(|| no_overload(args), |text| Ok(Val::text(text))),
        _ => no_overload(args),
    }
}

/// The text of a value that has one.
pub fn to_text(value: &Val<'_>) -> Option<String> {
    Some(match value {
        Val::Str(text) => text.to_string(),
        Val::Bool(b) => b.to_string(),
        Val::Int(i) => i.to_string(),
        Val::Uint(u) => u.to_string(),
        Val::Double(d) => double(*d),
        Val::Duration(nanos) => time::duration_text(*nanos),
        Val::Timestamp(at) => time::timestamp_text(*at),
        Val::Extra(extra) => match &**extra {
            Extra::Ip(ip) => ip.to_string(),
            Extra::Cidr(cidr) => cidr.to_string(),
            _ => return None,
        },
        _ => return None,
    })
}

/// As Go's `%g` writes it: with an exponent below 1e-4 and from 1e+06 on.
pub fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}
