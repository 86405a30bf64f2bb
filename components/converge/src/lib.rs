//! Brings one host to its declared state, and back.
//!
//! In: requests on stdin ([`hoststate::Request`]). Out: events on stdout ([`hoststate::Event`]) and a changed host. What was
//! made, and what was there before, is written to the host's manifest before anything is touched, so a killed run is
//! simply run again and `down` takes back exactly what was made. Runs as root. Depends on hoststate only.

// A failure says everything the operator needs and ends the run: its size costs nothing.
#![allow(clippy::result_large_err)]

mod abandon;
mod apply;
mod backup;
mod blobs;
mod command;
mod down;
mod facts;
mod files;
mod input;
mod keeps;
mod kept;
mod labels;
mod lock;
mod manifest;
mod members;
mod operator;
pub mod own;
mod peers;
mod pidfd;
mod plan;
mod planned;
mod readers;
mod resources;
mod rollback;
mod runtime;
mod session;
mod sink;
mod tidy;

pub use facts::{KERNEL_FEATURES, collect as collect_facts};

/// Where things are on a host; tests put them elsewhere.
#[derive(Clone, Debug)]
pub struct Root {
    /// Prefix of every path that is touched; `/` on a real host.
    pub prefix: std::path::PathBuf,
}

impl Root {
    pub fn path(&self, absolute: &str) -> std::path::PathBuf {
        self.prefix.join(absolute.trim_start_matches('/'))
    }
}

impl Default for Root {
    fn default() -> Self {
        Self { prefix: "/".into() }
    }
}

/// kinstall's own directory for state on a host.
pub const STATE_DIR: &str = "/var/lib/kinstall";

/// This very process's executable, also when its file has been removed meanwhile.
const OWN: &str = "/proc/self/exe";

/// `converge`: brings this host to the state that arrives on stdin.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print this host's facts as JSON and end.
    #[arg(long)]
    facts: bool,
    /// Print the SHA-256 of this executable and end.
    #[arg(long)]
    digest: bool,
}

/// Serves one session on stdin and stdout.
pub async fn run(args: Args) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || {
        if args.facts {
            let facts = facts::collect(&Root::default());
            println!("{}", serde_json::to_string_pretty(&facts)?);
            return Ok(());
        }
        if args.digest {
            println!("{}", files::sha256(std::path::Path::new(OWN))?);
            return Ok(());
        }
        session::serve(&Root::default(), input::Arriving::stdin()?, std::io::stdout())
    })
    .await?
}
