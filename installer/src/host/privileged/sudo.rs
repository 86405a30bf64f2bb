//! sudo, with the password on its stdin.
//!
//! sudo is given a prompt of ours. Each time it appears on stderr sudo wants a password: the first time it gets it, a second
//! time means that it was wrong. Nothing else is written to stdin before the command itself has said that it runs, so a wrong
//! password never makes sudo take other data for passwords, and the password never reaches the command.

use super::{HostError, READY, Reason, answer, no_password, not_started, password, wrong_password};
use crate::cluster::Host;
use crate::ssh::{Process, Transport};

const SUDO: &str = "sudo";
const PROMPT: &str = "KINSTALL-SUDO-PASSWORD:";
const PERMIT: &str =
    "permit it there, for example with `visudo -f /etc/sudoers.d/kinstall` and a line `USER ALL=(ALL) ALL`";

const REASONS: &[Reason] = &[
    ("not in the sudoers file", "does not permit this user to become root", PERMIT),
    ("may not run sudo", "does not permit this user to become root", PERMIT),
    ("is not allowed to", "does not permit this user to run a shell as root", PERMIT),
    (
        "must have a tty",
        "wants a terminal",
        "let it go without one: remove `requiretty` from /etc/sudoers, or exempt the user with `Defaults:USER !requiretty`",
    ),
    ("account validation failure", "finds the account locked or expired", "unlock the user's account on the host"),
];

pub(super) async fn start(
    host: &Host,
    transport: &dyn Transport,
    step: &str,
    script: &str,
) -> Result<Process, HostError> {
    let command = format!("env LC_ALL=C sudo -S -p {PROMPT} sh -c '{script}'");
    let mut process = transport.start(&command).await.map_err(|error| HostError::ssh(&host.name, step, &error))?;
    process.hide(PROMPT);
    let mut stderr = process.stderr.clone();
    let (mut answered, mut stderr_open) = (false, true);
    loop {
        tokio::select! {
            line = process.line() => match line {
                Ok(Some(line)) if line.ends_with(READY) => return Ok(process),
                // what a login shell may print
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(ended(host, transport, step, process, answered).await),
            },
            changed = stderr.changed(), if stderr_open => {
                stderr_open = changed.is_ok();
                let prompts = stderr.borrow_and_update().matches(PROMPT).count();
                match (prompts, answered) {
                    (0, _) | (1, true) => {}
                    (1, false) => {
                        let password = match password(host, transport, step, SUDO).await {
                            Ok(password) => password,
                            Err(error) => {
                                process.finish().await;
                                return Err(error);
                            }
                        };
                        answered = true;
                        answer(&mut process, transport, &password).await;
                    }
                    _ => {
                        process.finish().await;
                        return Err(wrong_password(host, transport, step, SUDO));
                    }
                }
            }
        }
    }
}

async fn ended(host: &Host, transport: &dyn Transport, step: &str, process: Process, answered: bool) -> HostError {
    let exit = process.finish().await;
    if answered && (exit.stderr.contains("try again") || exit.stderr.contains("incorrect password")) {
        return wrong_password(host, transport, step, SUDO);
    }
    if exit.stderr.contains("no password was provided") {
        return no_password(host, transport, step, SUDO);
    }
    not_started(host, transport, step, SUDO, &exit, REASONS)
}
