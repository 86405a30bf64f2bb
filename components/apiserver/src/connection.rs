//! What a connection says about the requests that come over it.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;

use crate::{authn::x509::Peer, core::Core};

/// One connection; shared by its requests.
pub struct Connection {
    pub address: Option<IpAddr>,
    /// The client's certificate, judged; `None` if it showed none.
    pub peer: Option<Peer>,
}

impl Connection {
    /// By the chain of certificates that the client has shown.
    pub fn of(core: &Core, address: IpAddr, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let peer = chain.and_then(|chain| {
            let proxy = core.authn.front_proxy.as_ref().map(|proxy| proxy.authorities.accepts(chain));
            Peer::judge(chain, core.authn.client_authorities.accepts(chain), proxy)
        });
        Self { address: Some(address), peer }
    }
}
