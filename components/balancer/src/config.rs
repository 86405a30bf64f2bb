//! `/etc/kinstall/balancer.yaml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

/// What the balancer is told. All but `listen` is taken over when the file changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where clients of this host come.
    pub listen: SocketAddr,
    /// The API servers. One with an address of this host is preferred.
    pub servers: Vec<SocketAddr>,
    /// What the servers' certificates are checked with when they are asked whether they are ready. Clients check for themselves.
    #[serde(default = "default_ca_file")]
    pub ca_file: PathBuf,
}

fn default_ca_file() -> PathBuf {
    "/etc/kinstall/pki/ca.crt".into()
}

impl Config {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self =
            serde_yaml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))?;
        anyhow::ensure!(!config.servers.is_empty(), "{} names no servers; list at least one", path.display());
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn servers_are_addresses_with_ports() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("balancer.yaml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Config::read(&file).map_err(|error| format!("{error:#}"))
        };
        let config = read("listen: 127.0.0.1:6444\nservers: [10.99.0.11:6443, 10.99.0.12:6443]\n").unwrap();
        assert_eq!(config.servers[1], "10.99.0.12:6443".parse().unwrap());
        assert_eq!(config.ca_file, Path::new("/etc/kinstall/pki/ca.crt"));
        assert!(read("listen: 127.0.0.1:6444\nservers: []\n").unwrap_err().contains("names no servers"));
        assert!(read("listen: 127.0.0.1:6444\nservers: [10.99.0.11]\n").is_err());
        assert!(read("listen: 127.0.0.1:6444\nservers: [1.2.3.4:5]\nmore: 1\n").unwrap_err().contains("more"));
    }
}
