//! The fields that say how a host is reached: under `ssh` for all, and in each host for that one.

use std::num::NonZeroU16;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::decode::{At, Fields, Sink, text};
use super::yaml::{Node, Value};
use crate::cluster::Become;
use crate::ssh::address::Login;

#[derive(Clone, Debug, Default)]
pub struct Ssh {
    pub user: Option<At<String>>,
    pub port: Option<At<u16>>,
    pub identity_file: Option<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    pub identities_only: Option<bool>,
    pub passphrase: Option<Secret>,
    pub password: Option<Secret>,
    pub sudo_password: Option<Secret>,
    pub sudo_command: Option<Become>,
    pub known_hosts_file: Option<PathBuf>,
    pub host_key_checking: Option<HostKeyChecking>,
    /// A path, or `none`.
    pub config_file: Option<PathBuf>,
    /// Empty: `none`.
    pub bastion: Option<Vec<Bastion>>,
}

/// A host on the way.
#[derive(Clone, Debug)]
pub struct Bastion {
    pub address: String,
    pub ssh: Ssh,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    File(PathBuf),
    Environment(String),
    Command(String),
    Prompt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostKeyChecking {
    /// A key that is not in the known-hosts file stops that host.
    #[default]
    Strict,
    /// An unknown key is accepted once and remembered; a changed key still stops that host.
    AcceptNew,
}

/// The fields for one secret: file, environment variable, command, prompt.
type SecretFields = [&'static str; 4];

const PASSWORD: SecretFields = ["passwordFile", "passwordEnv", "passwordCommand", "passwordPrompt"];
const PASSPHRASE: SecretFields = ["passphraseFile", "passphraseEnv", "passphraseCommand", "passphrasePrompt"];

pub fn ssh(fields: &mut Fields<'_>, sink: &mut Sink) -> Ssh {
    let path = |at: Option<At<String>>| at.map(|at| PathBuf::from(at.value));
    let mut ssh = Ssh {
        user: fields.string("user", sink),
        port: fields
            .parsed::<NonZeroU16>("port", "a port from 1 to 65535", sink)
            .map(|At { value, pos }| At { value: value.get(), pos }),
        identity_file: path(fields.string("identityFile", sink)),
        certificate_file: path(fields.string("certificateFile", sink)),
        identities_only: fields.boolean("identitiesOnly", sink),
        passphrase: secret(fields, PASSPHRASE, sink),
        password: secret(fields, PASSWORD, sink),
        known_hosts_file: path(fields.string("knownHostsFile", sink)),
        host_key_checking: fields.choice(
            "hostKeyChecking",
            &[("strict", HostKeyChecking::Strict), ("accept-new", HostKeyChecking::AcceptNew)],
            sink,
        ),
        config_file: path(fields.string("configFile", sink)),
        ..Ssh::default()
    };
    let bastion_path = fields.child("bastion");
    ssh.bastion = fields.node("bastion").map(|node| bastions(node, &bastion_path, sink));
    if let Some(mut sudo) = fields.section("sudo", sink) {
        ssh.sudo_command = sudo.choice("command", &[("sudo", Become::Sudo), ("doas", Become::Doas)], sink);
        ssh.sudo_password = secret(&mut sudo, PASSWORD, sink);
        sudo.finish(sink);
    }
    ssh
}

/// One source at most.
fn secret(
    fields: &mut Fields<'_>,
    [file, environment, command, prompt]: SecretFields,
    sink: &mut Sink,
) -> Option<Secret> {
    let mut given = Vec::new();
    for (field, make) in [
        (file, (|text: String| Secret::File(PathBuf::from(text))) as fn(String) -> Secret),
        (environment, Secret::Environment),
        (command, Secret::Command),
    ] {
        given.extend(fields.string(field, sink).map(|At { value, pos }| (field, pos, make(value))));
    }
    if let Some(At { value: true, pos }) = fields.parsed(prompt, "true or false", sink) {
        given.push((prompt, pos, Secret::Prompt));
    }
    if let [(first, ..), (second, pos, _), ..] = given.as_slice() {
        sink.add(*pos, fields.child(second), format!("{first} is given too: one source is enough"));
    }
    given.into_iter().next().map(|(_, _, secret)| secret)
}

/// `none`, `[user@]host[:port]`, several of these with commas between, or a list of such and of `address:` with the fields of `ssh`.
fn bastions(node: &Node, path: &str, sink: &mut Sink) -> Vec<Bastion> {
    match &node.value {
        Value::List(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, node)| one_bastion(node, &format!("{path}[{index}]"), sink))
            .collect(),
        Value::Scalar { text, .. } if text == "none" => Vec::new(),
        _ => one_bastion(node, path, sink),
    }
}

fn one_bastion(node: &Node, path: &str, sink: &mut Sink) -> Vec<Bastion> {
    if let Value::Map(_) = node.value {
        let mut fields = Fields::open(node, path, sink);
        let address = fields.required("address", sink);
        let ssh = ssh(&mut fields, sink);
        if ssh.bastion.is_some() {
            sink.add(node.pos, path, "a bastion has none of its own: write the chain as a list, the first one first");
        }
        fields.finish(sink);
        return address.map(|At { value, .. }| Bastion { address: value, ssh }).into_iter().collect();
    }
    let Some(At { value, pos }) = text(node, path, sink) else { return Vec::new() };
    match Login::chain(&value) {
        Ok(chain) => chain
            .into_iter()
            .map(|Login { user, host, port }| Bastion {
                address: host,
                ssh: Ssh {
                    user: user.map(|value| At { value, pos }),
                    port: port.map(|value| At { value, pos }),
                    ..Ssh::default()
                },
            })
            .collect(),
        Err(message) => {
            sink.add(pos, path, message);
            Vec::new()
        }
    }
}
