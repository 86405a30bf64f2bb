//! Client certificates: the common name is the user, each organization a group.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::Identity;

/// `None` when the certificate names nobody. The chain was verified by the TLS handshake.
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let user = subject.iter_common_name().next()?.as_str().ok().filter(|n| !n.is_empty())?;
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
    Some(Identity::new(user, groups))
}
