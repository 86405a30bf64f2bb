//! A host's place among the members of etcd: `prepare` gives it one before etcd starts, `joined` sees to its vote afterwards,
//! `list` and `remove` are what the installer asks for.
//!
//! In: `/etc/kinstall/etcd-members.yaml` ([`Config`]). Out: the configuration that etcd runs with, changes of etcd's membership,
//! members as JSON on stdout. Members come one after another: each is added without a vote, and gets it when it has
//! caught up, so that no change costs the majority. Depends on hoststate only.

mod files;
mod joined;
mod passing;
mod place;
mod prepare;
mod remove;
mod speaker;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use hoststate::facts::Birth;
use hoststate::members;
use serde::Deserialize;

pub use joined::joined;
pub use place::{Here, Place, place};
pub use prepare::prepare;
pub use remove::remove;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// YAML file that says who this member is and who the others are
    #[arg(long)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Find this member's place and write the configuration that etcd starts with
    Prepare,
    /// Wait until this member has its vote
    Joined,
    /// Print the members as JSON
    List,
    /// Take a member out, unless that costs the majority; print those that are left
    Remove { id: u64 },
}

/// `/etc/kinstall/etcd-members.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    pub name: String,
    pub peer_url: String,
    pub birth: Birth,
    /// Tells this etcd from others when it is founded.
    pub token: String,
    /// Who founds etcd together, and who can be asked; this one is among them.
    pub members: Vec<Peer>,
    /// The authority of etcd's certificates, and what we show to etcd.
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// etcd's configuration without how the member came into being.
    pub etcd_config: PathBuf,
    /// etcd's data is in `data` of this directory, what it starts with in `etcd.yaml`.
    pub directory: PathBuf,
    /// Written when the member has its vote; tells a member that lost its data from one that never had any.
    pub joined_file: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    pub name: String,
    pub peer_url: String,
    pub client_url: String,
}

impl Config {
    pub fn parse(text: &str) -> Result<Self> {
        Ok(serde_yaml::from_str(text)?)
    }
}

pub async fn run(args: Args) -> Result<()> {
    let text =
        std::fs::read_to_string(&args.config).with_context(|| format!("cannot read {}", args.config.display()))?;
    let config = Config::parse(&text).with_context(|| format!("cannot understand {}", args.config.display()))?;
    match args.command {
        Command::Prepare => prepare(&config).await,
        Command::Joined => joined(&config).await,
        Command::List => print(&list(&config).await?),
        Command::Remove { id } => print(&remove(&config, id).await?),
    }
}

/// Every member, as one that sees the majority knows them.
pub async fn list(config: &Config) -> Result<Vec<members::Member>> {
    speaker::Speakers::new(config)?.list().await.map(|(_, members)| members)
}

fn print(members: &[members::Member]) -> Result<()> {
    println!("{}", serde_json::to_string(members)?);
    Ok(())
}
