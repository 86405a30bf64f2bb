//! `kinstall init`: an inventory from hosts' names, or from a few questions. Reaches no host.

mod ask;
mod text;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::Ended;
use crate::cli::{Global, Init};
use crate::cluster::{Cluster, Host};
use crate::printer::Printer;

pub fn run(global: &Global, printer: &Printer, mut arguments: Init) -> anyhow::Result<Ended> {
    let path = &global.inventory;
    if path.symlink_metadata().is_ok() {
        return Err(is_there(path));
    }
    if arguments.hosts.is_empty() {
        if global.yes || !io::stdin().is_terminal() {
            bail!("nobody can be asked for hosts here; name them, such as `kinstall init root@10.0.0.1 root@10.0.0.2`");
        }
        ask::complete(&mut arguments, &mut io::stdin().lock(), &mut io::stderr())?;
    }
    let hosts = text::hosts(&arguments, resolve)?;
    let text = text::inventory(&arguments, &hosts);
    let cluster = checked(&text, path)?;
    write_new(path, &text)?;
    let count = |has: fn(&Host) -> bool| cluster.hosts.iter().filter(|host| has(host)).count();
    let said = format!(
        "wrote {}: hosts: {}, control planes: {}, workers: {}\nlook at it, then run `kinstall up -i {}`",
        path.display(),
        cluster.hosts.len(),
        count(|host| host.control_plane),
        count(|host| host.worker),
        path.display()
    );
    let names: Vec<_> = cluster
        .hosts
        .iter()
        .map(|host| json!({"name": host.name, "address": host.address, "controlPlane": host.control_plane, "worker": host.worker}))
        .collect();
    printer.result(&said, &json!({"event": "inventory", "inventory": path, "cluster": cluster.name, "hosts": names}));
    Ok(Ended::Done)
}

/// What is written has passed the check that `up` begins with.
fn checked(text: &str, path: &Path) -> anyhow::Result<Cluster> {
    let absolute = std::path::absolute(path).with_context(|| format!("cannot resolve {}", path.display()))?;
    let directory = absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    Cluster::parse(text, "the inventory that these answers make", &directory).map_err(Into::into)
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(is_there(path)),
        other => other.with_context(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn is_there(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is there already and stays as it is; name another file with -i, or change it yourself",
        path.display()
    )
}

/// The IPv4 address that this machine knows a name by.
fn resolve(name: &str) -> Option<IpAddr> {
    (name, 22).to_socket_addrs().ok()?.map(|address| address.ip()).find(IpAddr::is_ipv4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::Output;

    fn init(path: &Path, hosts: &[&str]) -> anyhow::Result<Ended> {
        let global = Global {
            inventory: path.to_path_buf(),
            output: Output::Text,
            verbose: 0,
            quiet: true,
            no_color: true,
            yes: true,
        };
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let printer = Printer::new(Output::Text, 0, true).quiet(true);
        run(&global, &printer, Init { hosts, name: "demo".into(), ..Init::default() })
    }

    #[test]
    fn an_inventory_is_written_once_and_never_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inventory.yaml");
        assert!(init(&path, &[]).unwrap_err().to_string().contains("name them"));
        assert!(!path.exists());
        assert_eq!(init(&path, &["root@10.0.0.1", "10.0.0.2"]).unwrap(), Ended::Done);
        let cluster = Cluster::load(&path).unwrap();
        assert_eq!((cluster.name.as_str(), cluster.hosts.len()), ("demo", 2));
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(init(&path, &["10.0.0.3"]).unwrap_err().to_string().contains("is there already"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        let link = directory.path().join("link.yaml");
        std::os::unix::fs::symlink(directory.path().join("nowhere"), &link).unwrap();
        assert!(init(&link, &["10.0.0.3"]).is_err(), "a link is something that is there, too");
        let other = directory.path().join("other.yaml");
        assert!(init(&other, &["10.0.0.1", "10.0.0.1"]).is_err() && !other.exists(), "what is no good is not written");
    }
}
