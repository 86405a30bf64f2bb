//! An API server by itself, for tests and experiments: `cargo run -p apiserver --example serve -- --dir DIR [--port N]`.
//! Makes a CA, certificates and `admin.kubeconfig` in DIR at the first start.

use std::path::PathBuf;

use clap::Parser;

/// As in the shipped executable.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 6443)]
    port: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    apiserver::testing::prepare(&args.dir)?;
    let server = apiserver::ApiServer::start(apiserver::Config::in_dir(&args.dir, args.port)).await?;
    let kubeconfig = apiserver::testing::kubeconfig(&args.dir, server.address(), "admin")?;
    println!("{}", kubeconfig.display());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
