//! Commands as root: directly, or through sudo or doas, with a password if they want one.

mod doas;
mod sudo;

use tokio::io::AsyncWriteExt as _;

use super::HostError;
use crate::cluster::{Become, Host, Secret};
use crate::ssh::{Exit, Process, Transport, secrets};

/// Says that a command runs as root. Nothing else is written to its stdin before.
const READY: &str = "KINSTALL-READY";

/// What the user of a connection is on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    Root,
    /// Becomes root by this.
    By(Become),
    /// Neither root nor is there anything to become root with.
    None,
}

impl Rights {
    /// `found`: what the host has of sudo and doas. The inventory's word goes before it.
    pub fn of(host: &Host, uid: Option<u32>, found: Option<Become>) -> Self {
        match host.ssh.sudo_command.or(found) {
            _ if uid == Some(0) => Self::Root,
            Some(command) => Self::By(command),
            None => Self::None,
        }
    }
}

/// Starts a POSIX shell script as root; returns once nobody wants a password any more. `script` must hold no single quote.
pub async fn start(
    host: &Host,
    transport: &dyn Transport,
    rights: Rights,
    step: &str,
    script: &str,
) -> Result<Process, HostError> {
    debug_assert!(!script.contains('\''), "the script is passed in single quotes");
    let heard = format!("echo {READY}; {script}");
    match rights {
        // nobody has to be waited for, which saves a round trip
        Rights::Root => {
            let started = transport.start(&format!("sh -c '{script}'")).await;
            started.map_err(|error| HostError::ssh(&host.name, step, &error))
        }
        Rights::By(Become::Sudo) => sudo::start(host, transport, step, &heard).await,
        Rights::By(Become::Doas) => doas::start(host, transport, step, &heard).await,
        Rights::None => Err(HostError::new(
            &host.name,
            step,
            format!("{:?} is not root, and neither sudo nor doas is on the host", transport.user()),
        )
        .hint(format!(
            "log in as root ({}), or install sudo or doas there and permit this user to use it",
            host.ssh.said.either("ssh.user", "root@HOST")
        ))),
    }
}

/// Waits until a command says that it runs; before that there is what a login shell may print.
async fn runs(process: &mut Process) -> bool {
    loop {
        match process.line().await {
            Ok(Some(line)) if line.ends_with(READY) => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

/// The password that `tool` wants: its own from the inventory, else the one for logging in, else a person's answer.
async fn password(host: &Host, transport: &dyn Transport, step: &str, tool: &str) -> Result<String, HostError> {
    let user = transport.user();
    let question = format!("{tool} password of {user:?}");
    let ssh = &host.ssh;
    let found = match (&ssh.sudo_password, &ssh.password) {
        (Secret::None, Secret::None) if secrets::can_ask() => secrets::value(&Secret::Prompt, &question).await,
        (Secret::None, Secret::Prompt) => secrets::value(&Secret::Prompt, &format!("SSH password of {user:?}")).await,
        (Secret::None, login) => secrets::value(login, &question).await,
        (own, _) => secrets::value(own, &question).await,
    };
    match found {
        Ok(Some(password)) => Ok(password),
        Ok(None) => Err(no_password(host, transport, step, tool)),
        Err(error) => Err(HostError::new(&host.name, step, format!("{error:#}"))),
    }
}

fn no_password(host: &Host, transport: &dyn Transport, step: &str, tool: &str) -> HostError {
    let name_one = host.ssh.said.either(
        "set ssh.sudo.passwordFile, passwordEnv, passwordCommand or passwordPrompt in the inventory",
        "name a file that has it with --sudo-password-file, or run this at a terminal, where it is asked for",
    );
    HostError::new(
        &host.name,
        step,
        format!("{tool} asks for the password of {:?} but none is given", transport.user()),
    )
    .hint(format!("{name_one}, or let the user run {tool} without a password"))
}

/// Gives it to who asks for it. A command that is gone is reported when its output ends.
async fn answer(process: &mut Process, transport: &dyn Transport, password: &str) {
    transport.round_trips().add();
    if let Some(stdin) = process.stdin.as_mut() {
        let _ = stdin.write_all(format!("{password}\n").as_bytes()).await;
        let _ = stdin.flush().await;
    }
}

fn wrong_password(host: &Host, transport: &dyn Transport, step: &str, tool: &str) -> HostError {
    let correct = host.ssh.said.either(
        "correct the password that ssh.sudo names in the inventory (where it names none, the one for logging in is used)",
        "correct the password in the file that --sudo-password-file names, or, at a terminal, leave that option out to be asked",
    );
    HostError::new(&host.name, step, format!("{tool} refused the password of {:?}", transport.user()))
        .hint(format!("{correct}, then run the command again"))
}

/// Why `tool` did not start a command, by what it wrote: a part of its message, what that means, and what helps.
type Reason = (&'static str, &'static str, &'static str);

fn not_started(
    host: &Host,
    transport: &dyn Transport,
    step: &str,
    tool: &str,
    exit: &Exit,
    reasons: &[Reason],
) -> HostError {
    let user = transport.user();
    let known = reasons.iter().find(|(part, ..)| exit.stderr.contains(part));
    let (message, hint) = match known {
        Some((_, message, hint)) => (*message, (*hint).to_owned()),
        None if exit.status == Some(127) => {
            let other = host.ssh.said.either("install it, or correct ssh.sudo.command", "install it there");
            ("is not on the host", other.into())
        }
        None => ("did not start the command", format!("log in as {user:?} and check that it may run `{tool} sh`")),
    };
    HostError::exit(&host.name, step, &format!("{tool} {message} (user {user:?})"), exit).hint(hint)
}
