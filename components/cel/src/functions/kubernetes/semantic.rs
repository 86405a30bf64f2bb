//! `semver()`: semantic versions.

use std::sync::Arc;

use semver::Version;

use super::Extra;
use crate::{
    eval::Fault,
    functions::{Answer, Function, no_overload},
    value::Val,
};

pub(crate) static TABLE: &[Function] = &[
    Function {
        name: "semver",
        overloads: &[
            ("string_to_semver", "(string) -> kubernetes.Semver"),
            ("string_bool_to_semver", "(string, bool) -> kubernetes.Semver"),
        ],
        run: |_, args| {
            parse(args)?
                .map(|v| Val::Extra(Arc::new(Extra::Semver(v))))
                .map_err(|why| Fault::new(format!("semver parse error: {why}")))
        },
    },
    Function {
        name: "isSemver",
        overloads: &[("is_semver_string", "(string) -> bool"), ("is_semver_string_bool", "(string, bool) -> bool")],
        run: |_, args| Ok(Val::Bool(parse(args)?.is_ok())),
    },
    Function {
        name: "major",
        overloads: &[("semver_major", "kubernetes.Semver.() -> int")],
        run: |_, args| part(args, |v| v.major),
    },
    Function {
        name: "minor",
        overloads: &[("semver_minor", "kubernetes.Semver.() -> int")],
        run: |_, args| part(args, |v| v.minor),
    },
    Function {
        name: "patch",
        overloads: &[("semver_patch", "kubernetes.Semver.() -> int")],
        run: |_, args| part(args, |v| v.patch),
    },
];

fn part<'a>(args: &[Val<'a>], get: fn(&Version) -> u64) -> Answer<'a> {
    match args {
        [Val::Extra(extra)] => match &**extra {
            Extra::Semver(version) => {
                i64::try_from(get(version)).map(Val::Int).map_err(|_| Fault::new("integer overflow"))
            }
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}

fn parse(args: &[Val<'_>]) -> Result<Result<Version, String>, Fault> {
    match args {
        [Val::Str(text)] | [Val::Str(text), Val::Bool(false)] => Ok(Version::parse(text).map_err(|e| e.to_string())),
        [Val::Str(text), Val::Bool(true)] => Ok(Version::parse(&normalized(text)).map_err(|e| e.to_string())),
        _ => no_overload(args).map(|_| Err(String::new())),
    }
}

/// Without `v`, with three numbers, and without leading zeros.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut parts: Vec<String> = numbers
        .split('.')
        .map(|part| {
            let stripped = part.trim_start_matches('0');
            if stripped.is_empty() && !part.is_empty() { "0".to_owned() } else { stripped.to_owned() }
        })
        .collect();
    while parts.len() < 3 {
        parts.push("0".into());
    }
    parts.join(".") + rest
}
