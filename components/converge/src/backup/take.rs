//! Data on its way to the installer, as it comes: nothing is written here but the trial's store.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use hoststate::Event;
use hoststate::backup::Taking;
use hoststate::wire::Failure;
use sha2::{Digest as _, Sha256};

use super::volumes;
use crate::resources::{self, Context};
use crate::sink::Sink;
use crate::{OWN, command};

/// Bytes of one chunk.
const CHUNK: usize = 256 << 10;

pub fn take(context: Context<'_>, what: Taking) -> Result<Event, Failure> {
    let mut chunks = Chunks { sink: context.sink, buffer: Vec::new(), hash: Sha256::new(), size: 0 };
    match what {
        Taking::Store => store(&mut chunks)?,
        Taking::Volumes => volumes::pack(&context.root.path(super::VOLUMES), &mut chunks)
            .map_err(|error| resources::io("read the volumes", &error))?,
    }
    chunks.flush().map_err(|error| resources::io("send", &error))?;
    Ok(Event::Taken { size: chunks.size, sha256: hex::encode(chunks.hash.finalize()) })
}

fn store(chunks: &mut Chunks<'_>) -> Result<(), Failure> {
    const STEP: &str = "dump the store";
    const ARGUMENTS: [&str; 2] = ["backup", "store"];
    let failed = |error: io::Error| resources::io(STEP, &error);
    let started = Instant::now();
    let mut child = Command::new(OWN)
        .args(ARGUMENTS)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let sent = child.stdout.take().map_or(Ok(0), |mut stdout| io::copy(&mut stdout, chunks));
    if sent.is_err() {
        // nobody reads any more
        let _ = child.kill();
    }
    let output = child.wait_with_output();
    command::report(chunks.sink, STEP, OWN, &ARGUMENTS, started, output)?;
    sent.map(drop).map_err(failed)
}

/// Sends what is written, and knows its digest.
struct Chunks<'a> {
    sink: &'a Sink,
    buffer: Vec<u8>,
    hash: Sha256,
    size: u64,
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.hash.update(&self.buffer);
        self.size += self.buffer.len() as u64;
        let result = self.sink.chunk(&self.buffer);
        self.buffer.clear();
        result
    }
}
