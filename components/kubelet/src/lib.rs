//! The node agent: turns the pods the API binds to this node into running containers, and says how they are.
//!
//! In: a configuration file, the API server (kube-rs), a CRI v1 runtime. Out: containers, volumes, the Node
//! and Lease objects, pod statuses, an HTTPS server for logs, exec and statistics. A client of the Kubernetes
//! API like upstream's kubelet: it depends on no server code and works against any Kubernetes.
//!
//! Where to look: `pods/worker.rs` is the life of one pod; `pods/plan.rs` decides, `pods/status.rs` reports
//! (both pure); `volumes/`, `probes/`, `server/`, `node/`, `pki/` are what their names say.

pub mod api;
pub mod cgroups;
pub mod config;
pub mod cri;
pub mod gc;
pub mod node;
pub mod pki;
pub mod pods;
pub mod probes;
pub mod server;
pub mod volumes;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use config::Config;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The kubelet's configuration file (YAML)
    #[arg(long, value_name = "FILE", default_value = "/etc/kinstall/kubelet.yaml")]
    pub config: PathBuf,
}

/// Runs until SIGTERM or SIGINT; containers go on running.
pub async fn run(args: Args) -> Result<()> {
    let config = Config::load(&args.config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = serve(config) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// The kubelet itself; dropping the future stops it and leaves containers alone.
pub async fn serve(config: Config) -> Result<()> {
    let config = Arc::new(config);
    std::fs::create_dir_all(config.pods_dir())
        .with_context(|| format!("cannot make {}", config.pods_dir().display()))?;
    let runtime = cri::Cri::new(config.runtime_socket())?;
    pki::bootstrap(&config).await?;
    let api = api::Api::from_kubeconfig(&config.kubeconfig).await?;
    let client = api.client();
    let host = node::host::gather();
    let cgroups = cgroups::Cgroups::detect(config.cgroup_driver);
    cgroups.prepare(node::status::limits_of_pods(&config, &host)).await;

    let mut tasks = JoinSet::new();
    let (ready, lists, registered) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let serving = Arc::new(pki::serving::Serving::default());
    tasks.spawn(cgroups.clone().keep());
    tasks.spawn(pki::rotate_client(config.clone(), api.clone()));
    tasks.spawn(pki::serving::maintain(config.clone(), api.clone(), serving.clone()));

    let allocatable = node::status::allocatable_of(&config, &host);
    let (services, writer) = reflector::store::<Service>();
    tasks.spawn(follow_services(client.clone(), writer));
    let shared = Arc::new(pods::Shared {
        client: client.clone(),
        cri: runtime.clone(),
        objects: api::objects::Objects::new(api.clone()),
        bundles: api::bundles::Bundles::new(client.clone()),
        services: services.clone(),
        recorder: api::events::Recorder::start(client.clone(), config.node_name.clone()),
        cgroups,
        http: probes::handler::http_client()?,
        allocatable: Arc::new(allocatable),
        node_memory: host.memory,
        runtime: runtime_name(&runtime).await,
        config: config.clone(),
    });
    let (manager, finished) = pods::manager::Manager::new(shared);
    let server = Arc::new(server::Server {
        config: config.clone(),
        cri: runtime.clone(),
        manager: manager.clone(),
        auth: server::auth::Auth::new(client.clone(), config.node_name.clone()),
        runtime_lists: lists.clone(),
        node_memory: host.memory,
    });
    let listener = TcpListener::bind((config.address.as_str(), config.port))
        .await
        .with_context(|| format!("cannot listen on {}:{}", config.address, config.port))?;
    if config.healthz_port != 0 {
        let plain = TcpListener::bind(("127.0.0.1", config.healthz_port))
            .await
            .with_context(|| format!("cannot listen on 127.0.0.1:{}", config.healthz_port))?;
        tasks.spawn(server::health(server.clone(), plain));
    }
    tasks.spawn(async move {
        if let Err(error) = server::serve(server, serving, listener).await {
            tracing::error!("the HTTPS server ended: {error:#}");
        }
    });
    let keeper = node::NodeKeeper {
        config: config.clone(),
        client: client.clone(),
        cri: runtime.clone(),
        host,
        runtime_lists: lists.clone(),
        ready,
        registered: registered.clone(),
    };
    tasks.spawn(keeper.run());
    tasks.spawn(cri::pleg::run(runtime.clone(), manager.clone(), lists));
    tasks.spawn(gc::rotate_logs(config.clone(), runtime.clone()));
    tasks.spawn(gc::collect_images(config.clone(), runtime));

    registered.notified().await;
    tasks.spawn(node::lease::run(client, config.node_name.clone()));
    // containers need the Services' variables from the start
    tokio::time::timeout(Duration::from_secs(10), services.wait_until_ready()).await.ok();
    tasks.spawn(manager.run(finished));
    notify::ready();
    match tasks.join_next().await {
        Some(Err(error)) => Err(error).context("a part of the kubelet failed"),
        _ => anyhow::bail!("a part of the kubelet ended unexpectedly"),
    }
}

/// Waits for the runtime: without it there is nothing to do.
async fn runtime_name(runtime: &cri::Cri) -> String {
    let mut delay = Duration::from_millis(50);
    loop {
        match runtime.version().await {
            Ok(version) => return version.runtime_name,
            Err(error) => tracing::debug!("{error:#}"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(1));
    }
}

async fn follow_services(client: kube::Client, writer: reflector::store::Writer<Service>) {
    let stream = watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff().modify(|service| {
        service.metadata.managed_fields = None;
        service.metadata.annotations = None;
        service.status = None;
    });
    reflector(writer, stream).for_each(|_| std::future::ready(())).await;
}
