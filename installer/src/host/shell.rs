//! Commands as root on a host that are not `converge`: a person's, ours for looking, hooks. They live as long as who asked for them.
//!
//! The script is the first line on stdin, so that no list of processes has it. What follows on stdin is nothing for the command: its
//! end says that this side has closed it, or is gone. Then the command, with all that it has started, gets SIGTERM and a little later
//! SIGKILL. Both outputs of a command come as one, in their order.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt as _;

use super::{HostError, Rights, privileged, staging};
use crate::cluster::Host;
use crate::ssh::{Exit, Process, Transport};

/// Runs the script in a session of its own, so that all of it can be ended, and waits for its end or that of stdin.
const HOLDER: &str = "read -r k; k=$(printf %s \"$k\" | base64 -d); export k; exec 3<&0 </dev/null; \
    setsid sh -c \"s=\\$k; unset k; eval \\\"\\$s\\\"\" 2>&1 3<&- & p=$!; unset k; \
    ( read -r x <&3; kill -s TERM -- -$p; sleep 5; kill -s KILL -- -$p ) >/dev/null 2>&1 & w=$!; \
    exec 3<&-; wait $p; r=$?; kill $w 2>/dev/null; exit $r";

/// A connection to a host, with the right to be root there.
pub struct Shell {
    host: Host,
    transport: Box<dyn Transport>,
    rights: Rights,
}

impl Shell {
    pub async fn open(host: &Host, timeout: Duration) -> Result<Self, HostError> {
        let transport = staging::connect(host, timeout).await?;
        let rights = staging::rights(host, transport.as_ref()).await?;
        Ok(Self { host: host.clone(), transport, rights })
    }

    /// Starts a POSIX shell script, of any content.
    pub async fn start(&self, step: &str, script: &str) -> Result<Process, HostError> {
        let mut process = privileged::start(&self.host, self.transport.as_ref(), self.rights, step, HOLDER).await?;
        let line = format!("{}\n", STANDARD.encode(script));
        let write = async {
            let stdin = process.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
            stdin.write_all(line.as_bytes()).await?;
            stdin.flush().await
        };
        match write.await {
            Ok(()) => Ok(process),
            Err(error) => Err(self.broken(step, &error)),
        }
    }

    /// Runs a script to its end; each line of what it prints goes to `seen`.
    pub async fn run(&self, step: &str, script: &str, mut seen: impl FnMut(String)) -> Result<Exit, HostError> {
        let mut process = self.start(step, script).await?;
        loop {
            match process.line().await {
                Ok(Some(line)) => seen(line),
                Ok(None) => return Ok(process.finish().await),
                Err(error) => return Err(self.broken(step, &error)),
            }
        }
    }

    pub async fn close(self) {
        self.transport.close().await;
    }

    /// Of this host.
    pub fn error(&self, step: &str, message: &str) -> HostError {
        HostError::new(&self.host.name, step, message)
    }

    fn broken(&self, step: &str, error: &std::io::Error) -> HostError {
        self.error(step, &format!("the connection broke: {error}"))
            .hint("check that the host is up and reachable, then run the command again")
    }
}

/// A word of a shell's command line, whatever is in it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use super::*;

    fn held(script: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", HOLDER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{}", STANDARD.encode(script)).unwrap();
        child
    }

    #[test]
    fn a_script_of_any_content_runs_and_its_status_is_told() {
        assert!(!HOLDER.contains('\''), "it is passed in single quotes");
        let mut child = held("cat; echo \"it's\" '$k' \"[$k]\"; echo to-stderr >&2; exit 7");
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "it's $k []\nto-stderr\n");
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn who_goes_away_takes_the_command_and_what_it_started_along() {
        let started = Instant::now();
        let mut child = held("sleep 61 & echo $!; sleep 62");
        let mut out = child.stdout.take().unwrap();
        let mut first = [0; 1];
        out.read_exact(&mut first).unwrap();
        drop(child.stdin.take());
        let mut rest = String::new();
        // it ends when nobody has the pipe any more: the one in the background neither
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
        assert!(started.elapsed() < Duration::from_secs(30));
        let pid = format!("{}{}", char::from(first[0]), rest.trim());
        let cmdline = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!cmdline.contains("61"), "{pid} is still there");
    }

    #[test]
    fn words_reach_a_command_as_they_are() {
        for word in ["a", "a b", "it's", "$HOME `x`", "", "\"", "\\", "-n", "*"] {
            let output = Command::new("sh").args(["-c", &format!("printf '%s|' {}", quoted(word))]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{word}|"));
        }
    }
}
