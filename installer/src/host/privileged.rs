//! Commands as root: directly, or through sudo with the password on its stdin.
//!
//! sudo is given a prompt of ours. Each time it appears on stderr sudo wants a password: the first time it gets it, a second
//! time means that it was wrong. Nothing else is written to stdin before the command itself has said that it runs, so a wrong
//! password never makes sudo take other data for passwords, and the password never reaches the command. Who is root already has
//! nobody to wait for, which saves a round trip.

use tokio::io::AsyncWriteExt as _;

use super::HostError;
use crate::cluster::Host;
use crate::ssh::{Process, Transport};

const PROMPT: &str = "KINSTALL-SUDO-PASSWORD:";
const READY: &str = "KINSTALL-READY";

/// Starts a POSIX shell script as root; returns once sudo wants nothing more. `script` must hold no single quote.
pub async fn start(
    host: &Host,
    transport: &dyn Transport,
    is_root: bool,
    step: &str,
    script: &str,
) -> Result<Process, HostError> {
    debug_assert!(!script.contains('\''), "the script is passed in single quotes");
    let failed = |error| HostError::ssh(&host.name, step, &error);
    if is_root {
        return transport.start(&format!("sh -c '{script}'")).await.map_err(failed);
    }
    let command = format!("env LC_ALL=C sudo -S -p {PROMPT} sh -c 'echo {READY}; {script}'");
    let mut process = transport.start(&command).await.map_err(failed)?;
    let mut stderr = process.stderr.clone();
    let (mut answered, mut stderr_open) = (false, true);
    loop {
        tokio::select! {
            line = process.line() => match line {
                Ok(Some(line)) if line.ends_with(READY) => return Ok(process),
                // what a login shell may print
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(not_started(host, step, process, answered).await),
            },
            changed = stderr.changed(), if stderr_open => {
                stderr_open = changed.is_ok();
                let prompts = stderr.borrow_and_update().matches(PROMPT).count();
                match (prompts, answered) {
                    (0, _) | (1, true) => {}
                    (1, false) => {
                        let password = match host.ssh.sudo_password.read() {
                            Ok(Some(password)) => password,
                            Ok(None) => {
                                process.finish().await;
                                return Err(no_password(host, step));
                            }
                            Err(error) => {
                                process.finish().await;
                                return Err(HostError::new(&host.name, step, format!("{error:#}")));
                            }
                        };
                        transport.round_trips().add();
                        answered = true;
                        if let Some(stdin) = process.stdin.as_mut() {
                            // a command that is gone is reported when its stdout ends
                            let _ = stdin.write_all(format!("{password}\n").as_bytes()).await;
                            let _ = stdin.flush().await;
                        }
                    }
                    _ => {
                        process.finish().await;
                        return Err(wrong_password(host, step));
                    }
                }
            }
        }
    }
}

fn no_password(host: &Host, step: &str) -> HostError {
    HostError::new(&host.name, step, format!("sudo asks for the password of {:?} but none is given", host.ssh.user))
        .hint("set ssh.sudo.passwordFile or ssh.sudo.passwordEnv in the inventory, or let the user run sudo without a password")
}

fn wrong_password(host: &Host, step: &str) -> HostError {
    HostError::new(&host.name, step, format!("sudo refused the password of {:?}", host.ssh.user))
        .hint("correct the password that ssh.sudo names in the inventory, then run the command again")
}

async fn not_started(host: &Host, step: &str, process: Process, answered: bool) -> HostError {
    let mut exit = process.finish().await;
    exit.stderr = exit.stderr.replace(PROMPT, "");
    if answered && (exit.stderr.contains("try again") || exit.stderr.contains("incorrect password")) {
        return wrong_password(host, step);
    }
    HostError::exit(&host.name, step, "the command could not be started as root", &exit)
        .hint(format!("log in as {:?} and check that it may run `sudo sh`", host.ssh.user))
}
