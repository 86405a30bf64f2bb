//! What is said to a host's `converge`: one message at a time, and a word now and then that this side is still there.
//!
//! The host ends a session of which it hears nothing any more: nobody else would tell it that the operator's machine is gone.

use std::sync::{Arc, Weak};

use hoststate::Request;
use hoststate::wire::ALIVE_EVERY;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, MutexGuard};

pub type Stdin = Option<Box<dyn AsyncWrite + Send + Unpin>>;

/// None in it: nothing more can be said.
#[derive(Clone)]
pub struct Speaker(Arc<Mutex<Stdin>>);

impl Speaker {
    /// Says that this side is there until the last of its clones is dropped.
    pub fn start(stdin: Stdin) -> Self {
        let stdin = Arc::new(Mutex::new(stdin));
        tokio::spawn(alive(Arc::downgrade(&stdin)));
        Self(stdin)
    }

    pub async fn say(&self, request: &Request) -> std::io::Result<()> {
        self.begin(request).await?.end().await
    }

    /// Says the first line of a message; the rest is for the caller to say, who [ends](Message::end) it.
    pub async fn begin(&self, request: &Request) -> std::io::Result<Message<'_>> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let mut message = Message { stdin: self.0.lock().await, whole: false };
        message.stdin()?.write_all(&line).await?;
        Ok(message)
    }

    /// Waits until nobody is in the middle of a message.
    pub async fn between(&self) {
        drop(self.0.lock().await);
    }

    /// From now on nothing is said. None where a message was left half said: what came now would be taken for the rest of it.
    pub async fn take(&self) -> Stdin {
        self.0.lock().await.take()
    }
}

/// A message that is being said.
pub struct Message<'a> {
    stdin: MutexGuard<'a, Stdin>,
    whole: bool,
}

impl Message<'_> {
    pub async fn end(mut self) -> std::io::Result<()> {
        self.stdin()?.flush().await?;
        self.whole = true;
        Ok(())
    }

    pub fn stdin(&mut self) -> std::io::Result<&mut (dyn AsyncWrite + Send + Unpin)> {
        Ok(self.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?)
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        if !self.whole {
            *self.stdin = None;
        }
    }
}

async fn alive(stdin: Weak<Mutex<Stdin>>) {
    loop {
        tokio::time::sleep(ALIVE_EVERY).await;
        let Some(stdin) = stdin.upgrade() else { return };
        if Speaker(stdin).say(&Request::Alive).await.is_err() {
            return;
        }
    }
}
