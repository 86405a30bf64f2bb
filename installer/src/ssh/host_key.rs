//! Whether a host is who it should be.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use russh::client::{DisconnectReason, Handler};
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Preferred, keys::Certificate};
use tokio::sync::oneshot;

use super::SshError;
use super::known_hosts::{Certified, KnownHosts, Verdict};
use super::route::Hop;
use crate::inventory::HostKeyChecking;

/// Compares the server's key with the known-hosts files; what is wrong is left in `problem`.
pub struct HostKeyCheck {
    pub hop: Hop,
    pub known: KnownHosts,
    pub problem: Arc<Mutex<Option<SshError>>>,
    /// Gets what the server says when it ends the connection; closed when that ended without a word.
    pub goodbye: Option<oneshot::Sender<String>>,
}

/// Known algorithms first, so that a host with several keys proves one that we know; certificates where they can be judged.
pub fn preferred(known: &KnownHosts) -> Preferred {
    let mut order = Vec::new();
    for algorithm in known.algorithms() {
        match algorithm {
            Algorithm::Rsa { .. } => {
                order.extend([HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }));
            }
            other => order.push(other),
        }
    }
    for algorithm in Preferred::default().key.iter() {
        if !order.contains(algorithm) {
            order.push(algorithm.clone());
        }
    }
    let certificates = if known.has_authorities() {
        let sha1 = Algorithm::Rsa { hash: None };
        order.iter().filter(|algorithm| **algorithm != sha1).cloned().collect()
    } else {
        Vec::new()
    };
    Preferred { key: Cow::Owned(order), host_key_certificates: Cow::Owned(certificates), ..Preferred::default() }
}

impl HostKeyCheck {
    fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<(), SshError> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.judge_key(key),
            PublicKeyOrCertificate::Certificate(certificate) => self.judge_certificate(certificate),
        }
    }

    fn judge_certificate(&self, certificate: &Certificate) -> Result<(), SshError> {
        let target = self.hop.target();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match self.known.check_certificate(certificate, &self.hop.principal, now) {
            Certified::Yes => Ok(()),
            Certified::Stranger => self.judge_key(&PublicKey::new(certificate.public_key().clone(), "")),
            Certified::No(reason) => {
                Err(SshError::HostCertificate { target, id: certificate.key_id().to_owned(), reason })
            }
            Certified::Revoked(place) => {
                let fingerprint = certificate.public_key().fingerprint(HashAlg::Sha256).to_string();
                Err(SshError::HostKeyRevoked { target, fingerprint, file: place.file, line: place.line })
            }
        }
    }

    fn judge_key(&self, key: &PublicKey) -> Result<(), SshError> {
        let hop = &self.hop;
        let (target, fingerprint) = (hop.target(), key.fingerprint(HashAlg::Sha256).to_string());
        let file = hop.known_hosts.first().cloned().unwrap_or_default();
        match self.known.check(key) {
            Verdict::Known => Ok(()),
            Verdict::Unknown if hop.checking == HostKeyChecking::AcceptNew => {
                self.known.remember(key).map_err(|error| {
                    SshError::Identity(format!("cannot remember the key of {target} in {}: {error}", file.display()))
                })
            }
            Verdict::Unknown => {
                let keyscan = format!("ssh-keyscan -p {} {} >> {}", hop.port, hop.address, file.display());
                Err(SshError::HostKeyUnknown { target, keyscan, fingerprint })
            }
            Verdict::Changed(place) => {
                Err(SshError::HostKeyChanged { target, fingerprint, file: place.file, line: place.line })
            }
            Verdict::Revoked(place) => {
                Err(SshError::HostKeyRevoked { target, fingerprint, file: place.file, line: place.line })
            }
        }
    }
}

impl Handler for HostKeyCheck {
    type Error = SshError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        match self.judge(shown) {
            Ok(()) => Ok(true),
            Err(problem) => {
                *self.problem.lock() = Some(problem);
                Ok(false)
            }
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<SshError>) -> Result<(), SshError> {
        match reason {
            DisconnectReason::ReceivedDisconnect(said) => {
                if let Some(goodbye) = self.goodbye.take() {
                    let _ = goodbye.send(said.message);
                }
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }
}
