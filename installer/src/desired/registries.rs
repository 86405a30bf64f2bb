//! Where the container runtime gets images from: containerd's `hosts.toml` for every registry (read at each pull, so that a change
//! restarts nothing), and the proxy in its environment.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoststate::resource::Contents;
use hoststate::{Content, Resource};

use crate::cluster::{Cluster, Registry};
use crate::ssh::secrets;

/// The runtime's configuration names it where there are registries.
pub const FOLDER: &str = "/etc/kinstall/registries";
/// Of the runtime's unit, where there is a proxy.
pub const PROXY: &str = "/etc/kinstall/proxy.env";

/// Empty without registries.
pub fn directories(cluster: &Cluster) -> Vec<Resource> {
    let folders = cluster.registries.iter().map(|registry| format!("{FOLDER}/{}", registry.name));
    let all = (!cluster.registries.is_empty()).then(|| FOLDER.to_owned()).into_iter().chain(folders);
    all.map(|path| Resource::Directory { path, mode: 0o700, contents: Contents::Ours }).collect()
}

/// # Errors
/// When a certificate or a password that the inventory names cannot be read.
pub fn files(cluster: &Cluster) -> anyhow::Result<Vec<Resource>> {
    let mut list = Vec::new();
    for registry in &cluster.registries {
        let told = || format!("for the registry {}", registry.name);
        let folder = format!("{FOLDER}/{}", registry.name);
        if let Some(path) = &registry.ca_file {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))
                .with_context(told)?;
            list.push(file(format!("{folder}/ca.crt"), 0o644, text, false));
        }
        let password = secrets::at_hand(&registry.password).with_context(told)?;
        let is_secret = password.is_some();
        list.push(file(format!("{folder}/hosts.toml"), 0o600, hosts(registry, password.as_deref()), is_secret));
    }
    list.extend(environment(cluster).map(|text| file(PROXY.to_owned(), 0o600, text, true)));
    Ok(list)
}

fn file(path: String, mode: u32, text: String, secret: bool) -> Resource {
    Resource::File { path, mode, content: Content::Inline { text, secret } }
}

/// Mirrors in their order, then the registry itself. Certificate and credentials hold for all of them.
fn hosts(registry: &Registry, password: Option<&str>) -> String {
    let mut text = "# Written by kinstall; changes are overwritten.\n".to_owned();
    let own = (registry.name != "_default").then(|| match registry.name.as_str() {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        name => format!("https://{name}"),
    });
    if let Some(server) = &own {
        let _ = writeln!(text, "server = \"{server}\"");
    }
    for url in registry.mirrors.iter().chain(&own) {
        let capabilities =
            if own.as_ref() == Some(url) { "\"pull\", \"resolve\", \"push\"" } else { "\"pull\", \"resolve\"" };
        let _ = writeln!(text, "\n[host.\"{url}\"]\n  capabilities = [{capabilities}]");
        if registry.ca_file.is_some() {
            let _ = writeln!(text, "  ca = \"{FOLDER}/{}/ca.crt\"", registry.name);
        }
        if registry.skip_verify {
            text.push_str("  skip_verify = true\n");
        }
        if let (Some(user), Some(password)) = (&registry.username, password) {
            let credentials = STANDARD.encode(format!("{user}:{password}"));
            let _ = writeln!(text, "  [host.\"{url}\".header]\n    Authorization = \"Basic {credentials}\"");
        }
    }
    text
}

