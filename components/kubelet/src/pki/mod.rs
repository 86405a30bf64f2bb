//! The kubelet's two certificates: one to call the API server, one to be called with.
//!
//! Both are asked for by CertificateSigningRequest and renewed well before they expire, without a
//! restart. Upstream: KEP-43 (kubelet TLS bootstrap), KEP-266 (certificate rotation).

mod asked;
pub mod serving;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use certs::{Issued, Subject};
use k8s_openapi::jiff::Timestamp;

use crate::api::Api;
use crate::config::Config;

/// Renewal happens when this part of a certificate's life is over; a little chance keeps the nodes of a
/// cluster from asking all at once.
const RENEW_AT: f64 = 0.8;
const RETRY: Duration = Duration::from_secs(30);

pub fn client_pem(config: &Config) -> PathBuf {
    config.cert_dir.join("kubelet-client-current.pem")
}

pub fn serving_pem(config: &Config) -> PathBuf {
    config.cert_dir.join("kubelet-server-current.pem")
}

pub fn node_subject(config: &Config) -> Subject {
    Subject::new(&format!("system:node:{}", config.node_name), &["system:nodes"])
}

/// Makes sure there is a client certificate and a kubeconfig that names it.
pub async fn bootstrap(config: &Config) -> Result<()> {
    let pem = client_pem(config);
    if time_left(&pem).is_some_and(|left| left > Duration::ZERO) {
        asked::remember_if_unknown(config, &pem)?;
        return write_kubeconfig(config);
    }
    let config_path = &config.bootstrap_kubeconfig;
    tracing::info!("asking for a client certificate with {}", config_path.display());
    let api = Api::from_kubeconfig(config_path).await.context("no client certificate yet and no way to get one")?;
    let issued = csr::issue(&api.client(), csr::Kind::KubeletClient, &node_subject(config), &[]).await;
    store(config, &pem, &issued)?;
    write_kubeconfig(config)
}

/// Keeps an issued certificate with its key, and with what it was asked for.
fn store(config: &Config, pem: &Path, issued: &Issued) -> Result<()> {
    write_private(pem, &format!("{}{}", issued.cert_pem, issued.key_pem))?;
    asked::remember(config, pem)
}

/// Renews the client certificate before it expires, for ever.
pub async fn rotate_client(config: Arc<Config>, api: Arc<Api>) {
    loop {
        sleep_until_renewal(&config, &client_pem(&config)).await;
        match renew_client(&config, &api).await {
            Ok(()) => tracing::info!("client certificate renewed"),
            Err(error) => {
                tracing::warn!("client certificate not renewed, next try in 30 s: {error:#}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn renew_client(config: &Config, api: &Api) -> Result<()> {
    let pem = client_pem(config);
    // one that has run out asks for nothing any more
    let client = match time_left(&pem) {
        Some(_) => api.client(),
        None => Api::from_kubeconfig(&config.bootstrap_kubeconfig).await?.client(),
    };
    let subject = node_subject(config);
    let asking = csr::issue(&client, csr::Kind::KubeletClient, &subject, &[]);
    let issued = tokio::time::timeout(csr::PATIENCE, asking).await.context("nobody signs it")?;
    store(config, &pem, &issued)?;
    api.reload(&config.kubeconfig).await
}

async fn sleep_until_renewal(config: &Config, pem: &Path) {
    if asked::is_outdated(config, pem) {
        return;
    }
    let wait = renewal_in(pem).unwrap_or(Duration::ZERO);
    tokio::time::sleep(wait).await;
}

/// Time until a certificate should be renewed; zero when it is due or unreadable.
fn renewal_in(pem: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(pem).ok()?;
    let (from, to) = validity(&text)?;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let due = from + ((to - from) as f64 * (RENEW_AT + rand::random::<f64>() * 0.1 - 0.05)) as i64;
    let left = due - Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

fn time_left(pem: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(pem).ok()?;
    let (_, to) = validity(&text)?;
    u64::try_from(to - Timestamp::now().as_second()).ok().map(Duration::from_secs)
}

/// Seconds since 1970 of notBefore and notAfter of the first certificate in a PEM text.
fn validity(text: &str) -> Option<(i64, i64)> {
    let info = certs::inspect(text).ok()?;
    Some((info.not_before.unix_timestamp(), info.not_after.unix_timestamp()))
}

fn write_kubeconfig(config: &Config) -> Result<()> {
    let pem = client_pem(config);
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default",
        "clusters": [{"name": "default", "cluster": {"server": config.server, "certificate-authority": config.client_ca_file}}],
        "users": [{"name": "default", "user": {"client-certificate": pem, "client-key": pem}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
    });
    write_private(&config.kubeconfig, &serde_yaml::to_string(&text)?)
}

/// Replaces a file at once; only its owner can read it.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        std::fs::remove_file(&temporary)
            .or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
