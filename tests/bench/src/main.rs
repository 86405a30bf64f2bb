//! How fast an API server is and how much memory it takes. The client is neutral: it speaks plain HTTP to whatever server the
//! kubeconfig names. With `--start` it starts kinstall's own, which adds start-up times and memory.

mod backup;
mod connection;
mod load;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Parser;
use conformance::kubeconfig::Kubeconfig;
use conformance::starter::ControlPlane;
use serde_json::json;

use connection::Target;
use load::{Bounds, Kind};
use report::{Table, resident};

#[derive(Parser)]
#[command(name = "bench", about = "measures a Kubernetes API server")]
struct Args {
    /// The server to measure
    #[arg(long, env = "KUBECONFIG", required_unless_present = "start")]
    kubeconfig: Option<PathBuf>,
    /// The server's process on this machine, for its memory
    #[arg(long, env = "SERVER_PID")]
    pid: Option<u32>,
    /// Start this kinstall-components with a scratch store and measure its start-up too
    #[arg(long)]
    start: Option<PathBuf>,
    /// Speak HTTP/2
    #[arg(long)]
    http2: bool,
    /// The longest a single measurement runs
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// Memory is measured with this many objects, and start-up with the most of them
    #[arg(long, value_delimiter = ',', default_value = "10000,150000")]
    objects: Vec<u64>,
    /// Pods in the measured list
    #[arg(long, default_value_t = 5000)]
    pods: u64,
}

fn main() -> ExitCode {
    conformance::begin();
    let args = Args::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(measure(args)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: Args) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut table = Table::default();
    if let Some(binary) = &args.start {
        // for speed and for memory each its own, so that neither shows in the other
        let server = ControlPlane::start(binary, &scratch.path().join("speed")).await?;
        table.row("start-up to /readyz, empty", millis(server.ready_after));
        speed(&args, &mut table, &server.kubeconfig).await?;
        drop(server);
        memory_of_own(&args, &mut table, binary, &scratch.path().join("memory")).await?;
    } else {
        let path = args.kubeconfig.clone().context("no kubeconfig")?;
        if let Some(pid) = args.pid {
            table.row("resident before", mebibytes(pid));
        }
        speed(&args, &mut table, &path).await?;
        if let Some(pid) = args.pid {
            memory(&args, &mut table, &path, pid).await?;
        }
    }
    table.print();
    Ok(())
}

/// A namespace of the run's own; what is left of it is deleted with it.
async fn namespace(target: &Target, name: &str) -> Result<String> {
    let name = format!("bench-{name}-{}", rand::random_range(1000..10_000));
    let body = json!({"metadata": {"name": name}}).to_string();
    target.connect().await?.call("POST", "/api/v1/namespaces", Bytes::from(body)).await?;
    // pods are refused until the account is there; a list would have to be asked again and again
    let account = json!({"metadata": {"name": "default"}}).to_string();
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
    // a conflict: the controller was quicker
    let _ = target.connect().await?.call("POST", &path, Bytes::from(account)).await;
    Ok(name)
}

async fn speed(args: &Args, table: &mut Table, kubeconfig: &Path) -> Result<()> {
    let target = Target::new(&Kubeconfig::read(kubeconfig)?, args.http2)?;
    let namespace = namespace(&target, "speed").await?;
    let bounds = Bounds { time: Duration::from_secs(args.seconds), count: 50_000 };
    let protocol = if args.http2 { "h2" } else { "HTTP/1.1" };
    for (kind, what) in [(Kind::ConfigMap, "creates/s of 1 KiB ConfigMaps"), (Kind::Pod, "creates/s of Pods")] {
        for connections in &args.connections {
            let prefix = format!("{}-{connections}", kind.plural());
            let (rate, _) = load::creates(&target, &namespace, kind, &prefix, *connections, bounds).await?;
            table.row(format!("{what}, {connections} connections, {protocol}"), format!("{rate:.0}"));
        }
    }
    let first = args.connections.first().copied().unwrap_or(1);
    let one = format!("/api/v1/namespaces/{namespace}/configmaps/configmaps-{first}-000000");
    for connections in &args.connections {
        let rate = load::gets(&target, &one, *connections, bounds).await?;
        table.row(format!("GET/s, {connections} connections, {protocol}"), format!("{rate:.0}"));
    }
    let (p50, p99) = load::deliveries(&target, &namespace, 100, 200).await?;
    table.row("100 watchers × 200 writes, p50 / p99", format!("{} / {}", millis(p50), millis(p99)));
    remove(&target, &namespace).await?;
    lists(args, table, &target).await
}

async fn lists(args: &Args, table: &mut Table, target: &Target) -> Result<()> {
    let namespace = namespace(target, "list").await?;
    fill(target, &namespace, Kind::Pod, "listed", args.pods).await?;
    let (took, size) = load::list(target, &format!("/api/v1/namespaces/{namespace}/pods"), 7).await?;
    let speed = size as f64 / 1e6 / took.as_secs_f64();
    table.row(format!("LIST of {} pods", args.pods), format!("{}, {speed:.0} MB/s", millis(took)));
    remove(target, &namespace).await
}

/// This many objects, however long it takes, up to ten minutes.
async fn fill(target: &Target, namespace: &str, kind: Kind, prefix: &str, count: u64) -> Result<()> {
    let bounds = Bounds { time: Duration::from_secs(600), count };
    let (_, made) = load::creates(target, namespace, kind, prefix, 32, bounds).await?;
    anyhow::ensure!(made == count, "only {made} of {count} objects within ten minutes");
    Ok(())
}

async fn remove(target: &Target, namespace: &str) -> Result<()> {
    target.connect().await?.call("DELETE", &format!("/api/v1/namespaces/{namespace}"), Bytes::new()).await.map(drop)
}

async fn memory(args: &Args, table: &mut Table, kubeconfig: &Path, pid: u32) -> Result<()> {
    let target = Target::new(&Kubeconfig::read(kubeconfig)?, args.http2)?;
    let namespace = namespace(&target, "memory").await?;
    let mut there = 0;
    for count in &args.objects {
        let more = count.saturating_sub(there);
        fill(&target, &namespace, Kind::ConfigMap, &format!("held-{there}"), more).await?;
        there = *count;
        table.row(format!("resident with {count} ConfigMaps of 1 KiB"), mebibytes(pid));
    }
    Ok(())
}

async fn memory_of_own(args: &Args, table: &mut Table, binary: &Path, folder: &Path) -> Result<()> {
    let server = ControlPlane::start(binary, folder).await?;
    // what it made at its start is settled by now
    tokio::time::sleep(Duration::from_secs(3)).await;
    table.row("resident, empty and idle", mebibytes(server.pid()));
    memory(args, table, &server.kubeconfig, server.pid()).await?;
    let most = args.objects.iter().max().copied().unwrap_or(0);
    backup::take(table, binary, folder, server.pid(), most).await?;
    drop(server);
    let again = ControlPlane::start(binary, folder).await?;
    table.row(format!("start-up to /readyz with {most} objects"), millis(again.ready_after));
    table.row(format!("resident after a start with {most} objects"), mebibytes(again.pid()));
    Ok(())
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn mebibytes(pid: u32) -> String {
    resident(pid).map_or_else(|| "gone".into(), |size| format!("{size:.1} MiB"))
}
