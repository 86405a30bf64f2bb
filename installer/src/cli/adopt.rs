//! The command line of `adopt`.

use std::path::PathBuf;

use clap::Args;

/// Brings keys, inventory and state of a cluster back from the copy that `up` keeps on its control planes.
///
/// What is in the directory already stays as it is; the state of another cluster of the same name is refused. What the inventory
/// names outside of it (key files, the bundle) has to be brought by you.
#[derive(Clone, Debug, Args)]
pub struct Adopt {
    /// A control plane, and who may become root there: user@address
    #[arg(value_name = "USER@HOST", value_parser = target)]
    pub target: (String, String),
    /// The directory that gets inventory.yaml and the state
    #[arg(short = 'o', long = "out", visible_alias = "output-dir", default_value = ".")]
    pub directory: PathBuf,
    /// Where SSH listens [default: ssh_config's, else 22]
    #[arg(long)]
    pub port: Option<u16>,
    /// The SSH key's file [default: the usual ones in ~/.ssh]
    #[arg(long)]
    pub ssh_key: Option<PathBuf>,
    /// The file with the keys of known hosts [default: ~/.ssh/known_hosts]
    #[arg(long)]
    pub known_hosts: Option<PathBuf>,
    /// Accept a host whose key is not known yet, and remember it
    #[arg(long)]
    pub accept_new: bool,
    /// The file with the password that sudo asks for
    #[arg(long)]
    pub sudo_password_file: Option<PathBuf>,
}

fn target(text: &str) -> Result<(String, String), String> {
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() => Ok((user.to_owned(), host.to_owned())),
        _ => Err("expected user@address, such as root@10.0.0.1".into()),
    }
}
