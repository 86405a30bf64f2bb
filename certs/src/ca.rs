//! Certificate authorities and what they issue.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::inspect::{is_signed_by, of_key};
use crate::{CA_DAYS, Csr, Error, LEAF_DAYS, Result, Subject, Usage, alternative_names, inspect};

/// Clocks of hosts differ a little; a certificate is valid from this long before it is made.
const BACKDATE: Duration = Duration::minutes(5);

/// What a leaf certificate shall say.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub subject: Subject,
    /// DNS names and IP addresses.
    pub names: Vec<String>,
    pub usage: Usage,
    pub days: u32,
    validity: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl Leaf {
    pub fn new(subject: Subject, usage: Usage) -> Self {
        Self { subject, names: Vec::new(), usage, days: LEAF_DAYS, validity: None }
    }

    pub fn names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    pub fn days(mut self, days: u32) -> Self {
        self.days = days;
        self
    }

    /// From when to when (whole seconds) instead of from now on: how tests make certificates that have run out.
    pub fn valid(mut self, not_before: OffsetDateTime, not_after: OffsetDateTime) -> Self {
        self.validity = Some((not_before, not_after));
        self
    }
}

/// A certificate with its private key (PKCS #8), both PEM. `Debug` leaves the key out.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// A certificate authority that can sign.
pub struct Ca {
    cert_pem: String,
    /// Its own certificate, DER.
    own: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new self-signed authority, valid for [`CA_DAYS`].
    pub fn generate(common_name: &str) -> Result<Self> {
        Self::generate_for_days(common_name, CA_DAYS)
    }

    pub fn generate_for_days(common_name: &str, days: u32) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = Subject::new(common_name, &[]).distinguished_name()?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, days);
        params.serial_number = Some(random_serial());
        let cert = params.self_signed(&key)?;
        Ok(Self { cert_pem: cert.pem(), own: cert.der().to_vec(), issuer: Issuer::new(params, key) })
    }

    /// Takes an existing authority; refuses a certificate that is not one or that does not belong to the key. Among several
    /// certificates, as while one authority follows another, it is the key's that signs.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self> {
        if !inspect(cert_pem)?.is_ca {
            return Err(Error::Parse { what: "the CA certificate", why: "it is not marked as a CA".into() });
        }
        let key = KeyPair::from_pem(key_pem)?;
        let Some(own) = of_key(cert_pem, key.public_key_raw()) else {
            return Err(Error::Parse { what: "the CA key", why: "it does not belong to the certificate".into() });
        };
        let issuer = Issuer::from_ca_cert_der(&own.as_slice().into(), key)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), own, issuer })
    }

    /// Its certificate, and what else the text had that it was taken from.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Whether it signed the first certificate of a PEM text. Says nothing of dates: one that has run out was signed all the same.
    pub fn has_signed(&self, cert_pem: &str) -> bool {
        is_signed_by(cert_pem, &self.own)
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The private key, PKCS #8 PEM. Secret.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = leaf.subject.distinguished_name()?;
        params.subject_alt_names = alternative_names(&leaf.names)?;
        set_leaf(&mut params, leaf.usage, leaf.days);
        if let Some(validity) = leaf.validity {
            (params.not_before, params.not_after) = validity;
        }
        Ok(Issued { cert_pem: params.signed_by(&key, &self.issuer)?.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs a request as it stands: its subject and names are kept, the usages are the signer's. The caller has decided
    /// (Kubernetes: the CSR is approved and its signer's rules hold) that this may be signed.
    pub fn sign(&self, csr: &Csr, usage: Usage, days: u32) -> Result<String> {
        let mut request = CertificateSigningRequestParams::from_pem(csr.pem())?;
        request.params.distinguished_name = csr.subject.distinguished_name()?;
        set_leaf(&mut request.params, usage, days);
        Ok(request.signed_by(&self.issuer)?.pem())
    }
}

/// Whether a private key (PKCS #8 PEM) belongs to the first certificate of a PEM text.
pub fn is_key_of(key_pem: &str, cert_pem: &str) -> bool {
    let (Ok(key), Ok(info)) = (KeyPair::from_pem(key_pem), inspect(cert_pem)) else { return false };
    key.public_key_raw() == info.public_key
}

pub(crate) fn set_leaf(params: &mut CertificateParams, usage: Usage, days: u32) {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = usage.purposes();
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(random_serial());
    set_validity(params, days);
}

fn set_validity(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::days(i64::from(days));
}

/// 16 random bytes with a positive sign, as RFC 5280 wants.
fn random_serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}
