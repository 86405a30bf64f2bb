//! `format.dns1123Label().validate(…)`: named formats.

use std::sync::Arc;

use base64::Engine;
use notation::names;

use super::Extra;
use crate::{
    functions::{self, Function, no_overload, regexes},
    value::Val,
};

/// A format: its name, and what is wrong with a text.
#[derive(Debug)]
pub struct Named {
    pub name: &'static str,
    check: fn(&str) -> Vec<String>,
}

fn matching(text: &str, pattern: &str, what: &str) -> Vec<String> {
    match regexes::compile(pattern) {
        Ok(regex) if regex.is_match(text) => Vec::new(),
        _ => vec![what.to_owned()],
    }
}

static NAMED: &[Named] = &[
    Named { name: "dns1123Label", check: names::dns1123_label },
    Named { name: "dns1123Subdomain", check: names::dns1123_subdomain },
    Named { name: "dns1035Label", check: names::dns1035_label },
    Named { name: "qualifiedName", check: names::qualified_name },
    Named { name: "dns1123LabelPrefix", check: |t| names::dns1123_label(prefix(t)) },
    Named { name: "dns1123SubdomainPrefix", check: |t| names::dns1123_subdomain(prefix(t)) },
    Named { name: "dns1035LabelPrefix", check: |t| names::dns1035_label(prefix(t)) },
    Named { name: "labelValue", check: names::label_value },
    Named {
        name: "uri",
        check: |t| {
            if t.starts_with('/') || url::Url::parse(t).is_ok() {
                Vec::new()
            } else {
                vec![format!("parse \"{t}\": invalid URI for request")]
            }
        },
    },
    Named {
        name: "uuid",
        check: |t| {
            matching(
                t,
                "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
                "does not match the UUID format",
            )
        },
    },
    Named {
        name: "byte",
        check: |t| match base64::engine::general_purpose::STANDARD.decode(t) {
            Ok(_) => Vec::new(),
            Err(_) => vec!["invalid base64".into()],
        },
    },
    Named {
        name: "date",
        check: |t| match functions::time::parse_timestamp(t, true).filter(|_| t.len() == 10) {
            Some(_) => Vec::new(),
            None => vec!["invalid date".into()],
        },
    },
    Named {
        name: "datetime",
        check: |t| match functions::time::parse_timestamp(t, false) {
            Some(_) => Vec::new(),
            None => vec!["invalid datetime".into()],
        },
    },
];

/// A prefix of generated names may end with a dash.
fn prefix(text: &str) -> &str {
    text.strip_suffix('-').unwrap_or(text)
}

fn named(name: &str) -> Option<&'static Named> {
    NAMED.iter().find(|n| n.name == name)
}

macro_rules! constant {
    ($name:literal) => {
        Function {
            name: concat!("format.", $name),
            overloads: &[(concat!("format-", $name), "() -> kubernetes.NamedFormat")],
            run: |_, args| {
                named($name).map_or_else(|| no_overload(args), |n| Ok(Val::Extra(Arc::new(Extra::Format(n)))))
            },
        }
    };
}

pub(crate) static TABLE: &[Function] = &[
    constant!("dns1123Label"),
    constant!("dns1123Subdomain"),
    constant!("dns1035Label"),
    constant!("qualifiedName"),
    constant!("dns1123LabelPrefix"),
    constant!("dns1123SubdomainPrefix"),
    constant!("dns1035LabelPrefix"),
    constant!("labelValue"),
    constant!("uri"),
    constant!("uuid"),
    constant!("byte"),
    constant!("date"),
    constant!("datetime"),
    Function {
        name: "format.named",
        overloads: &[("format-named", "(string) -> optional(kubernetes.NamedFormat)")],
        run: |_, args| match args {
            [Val::Str(name)] => {
                Ok(Val::Optional(named(name).map(|n| Arc::new(Val::Extra(Arc::new(Extra::Format(n)))))))
            }
            _ => no_overload(args),
        },
    },
    Function {
        name: "validate",
        overloads: &[("format-validate", "kubernetes.NamedFormat.(string) -> optional(list(string))")],
        run: |ctx, args| match args {
            [Val::Extra(extra), Val::Str(text)] => match &**extra {
                Extra::Format(format) => {
                    let problems = (format.check)(text);
                    ctx.allocate(problems.iter().map(String::len).sum())?;
                    let found = (!problems.is_empty())
                        .then(|| Arc::new(Val::list(problems.into_iter().map(Val::text).collect())));
                    Ok(Val::Optional(found))
                }
                _ => no_overload(args),
            },
            _ => no_overload(args),
        },
    },
];
