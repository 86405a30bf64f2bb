//! The serving certificate: held in memory for the TLS server, exchanged while it runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::api::Api;
use crate::config::Config;

/// Gives every handshake the newest certificate; none until the first is issued.
#[derive(Debug, Default)]
pub struct Serving(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }
}

impl Serving {
    fn load(&self, pem: &Path) -> Result<()> {
        *self.0.write() = Some(Arc::new(read_pair(pem)?));
        Ok(())
    }
}

fn read_pair(pem: &Path) -> Result<CertifiedKey> {
    let text = std::fs::read(pem).with_context(|| format!("cannot read {}", pem.display()))?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("no certificate in {}", pem.display()))?;
    let key = PrivateKeyDer::from_pem_slice(&text).with_context(|| format!("no key in {}", pem.display()))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).context("unusable key")?;
    Ok(CertifiedKey::new(chain, key))
}

/// Obtains the certificate, keeps it in `serving` and renews it, for ever.
pub async fn maintain(config: Arc<Config>, api: Arc<Api>, serving: Arc<Serving>) {
    let pem = super::serving_pem(&config);
    let usable = super::time_left(&pem).is_some_and(|left| !left.is_zero()) && covers(&pem, &config);
    if usable && let Err(error) = super::asked::remember_if_unknown(&config, &pem).and_then(|()| serving.load(&pem)) {
        tracing::warn!("{error:#}");
    }
    let names = vec![config.node_name.clone(), config.node_ip.clone()];
    loop {
        if serving.0.read().is_some() {
            super::sleep_until_renewal(&config, &pem).await;
        }
        let issued = csr::issue(&api.client(), csr::Kind::KubeletServing, &super::node_subject(&config), &names).await;
        let stored = super::store(&config, &pem, &issued).and_then(|()| serving.load(&pem));
        match stored {
            Ok(()) => tracing::info!("serving certificate issued"),
            Err(error) => {
                tracing::warn!("no serving certificate, next try in 30 s: {error:#}");
                tokio::time::sleep(super::RETRY).await;
            }
        }
    }
}

/// Whether a stored certificate is for the node's present address.
fn covers(pem: &Path, config: &Config) -> bool {
    let info = std::fs::read_to_string(pem).ok().and_then(|text| certs::inspect(&text).ok());
    info.is_some_and(|info| info.ip_addresses.iter().any(|ip| ip.to_string() == config.node_ip))
}
