//! Stands in for `kinstall-components` in tests: the real `converge` and nothing else.

#[cfg(target_os = "linux")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    use clap::Parser;
    #[derive(Parser)]
    enum Cli {
        Converge(converge::Args),
    }
    let Cli::Converge(args) = Cli::parse();
    converge::run(args).await
}

#[cfg(not(target_os = "linux"))]
fn main() {}
