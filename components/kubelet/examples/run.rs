//! The kubelet by itself, for experiments: `cargo run -p kubelet --example run -- --config FILE`.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: kubelet::Args,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    kubelet::run(Cli::parse().args).await
}
