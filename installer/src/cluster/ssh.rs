//! How a host is reached, as the inventory says it. What it leaves open is decided when the host is dialled: by ssh_config,
//! then by defaults ([`crate::ssh::route`]).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::expand;
use crate::inventory::{self, HostKeyChecking};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ssh {
    pub user: Option<String>,
    pub port: Option<u16>,
    /// Tried in this order; empty: ssh_config's, else the usual ones below `~/.ssh`.
    pub identity_files: Vec<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    /// No key but these files, also of the agent's.
    pub identities_only: Option<bool>,
    /// Opens the key files that have one.
    pub passphrase: Secret,
    pub password: Secret,
    /// For sudo or doas.
    pub sudo_password: Secret,
    /// `None`: sudo where it is, else doas.
    pub sudo_command: Option<Become>,
    pub known_hosts_file: Option<PathBuf>,
    pub host_key_checking: Option<HostKeyChecking>,
    pub config_file: ConfigFile,
    /// In the order in which they are entered. `None`: ssh_config's; empty: none.
    pub bastion: Option<Vec<Bastion>>,
    pub said: Said,
}

/// Where all this was said, and so is to be corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    #[default]
    InInventory,
    /// By options of `adopt`, which has no inventory yet.
    ByOptions,
}

impl Said {
    /// The words for where it is to be corrected.
    pub fn either<'a>(self, in_inventory: &'a str, by_options: &'a str) -> &'a str {
        match self {
            Said::InInventory => in_inventory,
            Said::ByOptions => by_options,
        }
    }
}

/// A host on the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bastion {
    pub address: String,
    pub ssh: Ssh,
}

/// What makes a user root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Become {
    Sudo,
    Doas,
}

/// Which client configuration of OpenSSH is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConfigFile {
    /// The user's, then the system's.
    #[default]
    Usual,
    None,
    Only(PathBuf),
}

/// Where a secret is to be read from, when it is needed ([`crate::ssh::secrets`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Secret {
    #[default]
    None,
    File(PathBuf),
    Environment(String),
    /// A line for `sh` whose output's first line is the secret.
    Command(String),
    /// A person is asked.
    Prompt,
}

/// A host's own words, and for what they leave out those that are for all hosts.
pub(super) fn resolve(own: &inventory::Ssh, defaults: &inventory::Ssh, directory: &Path) -> Ssh {
    let path = |pick: fn(&inventory::Ssh) -> &Option<PathBuf>| {
        pick(own).as_ref().or(pick(defaults).as_ref()).map(|path| expand(path.clone(), directory))
    };
    let secret = |pick: fn(&inventory::Ssh) -> &Option<inventory::Secret>| {
        pick(own).as_ref().or(pick(defaults).as_ref()).map_or(Secret::None, |secret| match secret.clone() {
            inventory::Secret::File(file) => Secret::File(expand(file, directory)),
            inventory::Secret::Environment(name) => Secret::Environment(name),
            inventory::Secret::Command(line) => Secret::Command(line),
            inventory::Secret::Prompt => Secret::Prompt,
        })
    };
    let config_file = match own.config_file.as_ref().or(defaults.config_file.as_ref()) {
        None => ConfigFile::Usual,
        Some(none) if none.as_os_str() == "none" => ConfigFile::None,
        Some(file) => ConfigFile::Only(expand(file.clone(), directory)),
    };
    let bastions = own.bastion.as_ref().or(defaults.bastion.as_ref());
    Ssh {
        user: own.user.as_ref().or(defaults.user.as_ref()).map(|at| at.value.clone()),
        port: own.port.as_ref().or(defaults.port.as_ref()).map(|at| at.value),
        identity_files: path(|ssh| &ssh.identity_file).into_iter().collect(),
        certificate_file: path(|ssh| &ssh.certificate_file),
        identities_only: own.identities_only.or(defaults.identities_only),
        passphrase: secret(|ssh| &ssh.passphrase),
        password: secret(|ssh| &ssh.password),
        sudo_password: secret(|ssh| &ssh.sudo_password),
        sudo_command: own.sudo_command.or(defaults.sudo_command),
        known_hosts_file: path(|ssh| &ssh.known_hosts_file),
        host_key_checking: own.host_key_checking.or(defaults.host_key_checking),
        config_file,
        bastion: bastions
            .map(|list| list.iter().map(|bastion| on_the_way(bastion, own, defaults, directory)).collect()),
        said: Said::InInventory,
    }
}

/// A bastion is entered with the keys of the host behind it unless it has its own; not with its password or port.
fn on_the_way(
    bastion: &inventory::Bastion,
    own: &inventory::Ssh,
    defaults: &inventory::Ssh,
    directory: &Path,
) -> Bastion {
    let shared = |ssh: &inventory::Ssh| inventory::Ssh {
        identity_file: ssh.identity_file.clone(),
        certificate_file: ssh.certificate_file.clone(),
        identities_only: ssh.identities_only,
        passphrase: ssh.passphrase.clone(),
        known_hosts_file: ssh.known_hosts_file.clone(),
        host_key_checking: ssh.host_key_checking,
        config_file: ssh.config_file.clone(),
        ..inventory::Ssh::default()
    };
    let host = resolve(&shared(own), &shared(defaults), directory);
    let mut ssh = resolve(&bastion.ssh, &inventory::Ssh::default(), directory);
    if ssh.identity_files.is_empty() {
        ssh.identity_files = host.identity_files;
        ssh.certificate_file = ssh.certificate_file.or(host.certificate_file);
        ssh.identities_only = ssh.identities_only.or(host.identities_only);
    }
    if ssh.passphrase == Secret::None {
        ssh.passphrase = host.passphrase;
    }
    ssh.known_hosts_file = ssh.known_hosts_file.or(host.known_hosts_file);
    ssh.host_key_checking = ssh.host_key_checking.or(host.host_key_checking);
    if ssh.config_file == ConfigFile::Usual {
        ssh.config_file = host.config_file;
    }
    Bastion { address: bastion.address.clone(), ssh }
}
