//! What a connection says about the requests that come over it.

use std::net::IpAddr;

use crate::authn::x509::Peer;

/// One connection; shared by its requests.
pub struct Connection {
    pub address: Option<IpAddr>,
    /// The client's certificate, judged; `None` if it showed none.
    pub peer: Option<Peer>,
}
