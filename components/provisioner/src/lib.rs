//! The provisioner: makes local volumes, and removes their data when they are released.
//!
//! One instance on every node (a DaemonSet). In: claims whose class names this provisioner and whose
//! `volume.kubernetes.io/selected-node` is this node; released volumes that this node made. Out: one directory for each volume under the
//! base directory, PersistentVolumes of type hostPath bound to the node, Events. A client of the Kubernetes API and nothing else.
//!
//! A directory has mode 0777, as an emptyDir has, so that images that do not run as root can write; only root can enter the base directory
//! itself (0700), pods reach theirs through the mount. Sizes are not enforced. The volume's type is `Directory`, not `DirectoryOrCreate`:
//! should the data be gone, the pod must fail to start and not find an empty volume.
//! The order of things follows upstream's library for provisioners
//! (<https://github.com/kubernetes-sigs/sig-storage-lib-external-provisioner>): a finalizer keeps a volume until its data is gone.

pub mod claim;
pub mod directory;
mod provision;
mod reclaim;
pub mod volume;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

use directory::BaseDirectory;

/// Flags of `kinstall-components provisioner`.
#[derive(Debug, Clone, Parser)]
pub struct Args {
    /// Where volumes are made; must be the same path on the host and in this container.
    #[arg(long, default_value = "/var/lib/kinstall/volumes")]
    pub base_dir: PathBuf,
    /// The `provisioner` field of the storage classes to serve.
    #[arg(long, default_value = "kinstall.dev/local")]
    pub name: String,
    /// The node this instance works for.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
}

/// What every reconciliation needs.
pub(crate) struct Context {
    pub client: Client,
    pub events: Recorder,
    pub name: String,
    pub node: String,
    /// The value of the node's `kubernetes.io/hostname` label, which volumes are tied to.
    pub hostname: String,
    pub base: BaseDirectory,
}

/// Serves until SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<()> {
    serve(client::in_cluster().await?, args, terminated()?).await
}

/// Serves with a given client until `shutdown` resolves.
pub async fn serve(
    client: Client,
    args: Args,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let base = BaseDirectory::open(&args.base_dir)?;
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get(&args.node_name).await.with_context(|| format!("cannot read node {}", args.node_name))?;
    let hostname = node.labels().get(volume::HOSTNAME).cloned().unwrap_or_else(|| args.node_name.clone());
    let reporter = Reporter { controller: args.name.clone(), instance: Some(args.node_name.clone()) };
    let context = Arc::new(Context {
        events: Recorder::new(client.clone(), reporter),
        client: client.clone(),
        name: args.name,
        node: args.node_name,
        hostname,
        base,
    });
    tracing::info!(node = context.node, name = context.name, "provisioning local volumes");

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let until = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        // An error means that the sender is gone, which also ends the work.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let claims = Controller::new(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default())
        .graceful_shutdown_on(until(stopped.clone()))
        .run(provision::reconcile, |claim, error, _| retry(&claim.name_any(), error), Arc::clone(&context))
        .for_each(|_| std::future::ready(()));
    let volumes = Controller::new(Api::<PersistentVolume>::all(client), watcher::Config::default())
        .graceful_shutdown_on(until(stopped))
        .run(reclaim::reconcile, |volume, error, _| retry(&volume.name_any(), error), context)
        .for_each(|_| std::future::ready(()));
    let shutdown = async move {
        shutdown.await;
        let _ = stop.send(true);
    };
    tokio::join!(claims, volumes, shutdown);
    Ok(())
}

/// An error of one reconciliation, told in full.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub(crate) struct Failure(#[from] anyhow::Error);

fn retry(object: &str, error: &Failure) -> Action {
    tracing::warn!(object, %error, "trying again");
    Action::requeue(Duration::from_secs(10))
}

fn terminated() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
