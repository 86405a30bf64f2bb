//! The `control-plane` applet: API server, controllers and scheduler in one process.
//!
//! Controllers and scheduler are clients of the Kubernetes API; here their transport is the API server's own service: the
//! same requests with the same authorization, without sockets. Of several control planes one runs the controllers and one the
//! scheduler, each elected by a Lease.

use std::path::PathBuf;

use anyhow::{Context, Result};
use apiserver::{ApiServer, Identity};
use election::Candidate;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// YAML file with the sections apiServer, controllers and scheduler
    #[arg(long)]
    config: PathBuf,
}

/// `/etc/kinstall/control-plane.yaml`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    api_server: apiserver::Config,
    controllers: controllers::Config,
    scheduler: scheduler::Config,
}

/// Serves until SIGTERM. A controller or scheduler that ends by itself ends the process: systemd starts it anew.
pub async fn run(args: Args) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let text =
        std::fs::read_to_string(&args.config).with_context(|| format!("cannot read {}", args.config.display()))?;
    let config: Config =
        serde_yaml::from_str(&text).with_context(|| format!("cannot understand {}", args.config.display()))?;

    let directory = config.api_server.data_dir.clone();
    let api = ApiServer::start(config.api_server).await?;
    let stop = CancellationToken::new();
    let backups = tokio::spawn({
        let store = api.store();
        async move {
            // a control plane that cannot be backed up still serves
            if let Err(error) = backup::serve(store, &directory).await {
                tracing::error!("no backup can be taken here: {error:#}");
            }
        }
    });
    let mut clients = JoinSet::new();
    let controllers = client(&api, "system:kube-controller-manager");
    let candidate = Candidate::new(controllers.clone(), "kube-controller-manager", api.name());
    clients.spawn(candidate.lead(stop.clone(), move |ending| {
        controllers::run(controllers.clone(), config.controllers.clone(), ending.cancelled_owned())
    }));
    let scheduler = client(&api, "system:kube-scheduler");
    let candidate = Candidate::new(scheduler.clone(), "kube-scheduler", api.name());
    clients.spawn(candidate.lead(stop.clone(), move |ending| {
        scheduler::run(scheduler.clone(), config.scheduler.clone(), ending.cancelled_owned())
    }));
    notify::ready();

    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        Some(ended) = clients.join_next() => {
            ended.map_err(Into::into).and_then(|result| result).and_then(|()| anyhow::bail!("a controller or the scheduler ended by itself"))
        }
    };
    stop.cancel();
    while clients.join_next().await.is_some() {}
    backups.abort();
    api.shutdown().await;
    ended
}

fn client(api: &ApiServer, user: &str) -> kube::Client {
    kube::Client::new(api.handler_as(Identity::new(user, [] as [&str; 0])), "default")
}
