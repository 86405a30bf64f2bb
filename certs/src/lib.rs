//! The cluster's PKI: certificate authorities, leaves, signing requests, service-account keys.
//!
//! In: who a certificate is for ([`Subject`]) and what it may be used for ([`Usage`]). Out: PEM text. Nothing here reads or
//! writes files; the one crypto backend is aws-lc-rs. Depends on no other crate of ours.

mod ca;
mod inspect;
mod request;
mod service_account;
mod workload;

pub use ca::{Ca, Issued, Leaf, is_key_of};
pub use inspect::{CertificateInfo, authority_of, inspect};
pub use request::{Csr, create_csr, generate_key};
pub use service_account::{ServiceAccountKey, generate_service_account_key};
pub use workload::{KeyKind, WorkloadKey};

/// Days that authorities and leaves are valid unless told otherwise.
pub const CA_DAYS: u32 = 3650;
pub const LEAF_DAYS: u32 = 365;

/// A host renews its own certificates when fewer days are left: two months before the operator's `up` would have to.
pub const HOSTS_RENEW_DAYS: i64 = 90;
/// `up` renews when fewer days are left, and who still has such a certificate waits for nobody any more.
pub const RENEW_DAYS: i64 = 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make a key or certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{what} is not what it should be: {why}")]
    Parse { what: &'static str, why: String },
    /// rcgen keeps one organization in a subject; several would silently lose groups.
    #[error("a certificate's subject can name one organization, not {0}")]
    SeveralOrganizations(usize),
    #[error("{0:?} is neither a DNS name nor an IP address")]
    BadName(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Who a certificate is for. Kubernetes takes the common name as the user and the organization as the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

impl Subject {
    pub fn new(common_name: &str, organizations: &[&str]) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organizations: organizations.iter().map(|o| (*o).to_owned()).collect(),
        }
    }

    fn distinguished_name(&self) -> Result<rcgen::DistinguishedName> {
        let mut name = rcgen::DistinguishedName::new();
        match self.organizations.as_slice() {
            [] => {}
            [one] => name.push(rcgen::DnType::OrganizationName, one.as_str()),
            more => return Err(Error::SeveralOrganizations(more.len())),
        }
        name.push(rcgen::DnType::CommonName, self.common_name.as_str());
        Ok(name)
    }
}

/// Extended key usages of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Client,
    Server,
    Both,
}

impl Usage {
    fn purposes(self) -> Vec<rcgen::ExtendedKeyUsagePurpose> {
        use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        match self {
            Self::Client => vec![ClientAuth],
            Self::Server => vec![ServerAuth],
            Self::Both => vec![ServerAuth, ClientAuth],
        }
    }
}

/// DNS names and IP addresses, told apart by their form.
fn alternative_names(names: &[String]) -> Result<Vec<rcgen::SanType>> {
    names
        .iter()
        .map(|name| match name.parse::<std::net::IpAddr>() {
            Ok(address) => Ok(rcgen::SanType::IpAddress(address)),
            Err(_) => name.as_str().try_into().map(rcgen::SanType::DnsName).map_err(|_| Error::BadName(name.clone())),
        })
        .collect()
}