/// What belongs to the cluster is never asked through the proxy.
fn environment(cluster: &Cluster) -> Option<String> {
    let proxy = cluster.proxy.as_ref()?;
    let own = [cluster.network.pod_cidr.to_string(), cluster.network.service_cidr.to_string()];
    let names =
        ["127.0.0.1".to_owned(), "localhost".to_owned(), ".svc".to_owned(), format!(".{}", cluster.network.domain)];
    let nodes = cluster.hosts.iter().map(|host| host.node_address.to_string());
    let none: Vec<String> = names.into_iter().chain(own).chain(nodes).chain(proxy.no_proxy.iter().cloned()).collect();
    let mut text = String::new();
    for (name, value) in
        [("HTTP_PROXY", &proxy.http), ("HTTPS_PROXY", &proxy.https), ("NO_PROXY", &Some(none.join(",")))]
    {
        if let Some(value) = value {
            let _ = writeln!(text, "{name}=\"{value}\"");
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cluster(more: &str, directory: &std::path::Path) -> Cluster {
        let text = format!("cluster: c\nhosts:\n- {{name: h1, address: 10.0.0.1, role: controlPlane}}\n{more}");
        Cluster::parse(&text, "i", directory).unwrap()
    }

    fn text_of<'a>(list: &'a [Resource], wanted: &str) -> (&'a str, bool) {
        let found = list.iter().find_map(|resource| match resource {
            Resource::File { path, content: Content::Inline { text, secret }, .. } if path == wanted => {
                Some((text.as_str(), *secret))
            }
            _ => None,
        });
        found.unwrap()
    }

    #[test]
    fn a_mirror_comes_before_the_registry_and_both_get_what_they_need() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("p"), "secret\n").unwrap();
        fs::write(directory.path().join("ca.crt"), "CERT").unwrap();
        let more = "registries:\n- {name: 'r.internal:5000', mirrors: ['https://m'], caFile: ca.crt, username: u, passwordFile: p}\n";
        let cluster = cluster(more, directory.path());
        let list = files(&cluster).unwrap();
        assert_eq!(text_of(&list, "/etc/kinstall/registries/r.internal:5000/ca.crt"), ("CERT", false));
        let (text, secret) = text_of(&list, "/etc/kinstall/registries/r.internal:5000/hosts.toml");
        assert!(secret, "it has the password");
        let (mirror, own) =
            (text.find("[host.\"https://m\"]").unwrap(), text.find("[host.\"https://r.internal:5000\"]").unwrap());
        assert!(mirror < own);
        assert_eq!(text.matches("Authorization = \"Basic dTpzZWNyZXQ=\"").count(), 2, "{text}");
        assert_eq!(text.matches("ca = ").count(), 2);
        assert_eq!(directories(&cluster).len(), 2);
    }

    #[test]
    fn docker_hub_has_another_name_and_a_default_none() {
        let more = "registries:\n- {name: docker.io}\n- {name: '*', mirrors: ['http://m']}\n";
        let list = files(&cluster(more, std::path::Path::new("/"))).unwrap();
        assert!(
            text_of(&list, "/etc/kinstall/registries/docker.io/hosts.toml").0.contains("https://registry-1.docker.io")
        );
        let (all, _) = text_of(&list, "/etc/kinstall/registries/_default/hosts.toml");
        assert!(!all.contains("server =") && all.contains("[host.\"http://m\"]"), "{all}");
    }

    #[test]
    fn the_cluster_itself_is_not_asked_through_the_proxy() {
        let more = "proxy: {https: 'http://p:3128', noProxy: [intern]}\n";
        let list = files(&cluster(more, std::path::Path::new("/"))).unwrap();
        let (text, _) = text_of(&list, PROXY);
        assert!(text.starts_with("HTTPS_PROXY=\"http://p:3128\"\nNO_PROXY=\""), "{text}");
        assert!(text.contains("10.0.0.1") && text.contains("10.244.0.0/16") && text.contains(",intern"), "{text}");
        assert!(files(&cluster("", std::path::Path::new("/"))).unwrap().is_empty());
    }

    #[test]
    fn a_password_that_cannot_be_read_is_told_with_its_registry() {
        let more = "registries: [{name: r, username: u, passwordFile: nowhere}]\n";
        let told = format!("{:#}", files(&cluster(more, std::path::Path::new("/d"))).unwrap_err());
        assert!(told.contains("registry r") && told.contains("/d/nowhere"), "{told}");
    }
}
