//! What a backup does on a control plane's host: it takes the store out, tries it, and puts one in place.
//!
//! In: the store, by the socket of the API server that has it open ([`serve`]), or from its files or etcd where none runs. Out: a
//! dump ([`archive::dump`]) that was brought back to life in a scratch store before it is called good. The installer and the
//! timer call this applet; depends on `store` and `archive`.

mod place;
mod scheduled;
mod serve;
mod source;
mod take;

use std::path::PathBuf;

use anyhow::Context as _;

pub use place::{BUMP, place};
pub use scheduled::scheduled;
pub use serve::serve;
pub use source::SOCKET;
pub use take::take;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the store's dump to stdout; fails at its end when a trial restore of the same bytes did not bring everything back
    Store {
        /// The control plane's configuration: where its store is
        #[arg(long, default_value = "/etc/kinstall/control-plane.yaml")]
        config: PathBuf,
        /// The trial's store is made below this directory
        #[arg(long, default_value = "/var/lib/kinstall")]
        scratch: PathBuf,
    },
    /// Write an archive, sealed to public keys, and remove those that are too many
    Scheduled {
        #[arg(long)]
        config: PathBuf,
    },
    /// Make an embedded store from a dump
    Place {
        #[arg(long)]
        dump: PathBuf,
        /// Where the store comes to be; there must be none
        #[arg(long)]
        directory: PathBuf,
    },
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Store { config, scratch } => {
            let source = source::Source::find(&config).await?;
            tokio::task::spawn_blocking(move || take(source, &scratch, std::io::stdout().lock())).await?.map(drop)
        }
        Command::Scheduled { config } => {
            let text = std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
            let config =
                serde_yaml::from_str(&text).with_context(|| format!("cannot understand {}", config.display()))?;
            scheduled::scheduled(config).await.map(drop)
        }
        Command::Place { dump, directory } => {
            tokio::task::spawn_blocking(move || place(&dump, &directory)).await?.map(drop)
        }
    }
}
