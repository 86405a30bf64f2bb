//! Whom a webhook's server must be certified by, and what a failed handshake is called.

use std::error::Error;

use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Where systems keep the authorities everybody believes.
const SYSTEM: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

pub fn config(bundle: &[u8]) -> Result<ClientConfig, String> {
    Ok(ClientConfig::builder().with_root_certificates(roots(bundle)?).with_no_client_auth())
}

/// The authorities of a bundle (PEM); an empty one means those of the host.
pub fn roots(bundle: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if bundle.is_empty() {
        let system = SYSTEM.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&system).flatten());
    } else {
        let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).flatten());
        if added == 0 {
            return Err("unable to load root certificates: unable to parse bytes as PEM block".into());
        }
    }
    Ok(roots)
}

/// The innermost cause of a failed exchange, in Go's words where clients know them.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut innermost: &(dyn Error + 'static) = error;
    loop {
        if let Some(tls) = innermost.downcast_ref::<rustls::Error>() {
            return certificate(tls);
        }
        // an I/O error hides what it wraps from `source`
        let wrapped =
            innermost.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref()).map(|e| e as &(dyn Error + 'static));
        match wrapped.or_else(|| innermost.source()) {
            Some(next) => innermost = next,
            None => return innermost.to_string(),
        }
    }
}

fn certificate(error: &rustls::Error) -> String {
    let why = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "x509: certificate has expired or is not yet valid".to_owned()
        }
        rustls::Error::InvalidCertificate(other) => format!("x509: {other}"),
        other => return format!("tls: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}
