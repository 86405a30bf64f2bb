//! Where events go.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use hoststate::Event;

/// Writes one event a line; shared by the threads of a session.
#[derive(Clone)]
pub struct Sink {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl Sink {
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Arc::new(Mutex::new(Box::new(out))) }
    }

    /// The installer may be gone; the host's work does not depend on anybody reading, so that is no error here.
    pub fn send(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }

    /// Raw bytes. Here it matters whether somebody reads: without a reader the work is in vain.
    pub fn chunk(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(&Event::Chunk { size: bytes.len() as u64 })?;
        line.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&line)?;
        out.write_all(bytes)?;
        out.flush()
    }
}
