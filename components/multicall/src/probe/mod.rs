//! What `kinstall validate` runs inside pods: a server that tells who asked, and a client that resolves and fetches.

mod client;
mod server;

use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Answer every HTTP request with `{"name":…,"client":…}`
    Serve {
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// What to answer as `name`
        #[arg(long, env = "HOSTNAME", default_value = "")]
        name: String,
    },
    /// Check names and URLs, one JSON line each; exits 1 when a check fails
    Run {
        /// A name that must resolve
        #[arg(long)]
        dns: Vec<String>,
        /// An http:// URL that must answer 2xx
        #[arg(long)]
        get: Vec<String>,
        /// Text that every fetched body must contain
        #[arg(long)]
        expect: Option<String>,
        /// Seconds for each check
        #[arg(long, default_value_t = 15)]
        timeout: u64,
    },
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Serve { port, name } => server::serve(port, name).await,
        Command::Run { dns, get, expect, timeout } => {
            client::check(&dns, &get, expect.as_deref(), Duration::from_secs(timeout)).await
        }
    }
}
