//! Who we say we are: certificates, the SSH agent's keys, key files, a password.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{AgentAuthError, MethodKind, MethodSet, Signer};
use tokio::net::UnixStream;

use super::SshError;
use super::host_key::HostKeyCheck;
use super::keys::{self, KeyFile};
use super::route::Hop;
use super::secrets;

type Agent = AgentClient<UnixStream>;

/// Tries every way in this order: named key files (by the agent, if it holds them), the agent's other keys, the usual key files,
/// the password. A certificate comes before its key.
pub async fn authenticate(handle: &mut Handle<HostKeyCheck>, hop: &Hop) -> Result<(), Failure> {
    let mut login = Login { handle, hop, tried: Vec::new(), unusable: Vec::new(), locked: Vec::new(), offered: None };
    match login.run().await? {
        true => Ok(()),
        false => Err(login.failure()),
    }
}

pub enum Failure {
    /// The server ended the connection; why is what it said at the end.
    Ended {
        tried: String,
    },
    Error(SshError),
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Self::Error(error.into())
    }
}

/// What the password is asked by, where it is asked.
pub fn password_question(hop: &Hop) -> String {
    format!("SSH password of {:?}", hop.user)
}

struct Login<'a> {
    handle: &'a mut Handle<HostKeyCheck>,
    hop: &'a Hop,
    tried: Vec<String>,
    /// Files that cannot be used, and why.
    unusable: Vec<String>,
    /// Files that have a passphrase which nobody gave.
    locked: Vec<std::path::PathBuf>,
    /// What the server would take, as it said last.
    offered: Option<MethodSet>,
}

/// What came of one attempt.
enum Attempt {
    In,
    No,
    /// It was good, and the server wants something else too.
    Half,
}

/// Something that can be shown to the server.
enum Candidate {
    OfAgent { shown: String, key: PublicKey },
    CertificateOfAgent { shown: String, certificate: Box<Certificate> },
    File { shown: String, key: Arc<PrivateKey> },
    CertificateOfFile { shown: String, certificate: Box<Certificate>, key: Arc<PrivateKey> },
}

