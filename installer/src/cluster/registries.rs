//! Where images come from, resolved.

use std::path::{Path, PathBuf};

use super::{Secret, expand};
use crate::inventory::{self, At, Sink};

/// How the runtime reaches one registry.
#[derive(Clone, Debug)]
pub struct Registry {
    /// Host and port as image names have it, such as `docker.io`; `_default` for all that have no entry.
    pub name: String,
    /// URLs that are asked first, in this order; then the registry itself.
    pub mirrors: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub skip_verify: bool,
    pub username: Option<String>,
    pub password: Secret,
}

/// What the runtime's connections to registries go through.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub http: Option<String>,
    pub https: Option<String>,
    /// Hosts, domains and ranges that are reached without it, beside the cluster's own.
    pub no_proxy: Vec<String>,
}

pub fn registries(written: &[inventory::Registry], directory: &Path, sink: &mut Sink) -> Vec<Registry> {
    let mut found: Vec<Registry> = Vec::new();
    for one in written {
        let Some(At { value, pos }) = &one.name else { continue };
        let name = if value == "*" { "_default" } else { value.as_str() };
        if !is_registry(value) {
            sink.add(*pos, format!("{}.name", one.path), "expected a registry as image names have it, such as docker.io or registry.internal:5000, or \"*\" for all others");
        } else if found.iter().any(|other| other.name == name) {
            sink.add(*pos, format!("{}.name", one.path), format!("there is an entry for {value:?} already"));
        }
        check_mirrors(one, sink);
        if one.username.is_some() != (one.password_file.is_some() || one.password_env.is_some()) {
            sink.add(
                one.pos,
                &one.path,
                "a username needs a password (passwordFile or passwordEnv), and the other way round",
            );
        }
        if name == "_default" && one.mirrors.is_empty() {
            sink.add(one.pos, format!("{}.mirrors", one.path), "is required: \"*\" says which mirror all others have");
        }
        found.push(Registry {
            name: name.to_owned(),
            mirrors: one.mirrors.iter().map(|at| at.value.trim_end_matches('/').to_owned()).collect(),
            ca_file: one.ca_file.clone().map(|path| expand(path, directory)),
            skip_verify: one.skip_verify.unwrap_or(false),
            username: one.username.as_ref().map(|at| at.value.clone()),
            password: match (&one.password_file, &one.password_env) {
                (Some(path), _) => Secret::File(expand(path.clone(), directory)),
                (None, Some(name)) => Secret::Environment(name.clone()),
                (None, None) => Secret::None,
            },
        });
    }
    found
}

fn check_mirrors(registry: &inventory::Registry, sink: &mut Sink) {
    for (index, At { value, pos }) in registry.mirrors.iter().enumerate() {
        if !is_url(value) {
            let expected = "expected a URL, such as https://mirror.internal:5000";
            sink.add(*pos, format!("{}.mirrors[{index}]", registry.path), expected);
        }
    }
}

pub fn proxy(written: &inventory::Proxy, sink: &mut Sink) -> Option<Proxy> {
    for (field, url) in [("http", &written.http), ("https", &written.https)] {
        if let Some(At { value, pos }) = url
            && !is_url(value)
        {
            sink.add(*pos, format!("proxy.{field}"), "expected a URL, such as http://proxy.internal:3128");
        }
    }
    if written.http.is_none() && written.https.is_none() {
        sink.add(written.pos, "proxy", "expected `http` or `https`, or both");
    }
    for (index, At { value, pos }) in written.no_proxy.iter().enumerate() {
        if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == ',' || c.is_control()) {
            sink.add(*pos, format!("proxy.noProxy[{index}]"), "expected one host, domain or range");
        }
    }
    let text = |at: &Option<At<String>>| at.as_ref().map(|at| at.value.clone());
    Some(Proxy {
        http: text(&written.http),
        https: text(&written.https),
        no_proxy: written.no_proxy.iter().map(|at| at.value.clone()).collect(),
    })
}

/// It becomes the name of a directory on hosts.
fn is_registry(name: &str) -> bool {
    let (host, port) = name.split_once(':').map_or((name, None), |(host, port)| (host, Some(port)));
    let plain = !host.is_empty()
        && !host.starts_with(['.', '-', '_'])
        && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    name == "*" || (plain && port.is_none_or(|port| port.parse::<u16>().is_ok()))
}

/// It is written into the runtime's files.
fn is_url(text: &str) -> bool {
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"'\\$`".contains(c));
    plain && reqwest::Url::parse(text).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::cluster::Cluster;

    fn cluster(more: &str) -> Result<Cluster, String> {
        let text = format!("cluster: c\nhosts:\n- {{name: h1, address: 10.0.0.1, role: controlPlane}}\n{more}");
        Cluster::parse(&text, "i", std::path::Path::new("/d")).map_err(|problems| format!("{problems:?}"))
    }

    #[test]
    fn registries_are_resolved() {
        let found = cluster(
            "registries:\n- {name: docker.io, mirrors: ['https://m:5000/'], caFile: ca.crt, username: u, passwordFile: p}\n- {name: '*', mirrors: [http://m]}\n",
        )
        .unwrap()
        .registries;
        assert_eq!((found[0].name.as_str(), found[0].mirrors[0].as_str()), ("docker.io", "https://m:5000"));
        assert_eq!(found[0].ca_file.as_deref(), Some(std::path::Path::new("/d/ca.crt")));
        assert_eq!(found[1].name, "_default");
    }

    #[test]
    fn what_no_registry_and_no_proxy_can_be_is_told() {
        for (more, expected) in [
            ("registries: [{name: ../etc}]", "as image names have it"),
            ("registries: [{name: 'a:b'}]", "as image names have it"),
            ("registries: [{name: a}, {name: a}]", "already"),
            ("registries: [{name: a, mirrors: [m]}]", "expected a URL"),
            ("registries: [{name: a, mirrors: ['https://m/\"x']}]", "expected a URL"),
            ("registries: [{name: a, username: u}]", "needs a password"),
            ("registries: [{name: '*'}]", "is required"),
            ("registries: [{mirrors: []}]", "required"),
            ("proxy: {}", "`http` or `https`"),
            ("proxy: {http: proxy}", "expected a URL"),
            ("proxy: {http: 'http://p:1', noProxy: ['a b']}", "one host"),
        ] {
            let told = cluster(more).unwrap_err();
            assert!(told.contains(expected), "{more}: {told}");
        }
    }
}
