//! What the bundle of a simulated fleet brings as `kinstall-components`: the real `converge`, and of the other applets only that
//! they end well when `down` asks them to clean up.

use clap::Parser;

#[derive(Parser)]
enum Cli {
    Converge(converge::Args),
    Proxy(Cleanup),
    CniAgent(Cleanup),
}

#[derive(clap::Args)]
struct Cleanup {
    /// Nothing was made that could be removed
    #[arg(long, required = true)]
    cleanup: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Converge(args) => converge::run(args).await,
        Cli::Proxy(_) | Cli::CniAgent(_) => Ok(()),
    }
}