impl Login<'_> {
    async fn run(&mut self) -> Result<bool, Failure> {
        let files = keys::load(self.hop, &mut self.unusable).await;
        let (mut agent, held) = self.agent().await;
        for candidate in self.candidates(&files, &held) {
            match self.attempt(&candidate, agent.as_mut()).await? {
                Attempt::In => return Ok(true),
                Attempt::Half => break,
                Attempt::No => {}
            }
            if self.handle.is_closed() {
                return Ok(false);
            }
        }
        self.password().await
    }

    /// What is tried, in order. Notes what cannot be.
    fn candidates(&mut self, files: &[KeyFile], held: &[AgentIdentity]) -> Vec<Candidate> {
        let keys = &self.hop.keys;
        let tried = &mut self.tried;
        let mut of_files = Vec::new();
        let mut taken = Vec::new();
        for file in files {
            let with_agent = held.iter().any(|identity| file.public.as_ref().is_some_and(|key| is(identity, key)));
            let shown = file.path.display();
            for (path, certificate) in &file.certificates {
                if let Some(problem) = certificate_problem(certificate) {
                    tried.push(format!("certificate {} ({problem})", path.display()));
                    continue;
                }
                let shown = format!("certificate {}{}", path.display(), principals(certificate));
                let certificate = Box::new(certificate.clone());
                match &file.private {
                    _ if with_agent => of_files.push(Candidate::CertificateOfAgent { shown, certificate }),
                    Some(key) => of_files.push(Candidate::CertificateOfFile { shown, certificate, key: key.clone() }),
                    None => {}
                }
            }
            match (&file.private, &file.public) {
                (_, Some(key)) if with_agent => {
                    taken.push(key.key_data().clone());
                    let agents = held.iter().filter(|identity| is(identity, key));
                    of_files.extend(agents.filter_map(|identity| of_agent(identity, tried)));
                }
                (Some(key), _) => of_files.push(Candidate::File { shown: format!("key {shown}"), key: key.clone() }),
                _ if file.locked => self.locked.push(file.path.clone()),
                _ => {
                    let lonely = || format!("the key {shown} has its public half here, but the agent does not hold it");
                    self.unusable.push(file.unusable.clone().unwrap_or_else(lonely));
                }
            }
        }
        let others = held.iter().filter(|identity| !keys.only && !taken.contains(key_data(identity)));
        let of_others: Vec<_> = others.filter_map(|identity| of_agent(identity, tried)).collect();
        if keys.named {
            of_files.into_iter().chain(of_others).collect()
        } else {
            of_others.into_iter().chain(of_files).collect()
        }
    }

    /// An agent that does not answer is no reason to stop: key files come next.
    async fn agent(&mut self) -> (Option<Agent>, Vec<AgentIdentity>) {
        let Some(socket) = &self.hop.keys.agent else { return (None, Vec::new()) };
        let listed = async {
            let mut agent = Agent::connect_uds(socket).await?;
            let held = agent.request_identities().await?;
            Ok::<_, russh::keys::Error>((agent, held))
        };
        match listed.await {
            Ok((agent, held)) => {
                if held.is_empty() {
                    self.tried.push("agent (it holds no key: add one with `ssh-add`)".into());
                }
                (Some(agent), held)
            }
            Err(error) => {
                self.tried.push(format!("agent ({} does not answer: {error})", socket.display()));
                (None, Vec::new())
            }
        }
    }

    async fn attempt(&mut self, candidate: &Candidate, agent: Option<&mut Agent>) -> Result<Attempt, Failure> {
        let user = self.hop.user.clone();
        let hash = match algorithm(candidate) {
            Algorithm::Rsa { .. } => self.rsa_hash().await?,
            _ => None,
        };
        let handle = &mut *self.handle;
        let (result, shown) = match (candidate, agent) {
            (Candidate::OfAgent { shown, key }, Some(agent)) => (
                handle.authenticate_publickey_with(user, key.clone(), hash, agent).await.map_err(anyhow::Error::from),
                shown,
            ),
            (Candidate::CertificateOfAgent { shown, certificate }, Some(agent)) => {
                let certificate = Certificate::clone(certificate);
                let result =
                    handle.authenticate_certificate_with(user, certificate, hash, &mut PlainKeyOf(agent)).await;
                (result.map_err(anyhow::Error::from), shown)
            }
            (Candidate::File { shown, key }, _) => {
                let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
                (handle.authenticate_publickey(user, key).await.map_err(anyhow::Error::from), shown)
            }
            (Candidate::CertificateOfFile { shown, certificate, key }, _) => {
                let certificate = Certificate::clone(certificate);
                let result =
                    handle.authenticate_certificate_with(user, certificate, hash, &mut FileSigner(key.clone())).await;
                (result.map_err(anyhow::Error::from), shown)
            }
            // there are no such candidates without an agent
            (Candidate::OfAgent { .. } | Candidate::CertificateOfAgent { .. }, None) => return Ok(Attempt::No),
        };
        let shown = shown.clone();
        Ok(match result {
            Ok(result) => self.note(shown, result),
            Err(error) => {
                self.tried.push(if self.handle.is_closed() { shown } else { format!("{shown} ({error})") });
                Attempt::No
            }
        })
    }

    /// Servers that do not say what they take know SHA-2 since 2016; the old signature with SHA-1 is refused today.
    async fn rsa_hash(&mut self) -> Result<Option<HashAlg>, russh::Error> {
        if self.handle.is_closed() {
            return Ok(None);
        }
        Ok(self.handle.best_supported_rsa_hash().await?.unwrap_or(Some(HashAlg::Sha512)))
    }

    fn note(&mut self, shown: String, result: AuthResult) -> Attempt {
        match result {
            AuthResult::Success => Attempt::In,
            AuthResult::Failure { remaining_methods, partial_success } => {
                // nothing is left to try where the connection ended
                if !remaining_methods.is_empty() {
                    self.offered = Some(remaining_methods);
                }
                self.tried.push(if partial_success { format!("{shown} (good, but not enough)") } else { shown });
                if partial_success { Attempt::Half } else { Attempt::No }
            }
        }
    }

    fn may_offer(&self, method: MethodKind) -> bool {
        self.offered.as_ref().is_none_or(|offered| offered.contains(&method))
    }

    /// Password, or keyboard-interactive with the password as the answer to its hidden questions (PAM).
    async fn password(&mut self) -> Result<bool, Failure> {
        let password = secrets::value(&self.hop.password, &password_question(self.hop)).await;
        let password = password.map_err(|error| Failure::Error(SshError::Identity(format!("{error:#}"))))?;
        let Some(password) = password else { return Ok(false) };
        let user = self.hop.user.clone();
        if self.may_offer(MethodKind::Password) {
            let result = self.handle.authenticate_password(&user, &password).await?;
            if matches!(self.note("password".into(), result), Attempt::In) {
                return Ok(true);
            }
        }
        if self.handle.is_closed() || !self.may_offer(MethodKind::KeyboardInteractive) {
            return Ok(false);
        }
        let mut answer = self.handle.authenticate_keyboard_interactive_start(&user, None::<String>).await?;
        for _ in 0..4 {
            answer = match answer {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { .. } => break,
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    let hidden = |echo: bool| if echo { String::new() } else { password.clone() };
                    let answers = prompts.iter().map(|prompt| hidden(prompt.echo)).collect();
                    self.handle.authenticate_keyboard_interactive_respond(answers).await?
                }
            };
        }
        self.tried.push("password as the answer to the host's questions".into());
        Ok(false)
    }

    fn failure(self) -> Failure {
        let (target, user) = (self.hop.target(), self.hop.user.clone());
        if self.handle.is_closed() {
            return Failure::Ended { tried: self.tried.join(", ") };
        }
        let nothing = |tried: &Vec<String>| {
            if tried.is_empty() {
                "nothing: no key file, agent or password is at hand".into()
            } else {
                tried.join(", ")
            }
        };
        if !self.locked.is_empty() && self.unusable.is_empty() {
            return Failure::Error(SshError::Locked { target, user, tried: nothing(&self.tried), files: self.locked });
        }
        if !self.unusable.is_empty() && self.tried.iter().all(|way| way.starts_with("agent")) {
            let tried =
                if self.tried.is_empty() { String::new() } else { format!("; tried: {}", self.tried.join(", ")) };
            return Failure::Error(SshError::Identity(format!("{}{tried}", self.unusable.join("; "))));
        }
        let tried: Vec<_> = self.tried.into_iter().chain(self.unusable).collect();
        let offered = match &self.offered {
            Some(methods) if !methods.is_empty() => {
                let names: Vec<&str> = methods.iter().map(<&str>::from).collect();
                format!(" (which takes: {})", names.join(", "))
            }
            _ => String::new(),
        };
        Failure::Error(SshError::Refused { target, user, tried: nothing(&tried), offered })
    }
}

