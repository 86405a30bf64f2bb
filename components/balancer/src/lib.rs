//! The way of a node to the API servers: a port on localhost that leads to one that is ready.
//!
//! In: TCP connections, and the addresses of the API servers from a file that is watched. Out: the same bytes to and from a
//! server. TLS goes through untouched, so clients see the server's own certificate and the server sees theirs. Every server is
//! asked over one connection that stays whether it is ready ([`health`]): when it ends, when the answer is no, or when none
//! comes, other servers are chosen, and what went through this one is closed so that clients come again at once. Depends on
//! `files` and `notify` only.

mod choice;
mod config;
mod health;
mod pool;
mod server;
mod tunnel;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use config::Config;
use pool::Pool;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The configuration file (YAML)
    #[arg(long)]
    pub config: PathBuf,
}

/// Runs until SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let config = Config::read(&args.config)?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    notify::ready();
    tokio::select! {
        result = serve(listener, &args.config, config) => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Accepts connections, as the configuration and later states of its file say. Never ends without an error.
pub async fn serve(listener: TcpListener, file: &Path, config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let changed = Arc::new(Notify::new());
    let notify = changed.clone();
    files::watch([file.to_owned()], stop.clone(), move || notify.notify_one())?;
    // it may have changed since it was read
    changed.notify_one();
    let pool = Pool::new(config, stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(tokio::spawn(tunnel::run(pool.clone(), client))),
                Err(error) => {
                    // out of descriptors, most of the time: some connections end meanwhile
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            () = changed.notified() => match Config::read(file) {
                Ok(config) => pool.configure(config),
                Err(error) => tracing::error!("the servers stay as they were: {error:#}"),
            },
        }
    }
}
