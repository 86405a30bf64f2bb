//! Certificates: from TLS Secrets, by server name, or one of our own where there is none.

use std::sync::Arc;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Current;

/// A certificate chain with its key, from `tls.crt` and `tls.key`.
pub fn certified_key(secret: &Secret) -> Result<CertifiedKey> {
    let field = |name: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(name));
        data.map(|bytes| bytes.0.as_slice()).with_context(|| format!("it has no {name}"))
    };
    from_pem(field("tls.crt")?, field("tls.key")?)
}

fn from_pem(cert: &[u8], key: &[u8]) -> Result<CertifiedKey> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().context("tls.crt is not PEM")?;
    anyhow::ensure!(!chain.is_empty(), "tls.crt holds no certificate");
    let key = PrivateKeyDer::from_pem_slice(key).context("tls.key is not a PEM key")?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).context("tls.key is of no supported type")?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().context("tls.key does not belong to tls.crt")?;
    Ok(certified)
}

#[derive(Debug)]
struct ByName {
    current: Current,
    last_resort: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.current.read().clone();
        let found = hello.server_name().and_then(|name| table.certificate(name));
        Some(found.unwrap_or_else(|| self.last_resort.clone()))
    }
}

/// TLS 1.2 and 1.3, HTTP/2 and 1.1.
pub fn server_config(current: Current) -> Result<Arc<ServerConfig>> {
    let ca = certs::Ca::generate("kinstall-ingress default")?;
    let leaf =
        certs::Leaf::new(certs::Subject::new("kinstall-ingress", &[]), certs::Usage::Server).names(["ingress.invalid"]);
    let issued = ca.issue(&leaf)?;
    let last_resort = Arc::new(from_pem(issued.cert_pem.as_bytes(), issued.key_pem.as_bytes())?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { current, last_resort }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
