//! Reading certificates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

use crate::{Error, Result, Subject, Usage};

/// What a certificate says, as far as Kubernetes and an operator care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    pub subject: Subject,
    pub issuer: String,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub is_ca: bool,
    /// None where it says nothing of it, or something else.
    pub usage: Option<Usage>,
    /// The subject's public key as its bit string.
    pub public_key: Vec<u8>,
}

/// Whether `authority` (DER) signed the first certificate of a PEM text.
pub(crate) fn is_signed_by(cert_pem: &str, authority: &[u8]) -> bool {
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()) else { return false };
    let (Ok((_, cert)), Ok((_, authority))) =
        (X509Certificate::from_der(&block.contents), X509Certificate::from_der(authority))
    else {
        return false;
    };
    cert.issuer() == authority.subject() && cert.verify_signature(Some(authority.public_key())).is_ok()
}

/// Of the certificates in a PEM text the first that is for this public key, DER.
pub(crate) fn of_key(certs_pem: &str, public_key: &[u8]) -> Option<Vec<u8>> {
    let is_its = |der: &Vec<u8>| {
        X509Certificate::from_der(der)
            .is_ok_and(|(_, cert)| cert.public_key().subject_public_key.data.as_ref() == public_key)
    };
    x509_parser::pem::Pem::iter_from_buffer(certs_pem.as_bytes()).flatten().map(|block| block.contents).find(is_its)
}

/// Reads the first certificate of a PEM text.
pub fn inspect(cert_pem: &str) -> Result<CertificateInfo> {
    let bad = |why: String| Error::Parse { what: "the certificate", why };
    let (_, block) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
    let (_, cert) = X509Certificate::from_der(&block.contents).map_err(|e| bad(e.to_string()))?;
    let mut info = CertificateInfo {
        subject: subject_of(cert.subject()),
        issuer: subject_of(cert.issuer()).common_name,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        not_before: cert.validity().not_before.to_datetime(),
        not_after: cert.validity().not_after.to_datetime(),
        is_ca: cert.is_ca(),
        usage: usage_of(&cert),
        public_key: cert.public_key().subject_public_key.data.to_vec(),
    };
    if let Ok(Some(names)) = cert.subject_alternative_name() {
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(dns) => info.dns_names.push((*dns).to_owned()),
                GeneralName::IPAddress(bytes) => info.ip_addresses.extend(address(bytes)),
                GeneralName::URI(uri) => info.uris.push((*uri).to_owned()),
                _ => {}
            }
        }
    }
    Ok(info)
}

fn usage_of(cert: &X509Certificate<'_>) -> Option<Usage> {
    let purposes = cert.extended_key_usage().ok()??.value;
    match (purposes.client_auth, purposes.server_auth) {
        (true, true) => Some(Usage::Both),
        (true, false) => Some(Usage::Client),
        (false, true) => Some(Usage::Server),
        (false, false) => None,
    }
}

/// Of the authorities in a PEM text the one, DER, that signed the first certificate of another. Says nothing of dates.
pub fn authority_of(cert_pem: &str, authorities_pem: &str) -> Option<Vec<u8>> {
    let authorities = x509_parser::pem::Pem::iter_from_buffer(authorities_pem.as_bytes()).flatten();
    authorities.map(|block| block.contents).find(|authority| is_signed_by(cert_pem, authority))
}

pub(crate) fn subject_of(name: &X509Name<'_>) -> Subject {
    Subject {
        common_name: name.iter_common_name().filter_map(|cn| cn.as_str().ok()).next().unwrap_or_default().to_owned(),
        organizations: name.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect(),
    }
}

pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| Ipv4Addr::from(b).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| Ipv6Addr::from(b).into()),
        _ => None,
    }
}
