//! The command line of `backup` and `restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Bundled;

/// Writes store, keys, inventory and state of the cluster into one file, encrypted by age: to public keys, or by a passphrase.
///
/// The store is brought back to life in a scratch store on its host before the backup is called good. The files of volumes are
/// copied as they are while applications write them: stop those that must not be caught in the middle.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Backup {
    #[command(subcommand)]
    pub command: Option<BackupSubcommand>,
    #[command(flatten)]
    pub create: BackupCreate,
}

#[derive(Clone, Debug, Subcommand)]
pub enum BackupSubcommand {
    /// Show the backups that the control planes' timers have made
    List,
    /// Open a backup, check all of it and say what is in it
    Verify(BackupVerify),
    /// Make a pair of keys: the secret one into a file, the public one on stdout
    Keygen(BackupKeygen),
}

#[derive(Clone, Debug, Args)]
pub struct BackupCreate {
    #[command(flatten)]
    pub bundled: Bundled,
    /// The file to write [default: <cluster>-<time>.kinstall-backup]
    #[arg(short, long = "out", visible_alias = "output-file")]
    pub out: Option<PathBuf>,
    /// Encrypt to this public key (age1…) instead of those of the inventory; may be repeated
    #[arg(long = "to", value_name = "KEY")]
    pub recipients: Vec<String>,
    /// Encrypt by the passphrase in this file; without it, --to and keys in the inventory you are asked for one
    #[arg(long, value_name = "FILE", conflicts_with = "recipients")]
    pub passphrase_file: Option<PathBuf>,
    /// The provisioner's local volumes, too
    #[arg(long)]
    pub volumes: bool,
}

/// What opens a backup.
#[derive(Clone, Debug, Args)]
pub struct Opening {
    /// The file with the secret key
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The file with the passphrase; without it and --identity you are asked for one
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    pub passphrase_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct BackupVerify {
    pub file: PathBuf,
    #[command(flatten)]
    pub opening: Opening,
}

#[derive(Clone, Debug, Args)]
pub struct BackupKeygen {
    /// The file for the secret key; it must not be there yet
    pub file: PathBuf,
}

/// Brings a cluster back from a backup: its hosts, or new ones, get its store and keys, and `up` goes on from there.
///
/// The inventory is the one of -i where that file is there (other hosts, names or addresses than at the time of the backup are
/// welcome), else the one in the backup, which is written there. What the hosts have of this cluster's store is put aside.
#[derive(Clone, Debug, Args)]
pub struct Restore {
    pub file: PathBuf,
    #[command(flatten)]
    pub opening: Opening,
    #[command(flatten)]
    pub bundled: Bundled,
    /// Leave the volumes that hosts have as they are, also those that are in the backup
    #[arg(long)]
    pub no_volumes: bool,
    /// Go on although preflight checks found errors
    #[arg(long)]
    pub ignore_preflight: bool,
    /// Do not validate at the end
    #[arg(long)]
    pub no_validate: bool,
}
