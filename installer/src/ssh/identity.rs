//! Who we say we are: the SSH agent's keys, key files, a password.

use std::path::Path;
use std::sync::Arc;

use russh::client::{Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, PrivateKeyWithHashAlg, load_secret_key};

use super::SshError;
use super::client::HostKeyCheck;
use crate::cluster::Ssh;

/// Tries every way in the order agent, key files, password. `Err(tried)` lists what was refused.
pub async fn authenticate(handle: &mut Handle<HostKeyCheck>, ssh: &Ssh) -> Result<(), Failure> {
    let mut tried = Vec::new();
    let mut unusable = Vec::new();
    if agent(handle, &ssh.user, &mut tried).await? {
        return Ok(());
    }
    for file in &ssh.identity_files {
        if key_file(handle, &ssh.user, file, &mut tried, &mut unusable).await? {
            return Ok(());
        }
    }
    if password(handle, ssh, &mut tried).await? {
        return Ok(());
    }
    if !unusable.is_empty() && tried.iter().all(|way: &String| way.starts_with("agent")) {
        return Err(Failure::Error(SshError::Identity(unusable.join("; "))));
    }
    tried.extend(unusable);
    Err(Failure::Refused(if tried.is_empty() {
        "nothing: no key file, agent or password is at hand".into()
    } else {
        tried.join(", ")
    }))
}

pub enum Failure {
    Refused(String),
    Error(SshError),
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Self::Error(error.into())
    }
}

async fn agent(handle: &mut Handle<HostKeyCheck>, user: &str, tried: &mut Vec<String>) -> Result<bool, Failure> {
    if std::env::var_os("SSH_AUTH_SOCK").is_none_or(|path| path.is_empty()) {
        return Ok(false);
    }
    // an agent that does not answer is no reason to stop: key files come next
    let Ok(mut agent) = AgentClient::connect_env().await else {
        tried.push("agent (not reachable)".into());
        return Ok(false);
    };
    for identity in agent.request_identities().await.unwrap_or_default() {
        let AgentIdentity::PublicKey { key, comment } = identity else { continue };
        let hash = if matches!(key.algorithm(), Algorithm::Rsa { .. }) {
            handle.best_supported_rsa_hash().await?.flatten()
        } else {
            None
        };
        match handle.authenticate_publickey_with(user, key, hash, &mut agent).await {
            Ok(result) if result.success() => return Ok(true),
            _ => tried.push(format!("agent key {comment:?}")),
        }
        if handle.is_closed() {
            break;
        }
    }
    Ok(false)
}

async fn key_file(
    handle: &mut Handle<HostKeyCheck>,
    user: &str,
    file: &Path,
    tried: &mut Vec<String>,
    unusable: &mut Vec<String>,
) -> Result<bool, Failure> {
    let key = match load_secret_key(file, None) {
        Ok(key) => Arc::new(key),
        Err(russh::keys::Error::KeyIsEncrypted) => {
            unusable.push(format!(
                "the key {} has a passphrase: add it to an SSH agent (`ssh-add {}`) and run again",
                file.display(),
                file.display()
            ));
            return Ok(false);
        }
        Err(error) => {
            unusable.push(format!("the key {} cannot be read: {error}", file.display()));
            return Ok(false);
        }
    };
    let hash = if matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        handle.best_supported_rsa_hash().await?.flatten()
    } else {
        None
    };
    let result = handle.authenticate_publickey(user, PrivateKeyWithHashAlg::new(key, hash)).await?;
    if !result.success() {
        tried.push(format!("key {}", file.display()));
    }
    Ok(result.success())
}

/// Password, or keyboard-interactive with the password as the answer to its one hidden question (PAM).
async fn password(handle: &mut Handle<HostKeyCheck>, ssh: &Ssh, tried: &mut Vec<String>) -> Result<bool, Failure> {
    let Some(password) =
        ssh.password.read().map_err(|error| Failure::Error(SshError::Identity(format!("{error:#}"))))?
    else {
        return Ok(false);
    };
    if handle.authenticate_password(&ssh.user, &password).await?.success() {
        return Ok(true);
    }
    let mut answer = handle.authenticate_keyboard_interactive_start(&ssh.user, None::<String>).await?;
    for _ in 0..4 {
        answer = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => break,
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                let answers =
                    prompts.iter().map(|prompt| if prompt.echo { String::new() } else { password.clone() }).collect();
                handle.authenticate_keyboard_interactive_respond(answers).await?
            }
        };
    }
    tried.push("password".into());
    Ok(false)
}
