//! Client certificates: the common name is the user, each organization a group.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::CREDENTIAL_ID;
use crate::identity::Identity;

/// An attribute of the subject that holds the user's uid.
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// What a connection's client certificate says; judged when the connection is made, and where it is refused with every request.
pub struct Peer {
    /// The user, or why there is none.
    pub user: Result<Arc<Identity>, String>,
    /// The common name, when the front proxy's authorities stand behind the certificate.
    pub proxy: Option<String>,
    /// Seconds since 1970 after which nothing of it holds.
    pub expires: i64,
}

impl Peer {
    pub fn is_refused(&self) -> bool {
        self.user.is_err() && self.proxy.is_none()
    }

    /// `user` and `proxy` say whether the client authorities, and the front proxy's, stand behind the chain.
    pub fn judge(
        chain: &[CertificateDer<'_>],
        user: Result<(), rustls::Error>,
        proxy: Option<Result<(), rustls::Error>>,
    ) -> Option<Self> {
        let own = chain.first()?;
        let (_, parsed) = X509Certificate::from_der(own).ok()?;
        let name = parsed.subject().iter_common_name().next().and_then(|n| n.as_str().ok());
        Some(Peer {
            user: user
                .map_err(|e| format!("verifying certificate SN={} failed: {e}", parsed.tbs_certificate.serial))
                .and_then(|()| identity(own, &parsed))
                .map(Arc::new),
            proxy: proxy.filter(Result::is_ok).map(|_| name.unwrap_or_default().to_owned()),
            expires: parsed.validity().not_after.timestamp(),
        })
    }
}

fn identity(der: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> Result<Identity, String> {
    let subject = parsed.subject();
    let user = subject.iter_common_name().next().and_then(|n| n.as_str().ok()).filter(|n| !n.is_empty());
    let user = user.ok_or("the certificate's subject has no common name")?;
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
    let mut identity = Identity::new(user, groups);
    let uids: Vec<&str> = subject
        .iter_attributes()
        .filter(|a| a.attr_type().to_id_string() == UID_ATTRIBUTE)
        .filter_map(|a| a.as_str().ok())
        .collect();
    match uids[..] {
        [] => {}
        [uid] if !uid.is_empty() => identity.uid = uid.to_owned(),
        [_] => return Err("UID cannot be an empty string".into()),
        _ => return Err("expected 1 UID, but found multiple".into()),
    }
    let digest = digest::digest(&digest::SHA256, der);
    identity.extra.insert(CREDENTIAL_ID.into(), vec![format!("X509SHA256={}", hex::encode(digest))]);
    Ok(identity)
}
