//! doas, which takes passwords from a terminal alone.
//!
//! Where it wants one, it is started on a terminal, with pipes of the host as stdin, stdout and stderr: the password goes to the
//! terminal, and the command's data, which a terminal would garble, through a second channel that joins those pipes. The pipes
//! are in a directory that only this user can enter, and go with the command.

use tokio::io::AsyncBufReadExt as _;

use super::{HostError, Reason, answer, not_started, password, runs, wrong_password};
use crate::cluster::Host;
use crate::ssh::{Process, Transport};

const DOAS: &str = "doas";
/// Begins the line that names the directory of the pipes.
const RELAY: &str = "KINSTALL-RELAY ";
const WANTS_PASSWORD: &str = "Authentication required";
const WRONG_PASSWORD: &str = "Authentication failed";

const REASONS: &[Reason] = &[
    (
        "Operation not permitted",
        "does not permit this user to become root",
        "permit it there: a line `permit USER as root` in /etc/doas.conf",
    ),
    ("doas is not enabled", "is not set up", "write /etc/doas.conf on the host: a line `permit USER as root`"),
    ("not setuid", "is not installed as it should be", "install the distribution's package of doas again"),
];

pub(super) async fn start(
    host: &Host,
    transport: &dyn Transport,
    step: &str,
    script: &str,
) -> Result<Process, HostError> {
    let started = transport.start(&format!("env LC_ALL=C doas -n sh -c '{script}'")).await;
    let mut process = started.map_err(|error| HostError::ssh(&host.name, step, &error))?;
    if runs(&mut process).await {
        return Ok(process);
    }
    let exit = process.finish().await;
    if !exit.stderr.contains(WANTS_PASSWORD) {
        return Err(not_started(host, transport, step, DOAS, &exit, REASONS));
    }
    let password = password(host, transport, step, DOAS).await?;
    with_password(host, transport, step, script, &password).await
}

async fn with_password(
    host: &Host,
    transport: &dyn Transport,
    step: &str,
    script: &str,
    password: &str,
) -> Result<Process, HostError> {
    let lost = |error: &crate::ssh::SshError| HostError::ssh(&host.name, step, error);
    let mut terminal = transport.start_on_terminal(&on_terminal(script)).await.map_err(|error| lost(&error))?;
    let Some(directory) = relay(&mut terminal).await else {
        let exit = terminal.finish().await;
        return Err(HostError::exit(
            &host.name,
            step,
            "no pipes could be made for doas in the directory for temporary files",
            &exit,
        ));
    };
    let mut process = transport.start(&joined(&directory)).await.map_err(|error| lost(&error))?;
    let mut said = String::new();
    let mut answered = false;
    let runs = {
        let runs = runs(&mut process);
        tokio::pin!(runs);
        loop {
            tokio::select! {
                runs = &mut runs => break runs,
                more = more(&mut terminal, &mut said), if !answered => {
                    if more && said.trim_end().ends_with(':') {
                        answered = true;
                        answer(&mut terminal, transport, password).await;
                    } else if !more {
                        break runs.await;
                    }
                }
            }
        }
    };
    if runs {
        // the terminal has to stay until the command ends
        tokio::spawn(async move { while more(&mut terminal, &mut String::new()).await {} });
        return Ok(process);
    }
    let exit = process.finish().await;
    if exit.stderr.contains(WRONG_PASSWORD) {
        if answered {
            return Err(wrong_password(host, transport, step, DOAS));
        }
        let message = "doas wants a password, which it takes from a terminal alone, and the host gives none";
        return Err(HostError::exit(&host.name, step, message, &exit).hint(
            "set `PermitTTY yes` in the host's sshd_config, or `permit nopass` for this user in /etc/doas.conf",
        ));
    }
    Err(not_started(host, transport, step, DOAS, &exit, REASONS))
}

/// Makes the pipes and waits for their other ends, then asks for the password. From there on a connection that breaks must not
/// take the command with it: it ends, as without a terminal, when its stdin does.
fn on_terminal(script: &str) -> String {
    let inner: String =
        script.chars().flat_map(|c| if "\\\"$`".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
    format!(
        "sh -c 'umask 077; d=$(mktemp -d) && mkfifo $d/i $d/o $d/e $d/s || exit 1; echo {RELAY}$d; \
         exec 3<$d/i 4>$d/o 5>$d/e; trap \"\" HUP; \
         env LC_ALL=C doas sh -c \"{inner}\" <&3 >&4 2>&5 3<&- 4>&- 5>&-; s=$?; \
         exec 3<&- 4>&- 5>&-; echo $s >$d/s'"
    )
}

/// The other ends, as the stdin, stdout, stderr and exit status of a command.
fn joined(d: &str) -> String {
    format!(
        "sh -c 'exec 3<&0; cat <&3 >{d}/i & p=$!; exec 3<&-; cat {d}/e >&2 & q=$!; cat {d}/o; wait $q; \
         read s <{d}/s; kill $p 2>/dev/null; rm -rf {d}; exit ${{s:-1}}'"
    )
}

/// The directory of the pipes.
async fn relay(terminal: &mut Process) -> Option<String> {
    while let Ok(Some(line)) = terminal.line().await {
        if let Some((_, directory)) = line.split_once(RELAY) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            return Some(directory.to_owned()).filter(|path| path.starts_with('/') && path.chars().all(plain));
        }
    }
    None
}

/// Adds what comes next to `said`. False at the end.
async fn more(terminal: &mut Process, said: &mut String) -> bool {
    let Ok(bytes) = terminal.stdout.fill_buf().await else { return false };
    let length = bytes.len();
    said.push_str(&String::from_utf8_lossy(bytes));
    terminal.stdout.consume(length);
    length > 0
}
