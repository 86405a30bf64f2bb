//! Certificate signing requests (PKCS #10).

use rcgen::{CertificateParams, KeyPair};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

use crate::inspect::{address, subject_of};
use crate::{Error, Result, Subject, alternative_names};

/// A new ECDSA P-256 key, PKCS #8 PEM. Secret.
pub fn generate_key() -> Result<String> {
    Ok(KeyPair::generate()?.serialize_pem())
}

/// A request for `subject` with DNS names and IP addresses, signed by `key_pem`.
pub fn create_csr(key_pem: &str, subject: &Subject, names: &[String]) -> Result<String> {
    let key = KeyPair::from_pem(key_pem)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject.distinguished_name()?;
    params.subject_alt_names = alternative_names(names)?;
    Ok(params.serialize_request(&key)?.pem()?)
}

/// A parsed request whose own signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    pem: String,
    pub subject: Subject,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<std::net::IpAddr>,
    /// Whether it asks for other kinds of names (URI, e-mail), which no Kubernetes signer allows.
    pub other_names: bool,
}

impl Csr {
    pub fn parse(pem: &str) -> Result<Self> {
        let bad = |why: String| Error::Parse { what: "the certificate signing request", why };
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|e| bad(e.to_string()))?;
        request.verify_signature().map_err(|_| bad("its signature does not match its key".into()))?;
        let mut csr = Self {
            pem: pem.to_owned(),
            subject: subject_of(&request.certification_request_info.subject),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            other_names: false,
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(dns) => csr.dns_names.push((*dns).to_owned()),
                    GeneralName::IPAddress(bytes) => match address(bytes) {
                        Some(address) => csr.ip_addresses.push(address),
                        None => return Err(bad("an IP address in it has a wrong length".into())),
                    },
                    _ => csr.other_names = true,
                }
            }
        }
        Ok(csr)
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }
}
