//! Why a host cannot be reached or entered. Each says what the operator can do.

use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum SshError {
    #[error(
        "cannot connect to {target}: {reason}; check that the host is up, its address and port, and firewalls between"
    )]
    Unreachable { target: String, reason: String },
    #[error("{target} did not answer within {seconds} s while {what}; check that the host is up and not overloaded")]
    Timeout { target: String, what: &'static str, seconds: u64 },
    #[error(
        "{target} does not speak SSH with us: {source}; check that an SSH server listens there, and that it does not turn away \
         many connections at once (MaxStartups of its sshd_config)"
    )]
    Handshake { target: String, source: russh::Error },
    #[error("the proxy command for {target}, `{command}`, does not work: {reason}; try it in a shell")]
    ProxyCommand { target: String, command: String, reason: String },
    #[error("{target} cannot be reached because its bastion cannot be entered: {source}")]
    Bastion { target: String, source: Arc<SshError> },
    #[error(
        "the bastion {bastion} refuses to forward connections to {target}; check AllowTcpForwarding, PermitOpen and DisableForwarding \
         of its sshd_config, and options of the key in its authorized_keys"
    )]
    ForwardRefused { bastion: String, target: String },
    #[error(
        "the bastion {bastion} cannot connect to {target} ({reason}); check the host's address and port as the bastion sees them, \
         and firewalls between the two"
    )]
    ForwardFailed { bastion: String, target: String, reason: String },
    #[error(
        "the host key of {target} is not known ({fingerprint}); compare it with the host's, then add it (`{keyscan}`, where that \
         reaches the host), or set ssh.hostKeyChecking: accept-new"
    )]
    HostKeyUnknown { target: String, keyscan: String, fingerprint: String },
    #[error(
        "the host key of {target} changed (now {fingerprint}, line {line} of {} says otherwise): someone may be in between, or \
         the host was made anew; if so remove that line and run again", file.display()
    )]
    HostKeyChanged { target: String, fingerprint: String, file: PathBuf, line: usize },
    #[error("the host key of {target} ({fingerprint}) is revoked by line {line} of {}", file.display())]
    HostKeyRevoked { target: String, fingerprint: String, file: PathBuf, line: usize },
    #[error("the host certificate of {target} ({id:?}) is not accepted: {reason}; have it renewed by its authority")]
    HostCertificate { target: String, id: String, reason: String },
    #[error(
        "{target} refused user {user:?}; tried: {tried}; check ssh.user and ssh.identityFile, and the user's authorized_keys on the host{offered}"
    )]
    Refused { target: String, user: String, tried: String, offered: String },
    #[error(
        "{target} ended the login of {user:?} after too many attempts; tried: {tried}; name the right key in ssh.identityFile \
         and set ssh.identitiesOnly: true, so that the agent's other keys are left out"
    )]
    TooMany { target: String, user: String, tried: String },
    #[error(
        "{target} refused user {user:?}; tried: {tried}; these keys have a passphrase that nobody gave: {}; set \
         ssh.passphraseFile, passphraseEnv or passphraseCommand, add them to an SSH agent (`ssh-add {}`), or run kinstall at a \
         terminal, where it asks", list(files), files.first().map(|file| file.display().to_string()).unwrap_or_default()
    )]
    Locked { target: String, user: String, tried: String, files: Vec<PathBuf> },
    /// What cannot be used on this machine: a file, a password's source.
    #[error("{0}")]
    Identity(String),
    /// The way to the host cannot be found.
    #[error("{0}")]
    Route(String),
    #[error("the connection to {target} broke: {source}")]
    Broken { target: String, source: russh::Error },
    #[error(transparent)]
    Protocol(#[from] russh::Error),
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}
