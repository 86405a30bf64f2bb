//! How bytes come to the first hop: TCP, or a proxy command's stdin and stdout.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::SshError;
use super::config::Family;
use super::route::Hop;

/// Tries every address that the hop's name has.
pub async fn tcp(hop: &Hop) -> Result<TcpStream, SshError> {
    let unreachable = |reason: String| SshError::Unreachable { target: hop.target(), reason };
    let found = tokio::net::lookup_host((hop.address.as_str(), hop.port)).await;
    let found = found.map_err(|error| unreachable(format!("its name cannot be resolved: {error}")))?;
    let mut reason = match hop.family {
        Family::Any => "its name has no address".to_owned(),
        Family::Inet => "its name has no IPv4 address, which AddressFamily in your ssh_config asks for".to_owned(),
        Family::Inet6 => "its name has no IPv6 address, which AddressFamily in your ssh_config asks for".to_owned(),
    };
    for address in found {
        if (hop.family == Family::Inet && address.is_ipv6()) || (hop.family == Family::Inet6 && address.is_ipv4()) {
            continue;
        }
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            notice_silence(&stream)?;
            Ok::<_, io::Error>(stream)
        };
        match connected.await {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(unreachable(reason))
}

/// A host that loses power takes nothing any more: an upload would wait in `write` for a quarter of an hour, and keepalives
/// behind it. The kernel is told to give up when nothing of what was sent is acknowledged (`TCP_USER_TIMEOUT`, tcp(7)).
#[cfg(target_os = "linux")]
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    use hoststate::wire::SILENCE;
    use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
    setsockopt(stream, TcpUserTimeout, &u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX)).map_err(Into::into)
}

/// Other systems have no such limit for each connection.
#[cfg(not(target_os = "linux"))]
fn notice_silence(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// A running ProxyCommand. It ends with this.
pub struct Proxy {
    _child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    said: LastWords,
}

/// The last of what a proxy command wrote to its stderr.
#[derive(Clone, Default)]
pub struct LastWords {
    text: Arc<Mutex<String>>,
    /// Nothing more will come.
    ended: CancellationToken,
}

/// How long they may take after the command has ended.
const PATIENCE: Duration = Duration::from_secs(1);

impl LastWords {
    /// Of a command that has ended, or is about to.
    pub async fn last_line(&self) -> Option<String> {
        let _ = tokio::time::timeout(PATIENCE, self.ended.cancelled()).await;
        self.text.lock().trim().lines().last().map(str::to_owned)
    }
}

impl Proxy {
    /// As `ssh` does: by the user's shell, which `exec`s it.
    pub fn start(command: &str) -> io::Result<Self> {
        let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        let mut child = Command::new(shell)
            .arg("-c")
            .arg(format!("exec {command}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let piped = || io::Error::other("its streams are not there");
        let (stdin, stdout) = (child.stdin.take().ok_or_else(piped)?, child.stdout.take().ok_or_else(piped)?);
        let mut stderr = child.stderr.take().ok_or_else(piped)?;
        let said = LastWords::default();
        let kept = said.clone();
        tokio::spawn(async move {
            let _ended = kept.ended.drop_guard();
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = stderr.read(&mut bytes).await {
                let mut text = kept.text.lock();
                // enough for its last words
                if text.len() > 4096 {
                    text.clear();
                }
                text.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Ok(Self { _child: child, stdin, stdout, said })
    }

    pub fn said(&self) -> LastWords {
        self.said.clone()
    }
}

impl AsyncRead for Proxy {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, bytes)
    }
}

impl AsyncWrite for Proxy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}
