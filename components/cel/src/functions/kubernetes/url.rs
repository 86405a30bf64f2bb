//! `url()` and the parts of URLs.

use std::{collections::BTreeMap, sync::Arc};

use super::Extra;
use crate::{
    eval::Fault,
    functions::{Answer, Function, no_overload},
    value::{Key, Val},
};

/// A URL that is absolute, or a path from the root.
#[derive(Debug)]
pub struct Parsed {
    pub text: String,
    url: url::Url,
    absolute: bool,
}

pub(crate) static TABLE: &[Function] = &[
    Function {
        name: "url",
        overloads: &[("string_to_url", "(string) -> kubernetes.URL")],
        run: |_, args| match args {
            [Val::Str(text)] => parse(text).map(|p| Val::Extra(Arc::new(Extra::Url(p)))).map_err(|why| {
                Fault::new(format!("URL parse error during conversion from string: parse \"{}\": {why}", &**text))
            }),
            _ => no_overload(args),
        },
    },
    Function {
        name: "isURL",
        overloads: &[("is_url_string", "(string) -> bool")],
        run: |_, args| match args {
            [Val::Str(text)] => Ok(Val::Bool(parse(text).is_ok())),
            _ => no_overload(args),
        },
    },
    Function {
        name: "getScheme",
        overloads: &[("url_get_scheme", "kubernetes.URL.() -> string")],
        run: |_, args| part(args, |p| p.url.scheme().to_owned()),
    },
    Function {
        name: "getHost",
        overloads: &[("url_get_host", "kubernetes.URL.() -> string")],
        run: |_, args| {
            part(args, |p| {
                let host = p.url.host_str().unwrap_or_default();
                p.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
            })
        },
    },
    Function {
        name: "getHostname",
        overloads: &[("url_get_hostname", "kubernetes.URL.() -> string")],
        run: |_, args| part(args, |p| p.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()),
    },
    Function {
        name: "getPort",
        overloads: &[("url_get_port", "kubernetes.URL.() -> string")],
        run: |_, args| part(args, |p| p.port().unwrap_or_default()),
    },
    Function {
        name: "getEscapedPath",
        overloads: &[("url_get_escaped_path", "kubernetes.URL.() -> string")],
        run: |_, args| part(args, Parsed::path),
    },
    Function {
        name: "getQuery",
        overloads: &[("url_get_query", "kubernetes.URL.() -> map(string, list(string))")],
        run: |ctx, args| match args {
            [Val::Extra(extra)] => match &**extra {
                Extra::Url(parsed) => {
                    let mut query: BTreeMap<Key, Vec<Val<'_>>> = BTreeMap::new();
                    for (key, value) in parsed.url.query_pairs() {
                        query.entry(Key::Str(key.into())).or_default().push(Val::text(value.as_ref()));
                    }
                    ctx.allocate(parsed.text.len() * 8)?;
                    Ok(Val::map(query.into_iter().map(|(key, values)| (key, Val::list(values))).collect()))
                }
                _ => no_overload(args),
            },
            _ => no_overload(args),
        },
    },
];

fn part<'a>(args: &[Val<'a>], get: fn(&Parsed) -> String) -> Answer<'a> {
    match args {
        [Val::Extra(extra)] => match &**extra {
            Extra::Url(parsed) if parsed.absolute || get(parsed) == parsed.path() => Ok(Val::text(get(parsed))),
            Extra::Url(_) => Ok(Val::text("")),
            _ => no_overload(args),
        },
        _ => no_overload(args),
    }
}

impl Parsed {
    /// The port as it was written: the parser drops a scheme's default port.
    fn port(&self) -> Option<String> {
        let authority = self.text.split_once("://")?.1;
        let authority = authority.split(['/', '?', '#']).next()?;
        let authority = authority.rsplit('@').next()?;
        let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
        let port = after_host.rsplit_once(':')?.1;
        (!port.is_empty()).then(|| port.to_owned())
    }

    fn path(&self) -> String {
        let path = self.url.path();
        // a URL without a path has none, which the parser writes as "/"
        let after = self.text.split_once("://").map_or(self.text.as_str(), |(_, rest)| rest);
        if path == "/" && self.absolute && !after.contains('/') { String::new() } else { path.to_owned() }
    }
}

/// As Go's `url.ParseRequestURI`: absolute URLs and absolute paths.
fn parse(text: &str) -> Result<Parsed, String> {
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".into());
    }
    if text.is_empty() {
        return Err("empty url".into());
    }
    if text.starts_with('/') {
        let base = url::Url::parse("http://path.invalid").map_err(|e| e.to_string())?;
        let url = base.join(text).map_err(|e| e.to_string())?;
        return Ok(Parsed { text: text.to_owned(), url, absolute: false });
    }
    if text.contains(' ') {
        return Err("invalid character \" \" in host name".into());
    }
    let url = url::Url::parse(text).map_err(|_| "invalid URI for request".to_owned())?;
    Ok(Parsed { text: text.to_owned(), url, absolute: true })
}