fn key_data(identity: &AgentIdentity) -> &russh::keys::ssh_key::public::KeyData {
    match identity {
        AgentIdentity::PublicKey { key, .. } => key.key_data(),
        AgentIdentity::Certificate { certificate, .. } => certificate.public_key(),
    }
}

fn is(identity: &AgentIdentity, key: &PublicKey) -> bool {
    key_data(identity) == key.key_data()
}

fn of_agent(identity: &AgentIdentity, tried: &mut Vec<String>) -> Option<Candidate> {
    Some(match identity {
        AgentIdentity::PublicKey { key, comment } => {
            Candidate::OfAgent { shown: format!("agent key {comment:?}"), key: key.clone() }
        }
        AgentIdentity::Certificate { certificate, comment } => {
            if let Some(problem) = certificate_problem(certificate) {
                tried.push(format!("agent certificate {comment:?} ({problem})"));
                return None;
            }
            let shown = format!("agent certificate {comment:?}{}", principals(certificate));
            Candidate::CertificateOfAgent { shown, certificate: Box::new(certificate.clone()) }
        }
    })
}

fn algorithm(candidate: &Candidate) -> Algorithm {
    match candidate {
        Candidate::OfAgent { key, .. } => key.algorithm(),
        Candidate::File { key, .. } => key.algorithm(),
        Candidate::CertificateOfAgent { certificate, .. } | Candidate::CertificateOfFile { certificate, .. } => {
            certificate.algorithm()
        }
    }
}

/// Why no server would take it.
fn certificate_problem(certificate: &Certificate) -> Option<&'static str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if certificate.cert_type().is_host() {
        Some("it is a host's, not a user's")
    } else if now >= certificate.valid_before() {
        Some("it has run out: have it renewed")
    } else if now < certificate.valid_after() {
        Some("it is not valid yet")
    } else {
        None
    }
}

fn principals(certificate: &Certificate) -> String {
    match certificate.valid_principals() {
        [] => String::new(),
        list => format!(" (for {})", list.join(", ")),
    }
}

/// Signs for a certificate with the plain key that an agent holds, whether or not the agent knows the certificate.
struct PlainKeyOf<'a>(&'a mut Agent);

impl Signer for PlainKeyOf<'_> {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        let key = PublicKey::new(key_data(identity).clone(), "");
        Ok(self.0.sign_request(&AgentIdentity::from(key), hash, data).await?)
    }
}

/// Signs for a certificate with a key file.
struct FileSigner(Arc<PrivateKey>);

impl Signer for FileSigner {
    type Error = AgentAuthError;

    /// Gives `data` with the signature at its end, as the message wants it.
    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        let signature = match self.0.key_data() {
            KeypairData::Rsa(key) => (key, hash).try_sign(&data),
            key => key.try_sign(&data),
        };
        let signature =
            signature.map_err(|error| russh::keys::Error::from(russh::keys::ssh_key::Error::from(error)))?;
        signature.encode_prefixed(&mut data).map_err(russh::keys::Error::from)?;
        Ok(data)
    }
}
