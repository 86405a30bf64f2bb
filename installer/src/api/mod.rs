//! The cluster's API from outside: connect, apply objects, wait by watch. Speaks only the Kubernetes API (kube).

pub mod apply;
pub mod wait;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// A client from a kubeconfig's text.
pub async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)
        .context("the administrator's kubeconfig is damaged; run `kinstall up` to write it again")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(3));
    // a watch must outlive any answer; the server ends it
    config.read_timeout = Some(Duration::from_secs(330));
    Ok(Client::try_from(config)?)
}

/// Waits until `/readyz` says ok. A server that does not listen yet tells nobody, so this one asks again.
pub async fn wait_ready(client: &Client, timeout: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let error = match ask_ready(client).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if started.elapsed() >= timeout {
            bail!(
                "the API server is not ready after {} s: {error:#}; see `journalctl -u kinstall-control-plane` on the control-plane host",
                timeout.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn ask_ready(client: &Client) -> anyhow::Result<()> {
    let request = kube::client::Body::empty();
    let request = http::Request::get("/readyz").body(request)?;
    let response =
        tokio::time::timeout(Duration::from_secs(5), client.send(request)).await.context("no answer within 5 s")??;
    if !response.status().is_success() {
        bail!("/readyz answers {}", response.status());
    }
    Ok(())
}
