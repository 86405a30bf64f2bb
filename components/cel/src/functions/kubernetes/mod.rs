//! Kubernetes' own libraries (apiserver `pkg/cel/library`).

pub mod authz;
pub mod names;
pub mod net;
pub mod quantity;
pub mod semantic;
pub mod url;

use std::net::IpAddr;

use notation::quantity::Quantity;
use semver::Version;
use url::Parsed;

use self::{authz::Check, names::Named, net::Cidr};

/// Values of the libraries' own types.
#[derive(Debug)]
pub enum Extra {
    Url(Parsed),
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Quantity),
    Semver(Version),
    Format(&'static Named),
    Authorizer(Option<authz::ServiceAccount>),
    Path(Check),
    Group(Check),
    Resource(Check),
    Decision(authz::Decision),
}

impl Extra {
    pub fn type_name(&self) -> &'static str {
        match self {
            Extra::Url(_) => "kubernetes.URL",
            Extra::Ip(_) => "net.IP",
            Extra::Cidr(_) => "net.CIDR",
            Extra::Quantity(_) => "kubernetes.Quantity",
            Extra::Semver(_) => "kubernetes.Semver",
            Extra::Format(_) => "kubernetes.NamedFormat",
            Extra::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Extra::Path(_) => "kubernetes.authorization.PathCheck",
            Extra::Group(_) => "kubernetes.authorization.GroupCheck",
            Extra::Resource(_) => "kubernetes.authorization.ResourceCheck",
            Extra::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    pub fn equals(&self, other: &Extra) -> bool {
        match (self, other) {
            (Extra::Url(a), Extra::Url(b)) => a.text == b.text,
            (Extra::Ip(a), Extra::Ip(b)) => a == b,
            (Extra::Cidr(a), Extra::Cidr(b)) => a == b,
            (Extra::Quantity(a), Extra::Quantity(b)) => a == b,
            (Extra::Semver(a), Extra::Semver(b)) => a == b,
            (Extra::Format(a), Extra::Format(b)) => a.name == b.name,
            _ => false,
        }
    }
}
