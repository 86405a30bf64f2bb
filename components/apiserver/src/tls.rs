//! TLS as upstream offers it: versions, suites, the serving certificate, and client certificates of any origin.
//!
//! A client certificate that no authority vouches for does not end the handshake: it is judged afterwards ([`Judge`]), and the
//! request answered 401 as upstream's does. Certificates and authorities are read again when their files change.

use std::{path::Path, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use parking_lot::RwLock;
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
    client::{ResolvesClientCert, danger::HandshakeSignatureValid},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};

use crate::config::Config;

/// Certificates of a PEM file.
pub fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|e| anyhow::anyhow!("cannot read certificates from {}: {e}", path.display()))
}

/// Says whether the authorities of one file stand behind a client certificate.
#[derive(Debug)]
pub struct Judge {
    file: PathBuf,
    verifier: RwLock<Arc<dyn ClientCertVerifier>>,
}

impl Judge {
    pub fn from_file(file: &Path) -> anyhow::Result<Self> {
        Ok(Judge { file: file.to_owned(), verifier: RwLock::new(verifier(file)?) })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn reload(&self) {
        match verifier(&self.file) {
            Ok(verifier) => *self.verifier.write() = verifier,
            Err(error) => tracing::warn!(%error, "the authorities stay as they were"),
        }
    }

    /// The chain begins with the client's own certificate.
    pub fn accepts(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some((own, others)) = chain.split_first() else { return Err(rustls::Error::NoCertificatesPresented) };
        let verifier = self.verifier.read().clone();
        verifier.verify_client_cert(own, others, UnixTime::now()).map(drop)
    }
}

fn verifier(file: &Path) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(file)? {
        roots.add(authority).with_context(|| format!("{} holds no usable authority", file.display()))?;
    }
    WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .with_context(|| format!("cannot verify client certificates by {}", file.display()))
}

/// Takes any certificate whose key the client holds.
#[derive(Debug)]
struct Anybody {
    /// Knows how signatures are checked, and whom to name as wanted.
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A certificate and its key as they lie in their files: what this server shows its clients, or other servers.
#[derive(Debug)]
pub struct KeyPair {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl KeyPair {
    pub fn from_files(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let current = RwLock::new(Arc::new(certified_key(certificate, key)?));
        Ok(KeyPair { certificate: certificate.to_owned(), key: key.to_owned(), current })
    }

    pub fn files(&self) -> [PathBuf; 2] {
        [self.certificate.clone(), self.key.clone()]
    }

    /// Half of a replaced pair does not fit yet: then the old pair stays until the other half comes.
    pub fn reload(&self) {
        match certified_key(&self.certificate, &self.key) {
            Ok(new) => *self.current.write() = Arc::new(new),
            Err(error) => tracing::warn!(%error, "a certificate stays as it was"),
        }
    }
}

impl ResolvesServerCert for KeyPair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

impl ResolvesClientCert for KeyPair {
    /// Shown whatever authorities the server names, as upstream's clients do.
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified_key(certificate: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|e| anyhow::anyhow!("cannot read {}: {e}", key.display()))?;
    CertifiedKey::from_der(certificates(certificate)?, private, &rustls::crypto::aws_lc_rs::default_provider())
        .with_context(|| format!("{} and {} do not fit", certificate.display(), key.display()))
}

/// The server's side of TLS, and the certificate to reload.
pub fn server_config(config: &Config) -> anyhow::Result<(ServerConfig, Arc<KeyPair>)> {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: suites(&config.tls_cipher_suites)?,
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let versions: &[_] = match config.tls_min_version.as_deref() {
        None | Some("VersionTLS12") => &[&rustls::version::TLS12, &rustls::version::TLS13],
        Some("VersionTLS13") => &[&rustls::version::TLS13],
        Some(other) => bail!("tlsMinVersion {other:?} is not offered; write VersionTLS12 or VersionTLS13"),
    };
    let serving = Arc::new(KeyPair::from_files(&config.tls_cert_file, &config.tls_private_key_file)?);
    let mut tls = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .context("tlsCipherSuites leaves nothing for a version of TLS")?
        .with_client_cert_verifier(Arc::new(Anybody { inner: verifier(&config.client_ca_file)? }))
        .with_cert_resolver(serving.clone());
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((tls, serving))
}

/// Names for TLS 1.2 as `--tls-cipher-suites` knows them; upstream's insecure ones are not built in.
const SUITES: &[(&str, CipherSuite)] = &[
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

fn suites(names: &[String]) -> anyhow::Result<Vec<SupportedCipherSuite>> {
    let all = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let mut wanted = Vec::new();
    for name in names {
        let known = SUITES.iter().find(|(known, _)| known == name);
        wanted.push(known.with_context(|| format!("tlsCipherSuites: {name:?} is not offered"))?.1);
    }
    Ok(all.iter().filter(|s| s.tls13().is_some() || wanted.contains(&s.suite())).copied().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn suites_are_chosen_by_name() {
        let names = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let one = suites(&names(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"])).unwrap();
        assert_eq!(one.iter().filter(|s| s.tls13().is_none()).count(), 1);
        assert!(suites(&names(&["TLS_RSA_WITH_RC4_128_SHA"])).is_err());
        assert_eq!(suites(&[]).unwrap().iter().filter(|s| s.tls13().is_none()).count(), SUITES.len());
    }
}
