//! The way to kubelets: HTTPS with the API server's client certificate.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use machinery::ApiError;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio_rustls::TlsConnector;

use crate::{backend::Backend, config::Config};

pub struct KubeletClient {
    connector: TlsConnector,
}

impl KubeletClient {
    /// `None` when the configuration names no client certificate.
    pub fn from_config(config: &Config) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key), Some(ca)) =
            (&config.kubelet_client_certificate, &config.kubelet_client_key, &config.kubelet_ca_file)
        else {
            return Ok(None);
        };
        let mut roots = rustls::RootCertStore::empty();
        for authority in certificates(ca)? {
            roots.add(authority).with_context(|| format!("{} holds no usable authority", ca.display()))?;
        }
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|e| anyhow::anyhow!("cannot read {}: {e}", key.display()))?;
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(certificate)?, private)
            .context("the kubelet client certificate and key do not fit")?;
        Ok(Some(KubeletClient { connector: TlsConnector::from(Arc::new(tls)) }))
    }

    /// The kubelet that listens there.
    pub fn at(&self, address: IpAddr, port: u16) -> Backend {
        Backend {
            address: SocketAddr::new(address, port),
            authority: SocketAddr::new(address, port).to_string(),
            tls: Some((self.connector.clone(), ServerName::from(address))),
            headers: http::HeaderMap::new(),
        }
    }
}

/// What a client is told when a kubelet cannot be asked.
pub fn unreachable(backend: &Backend, error: &anyhow::Error) -> ApiError {
    ApiError::new(
        500,
        "InternalError",
        format!("Internal error occurred: error dialing backend: {error:#} (kubelet {})", backend.authority),
    )
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|e| anyhow::anyhow!("cannot read certificates from {}: {e}", path.display()))
}
