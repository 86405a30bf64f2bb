//! Keys of the lab: one client key that every host accepts, and a host key pair of each host, known beforehand so that strict
//! host-key checking can be tested.

use crate::{command, paths};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Users of a host that accept the lab's key: name and home.
const USERS: [(&str, &str); 3] = [("root", "root"), ("admin", "home/admin"), ("ops", "home/ops")];

pub struct Trust {
    dir: PathBuf,
}

impl Trust {
    pub fn new(state: &Path) -> Self {
        Trust { dir: state.to_owned() }
    }

    pub fn key(&self) -> PathBuf {
        self.dir.join("id_ed25519")
    }
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }
    pub fn ssh_config(&self) -> PathBuf {
        self.dir.join("ssh_config")
    }

    pub fn ensure_key(&self) -> Result<()> {
        if !self.key().exists() {
            keygen("ed25519", &self.key(), "kinstall-lab")?;
        }
        Ok(())
    }

    /// Writes the host's own keys and the lab's client key into a host's fresh root.
    pub fn personalise(&self, root: &Path, host: &str) -> Result<()> {
        for kind in ["ed25519", "ecdsa"] {
            keygen(kind, &root.join(format!("etc/ssh/ssh_host_{kind}_key")), host)?;
        }
        let public = fs::read_to_string(paths::beside(&self.key(), ".pub"))?;
        for (user, home) in USERS {
            let home = root.join(home);
            let dir = home.join(".ssh");
            fs::create_dir_all(&dir)?;
            let file = dir.join("authorized_keys");
            fs::write(&file, &public)?;
            use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
            let owner = fs::metadata(&home).with_context(|| format!("the host has no home of user {user}"))?;
            for (path, mode) in [(&dir, 0o700), (&file, 0o600)] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        Ok(())
    }

    /// The host's public keys as `known_hosts` lines.
    pub fn host_lines(&self, root: &Path, address: &str) -> Result<String> {
        let mut lines = String::new();
        for kind in ["ed25519", "ecdsa"] {
            let public = fs::read_to_string(root.join(format!("etc/ssh/ssh_host_{kind}_key.pub")))?;
            let mut words = public.split_whitespace();
            let (algorithm, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            lines += &format!("{address} {algorithm} {key}\n");
        }
        Ok(lines)
    }

    pub fn write_ssh_config(&self, hosts: &[(String, String)]) -> Result<()> {
        let mut text = format!(
            "Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n  ConnectTimeout 5\n  LogLevel ERROR\n",
            self.key().display(),
            self.known_hosts().display()
        );
        for (name, address) in hosts {
            text += &format!("Host {name}\n  HostName {address}\n");
        }
        fs::write(self.ssh_config(), text)?;
        Ok(())
    }
}

fn keygen(kind: &str, path: &Path, comment: &str) -> Result<()> {
    command::run(Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-C", comment, "-f"]).arg(path))?;
    Ok(())
}
