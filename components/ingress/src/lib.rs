//! The ingress controller: HTTP and HTTPS from outside to the pods behind Services.
//!
//! In: Ingresses of our class, their Services, EndpointSlices and TLS Secrets, watched through the Kubernetes API. Out: a
//! proxy on every node's ports 80 and 443, and each Ingress' `status.loadBalancer`. The watched objects become an
//! immutable [`table::Table`]; a new one replaces the old between two requests, so a reload drops nothing. Depends on
//! `certs` (for the certificate of last resort) and on no server crate.

mod forward;
mod listen;
pub mod paths;
mod status;
mod suspects;
pub mod table;
mod tls;
mod watched;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::RwLock;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use table::Table;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to take HTTP
    #[arg(long, default_value = "0.0.0.0:80")]
    pub http: SocketAddr,
    /// Where to take HTTPS
    #[arg(long, default_value = "0.0.0.0:443")]
    pub https: SocketAddr,
    /// Where to answer /healthz and /ready
    #[arg(long, default_value = "0.0.0.0:10254")]
    pub health: SocketAddr,
    /// The IngressClass that is ours
    #[arg(long, default_value = "kinstall")]
    pub ingress_class: String,
    /// This node's address, written into each Ingress' status
    #[arg(long, env = "NODE_IP")]
    pub node_ip: Option<IpAddr>,
    /// Made when this instance serves; on the shared ports nobody can tell which instance answers
    #[arg(long)]
    pub ready_file: Option<PathBuf>,
    /// Only tell whether the instance with that file serves
    #[arg(long, requires = "ready_file")]
    pub is_ready: bool,
}

/// The table that requests are served from.
pub(crate) type Current = Arc<RwLock<Arc<Table>>>;

/// Serves until SIGTERM, then finishes the requests in flight.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if let (true, Some(file)) = (args.is_ready, &args.ready_file) {
        anyhow::ensure!(file.exists(), "not ready yet");
        return Ok(());
    }
    let client = client::in_cluster().await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        stopping.cancel();
    });
    serve(client, args, stop).await
}

/// As [`run`], with a client and an end of the caller's choice.
pub async fn serve(client: kube::Client, args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let current: Current = Arc::default();
    // one that a container before this one has left
    set_ready(&args, false)?;
    let objects = watched::start(&client);
    tokio::select! {
        synced = objects.synced() => synced?,
        () = stop.cancelled() => return Ok(()),
    }
    *current.write() = Arc::new(Table::build(&objects.snapshot(), &args.ingress_class));
    // From here on connections come, also beside another instance that is about to end: so not before everything is known.
    let listeners = listen::bind(&args)?;
    let health = listen::health(&args, stop.clone())?;
    set_ready(&args, true)?;
    tracing::info!(http = %args.http, https = %args.https, "serving");
    let reload = tokio::spawn(reload(current.clone(), objects.clone(), args.ingress_class.clone()));
    let statuses = tokio::spawn(status::keep(client, objects, args.clone()));
    listen::serve(listeners, current, stop).await;
    for task in [reload, statuses, health] {
        task.abort();
    }
    Ok(())
}

fn set_ready(args: &Args, ready: bool) -> anyhow::Result<()> {
    let Some(file) = &args.ready_file else { return Ok(()) };
    let result = match ready {
        true => std::fs::write(file, "ready\n"),
        false => std::fs::remove_file(file),
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound || ready => {
            Err(error).with_context(|| format!("cannot change {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Builds a new table after each burst of changes.
async fn reload(current: Current, objects: watched::Objects, class: String) {
    loop {
        objects.changed().await;
        let table = Table::build(&objects.snapshot(), &class);
        tracing::debug!(rules = table.len(), "new table");
        *current.write() = Arc::new(table);
    }
}

#[cfg(test)]
mod tests;
