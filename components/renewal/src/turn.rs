//! Control planes that restart for new certificates do so one after the other, and only where all the others serve.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use election::{Candidate, Terms};
use futures::future::join_all;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

const LEASE: &str = "kinstall-certs";

/// A restart takes seconds; the Lease outlasts one that takes as long as systemd allows, during which the only API server of a
/// cluster renews nothing.
const TERMS: Terms =
    Terms { lease: Duration::from_secs(300), renew: Duration::from_secs(10), deadline: Duration::from_secs(240) };

/// Whose turn has not come by then goes without; the timer comes again.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
const ANSWER: Duration = Duration::from_secs(10);
const READY_WITHIN: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(2);

/// The balancer's configuration: where it has the API servers from.
#[derive(Deserialize)]
struct Balancer {
    servers: Vec<String>,
}

/// Does the work while no other host of the cluster does such work.
pub async fn take<F>(kubeconfig: &Path, host: &str, work: impl FnOnce() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let client = client::from_kubeconfig(kubeconfig).await?;
    let (stop, begun) = (CancellationToken::new(), AtomicBool::new(false));
    let mut work = Some(work);
    let leading = Candidate::with_terms(client, LEASE, host, TERMS).lead(stop.clone(), |_| {
        begun.store(true, Ordering::Relaxed);
        let work = work.take();
        async move {
            match work {
                Some(work) => work().await,
                None => bail!("the turn was lost before the work was done"),
            }
        }
    });
    let impatient = async {
        tokio::time::sleep(PATIENCE).await;
        if !begun.load(Ordering::Relaxed) {
            stop.cancel();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = leading => done?,
        () = impatient => {}
    }
    let minutes = PATIENCE.as_secs() / 60;
    ensure!(
        begun.load(Ordering::Relaxed),
        "this host's turn (Lease kube-system/{LEASE}) did not come within {minutes} minutes"
    );
    Ok(())
}

/// Waits a while until every API server is ready: one that has just restarted may not be yet. `balancer`: its configuration; none
/// where there is one API server.
pub async fn all_serve(kubeconfig: &Path, balancer: Option<&str>) -> Result<()> {
    let started = Instant::now();
    loop {
        match all_answer(kubeconfig, balancer).await {
            Err(error) if started.elapsed() < READY_WITHIN => tracing::debug!("asks again: {error:#}"),
            answered => return answered,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn all_answer(kubeconfig: &Path, balancer: Option<&str>) -> Result<()> {
    let Some(balancer) = balancer else { return Ok(()) };
    let Balancer { servers } =
        serde_yaml::from_str(balancer).context("cannot understand the balancer's configuration")?;
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let asking = servers.iter().map(|server| {
        let mut config = config.clone();
        async move {
            config.cluster_url = format!("https://{server}").parse()?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let answer = tokio::time::timeout(ANSWER, client::connect(config)?.request_text(request)).await;
            answer.context("no answer")??;
            anyhow::Ok(())
        }
    });
    for (server, answer) in servers.iter().zip(join_all(asking).await) {
        answer.with_context(|| format!("the API server {server} is not ready"))?;
    }
    Ok(())
}
