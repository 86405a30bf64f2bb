//! systemd's manager, spoken to over its private socket as `systemctl` does it for root: no message bus and no process is needed.
//!
//! D-Bus' specification, as far as systemd's calls need it; `wire.rs` is how messages look. Each call has a connection of its own,
//! because a manager tells every connection about all that its units do.

mod wire;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub use wire::{Body, Property, Value};
use wire::{Kind, Message};

pub const SOCKET: &str = "/run/systemd/private";
/// D-Bus' own: a manager that says nothing for so long is not there.
const ANSWER: Duration = Duration::from_secs(25);
/// The serial number of a connection's only call.
const CALL: u32 = 1;

/// What systemd says to a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// The error's name (`org.freedesktop.systemd1.UnitExists`) and what it says of it.
    Refused(String, String),
}

#[derive(Debug, Clone)]
pub struct Bus {
    socket: PathBuf,
}

impl Bus {
    pub fn new(socket: impl Into<PathBuf>) -> Bus {
        Bus { socket: socket.into() }
    }

    /// Calls a method of the manager.
    pub async fn call(&self, method: &str, body: Body) -> Result<Answer> {
        let answered = async {
            let mut connection = self.connect(&wire::call(CALL, method, body)).await?;
            loop {
                let message = connection.next().await?;
                match message.kind {
                    Kind::Return if message.reply_to == Some(CALL) => return Ok(Answer::Done),
                    Kind::Error if message.reply_to == Some(CALL) => {
                        let text = message.text().unwrap_or_default();
                        return Ok(Answer::Refused(message.error.unwrap_or_default(), text));
                    }
                    _ => {}
                }
            }
        };
        let answer = tokio::time::timeout(ANSWER, answered).await.unwrap_or_else(|_| bail!("no answer"));
        answer.with_context(|| format!("cannot ask systemd for {method} at {}", self.socket.display()))
    }

    /// Calls `told` once systemd listens, and whenever it has read its units anew; ends with an error when systemd goes.
    pub async fn after_reloads(&self, told: impl Fn()) -> Result<()> {
        let mut connection = self.connect(&[]).await?;
        told();
        loop {
            let message = connection.next().await?;
            if message.kind == Kind::Signal && message.member == "Reloading" && message.flag() == Some(false) {
                told();
            }
        }
    }

    /// Says who we are and the first message in one go; the kernel tells systemd that it is true.
    async fn connect(&self, first: &[u8]) -> Result<Connection> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let uid = hex::encode(nix::unistd::geteuid().to_string());
        let hello = format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n");
        stream.write_all(&[hello.as_bytes(), first].concat()).await?;
        let mut connection = Connection { stream, received: Vec::new() };
        let line = connection.line().await?;
        if !line.starts_with("OK ") {
            bail!("systemd does not take this user: {line}");
        }
        Ok(connection)
    }
}

struct Connection {
    stream: UnixStream,
    /// What was read and not yet understood.
    received: Vec<u8>,
}

impl Connection {
    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let line = self.received.drain(..end + 2).take(end).collect::<Vec<u8>>();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.more().await?;
        }
    }

    async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some((message, length)) = wire::message(&self.received)? {
                self.received.drain(..length);
                return Ok(message);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.received).await? == 0 {
            bail!("systemd closed the connection");
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::net::UnixListener;

    use super::*;

    /// What is called on a manager that answers as `answer` says: the method, and the call's body.
    pub type Calls = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

    /// A manager that, as systemd does, tells of other things before it answers.
    pub fn manager(directory: &Path, answer: fn(&str) -> Answer) -> (Bus, Calls) {
        let path = directory.join("private");
        let listener = UnixListener::bind(&path).unwrap();
        let calls = Calls::default();
        let seen = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut connection = Connection { stream, received: Vec::new() };
                assert!(connection.line().await.unwrap().starts_with("\0AUTH EXTERNAL 3"));
                assert_eq!(connection.line().await.unwrap(), "BEGIN");
                connection.stream.write_all(b"OK 0123456789abcdef\r\n").await.unwrap();
                connection.stream.write_all(&wire::signal(7, "Reloading", true)).await.unwrap();
                connection.stream.write_all(&wire::signal(8, "Reloading", false)).await.unwrap();
                if let Ok(message) = connection.next().await {
                    let answer = answer(&message.member);
                    seen.lock().push((message.member, message.body));
                    connection.stream.write_all(&wire::answer(9, CALL, &answer)).await.unwrap();
                }
            }
        });
        (Bus::new(path), calls)
    }

    #[tokio::test]
    async fn calls_are_answered_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (bus, calls) = manager(directory.path(), |method| match method {
            "StopUnit" => Answer::Done,
            _ => Answer::Refused("org.freedesktop.systemd1.UnitExists".into(), "it is there".into()),
        });
        let body = || Body::default().text("a.slice").text("replace");
        assert_eq!(bus.call("StopUnit", body()).await.unwrap(), Answer::Done);
        let refused = Answer::Refused("org.freedesktop.systemd1.UnitExists".into(), "it is there".into());
        assert_eq!(bus.call("StartTransientUnit", body()).await.unwrap(), refused);
        assert!(calls.lock()[0].1.starts_with(b"\x07\0\0\0a.slice\0"));
    }

    #[tokio::test]
    async fn reloads_are_heard_of() {
        let directory = tempfile::tempdir().unwrap();
        let (bus, _) = manager(directory.path(), |_| Answer::Done);
        let told = Mutex::new(0);
        let heard = async {
            while *told.lock() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = bus.after_reloads(|| *told.lock() += 1) => ended.unwrap(),
            () = heard => {}
        }
        assert_eq!(*told.lock(), 2, "once in the beginning, once when a reload had ended, not when it began");
    }

    #[tokio::test]
    async fn a_manager_that_is_not_there_is_an_error() {
        let error = Bus::new("/nonexistent/private").call("StopUnit", Body::default()).await.unwrap_err();
        assert!(format!("{error:#}").contains("cannot ask systemd for StopUnit at /nonexistent/private"), "{error:#}");
    }
}
