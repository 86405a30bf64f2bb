//! `kinstall-components`: the one executable of the hosts and of the addons' images, with an applet for each component.
//!
//! In: an applet's name and its flags. Out: that component. It sets up what all share (tracing, the crypto provider, the
//! runtime) and glues the `control-plane` process together. Depends on every component.

mod control_plane;
mod probe;

use clap::{Parser, Subcommand};

/// A third of the API server's time went into glibc's allocator, see docs/decisions/0008-allocator.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "kinstall-components", version, about = "kinstall's components for hosts and addon pods")]
struct Cli {
    #[command(subcommand)]
    applet: Applet,
}

#[derive(Subcommand)]
enum Applet {
    /// API server, controllers and scheduler in one process
    ControlPlane(control_plane::Args),
    /// A node's way to the API servers that are ready
    Balancer(balancer::Args),
    /// The node agent
    Kubelet(kubelet::Args),
    /// Services in nftables
    Proxy(proxy::Args),
    /// The node's network: CNI configuration, routes to other nodes, NetworkPolicy
    CniAgent(cni::Args),
    /// Cluster DNS
    Dns(dns::Args),
    /// The ingress controller
    Ingress(ingress::Args),
    /// Dynamic local volumes
    Provisioner(provisioner::Args),
    /// Bring this host to the state that arrives on stdin
    Converge(converge::Args),
    /// This host's place among the members of etcd
    EtcdMembers(etcd_members::Args),
    /// Take the store out for a backup, or put one in place
    Backup(backup::Args),
    /// This host's own certificates; for the timer
    Certs(renewal::Args),
    /// A small HTTP server and client for validation pods
    Probe(probe::Args),
}

fn main() -> std::process::ExitCode {
    // The runtime calls the plugin by its file name and allows it few milliseconds: no runtime, no logging.
    let called_as = std::env::args_os().next().unwrap_or_default();
    let called_as = std::path::Path::new(&called_as).file_name().unwrap_or_default();
    if called_as == "kinstall-cni" || called_as == "loopback" {
        return std::process::ExitCode::from(u8::try_from(cni::plugin_main()).unwrap_or(1));
    }
    let cli = Cli::parse();
    start_logging();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider is installed already");
    }
    match run(cli.applet) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// To stderr, where journald and the container runtime take it; `RUST_LOG` chooses what.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

fn run(applet: Applet) -> anyhow::Result<()> {
    // Two threads serve a node's components well; more would only cost memory.
    let threads = if matches!(applet, Applet::ControlPlane(_)) { cpus() } else { cpus().min(2) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        match applet {
            Applet::ControlPlane(args) => control_plane::run(args).await,
            Applet::Balancer(args) => balancer::run(args).await,
            Applet::Kubelet(args) => kubelet::run(args).await,
            Applet::Proxy(args) => proxy::run(args).await,
            Applet::CniAgent(args) => cni::run(args).await,
            Applet::Dns(args) => dns::run(args).await,
            Applet::Ingress(args) => ingress::run(args).await,
            Applet::Provisioner(args) => provisioner::run(args).await,
            Applet::Converge(args) => converge::run(args).await,
            Applet::EtcdMembers(args) => etcd_members::run(args).await,
            Applet::Backup(args) => backup::run(args).await,
            Applet::Certs(args) => renewal::run(args).await,
            Applet::Probe(args) => probe::run(args).await,
        }
    })
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}
