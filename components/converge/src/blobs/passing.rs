//! A blob on its way to another host, also while it comes here.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::PoisonError;
use std::time::Duration;

use super::{Arrival, Blobs};

pub struct Passing<'a> {
    pub(super) blobs: &'a Blobs,
    pub(super) sha256: String,
    pub(super) file: Option<File>,
    pub(super) read: u64,
}

pub enum Piece {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// Nothing for as long as it was waited; more may come.
    Waiting,
    /// That was all.
    End,
}

impl Passing<'_> {
    /// What comes next. An error: it will not come.
    pub fn next(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<Piece> {
        let mut arrivals = self.blobs.lock();
        let mut waited = false;
        let available = loop {
            match arrivals.by_digest.get(&self.sha256) {
                Some(Arrival::Part { file, written }) if *written > self.read => {
                    if self.file.is_none() {
                        self.file = Some(File::open(file)?);
                    }
                    break *written - self.read;
                }
                Some(Arrival::Coming | Arrival::Part { .. }) if waited => return Ok(Piece::Waiting),
                Some(Arrival::Coming | Arrival::Part { .. }) => {
                    let waiting = self.blobs.changed.wait_timeout(arrivals, patience);
                    arrivals = waiting.unwrap_or_else(PoisonError::into_inner).0;
                    waited = true;
                }
                Some(Arrival::Done(Err(_))) => return Err(io::ErrorKind::InvalidData.into()),
                // it has all come, or was here before; or what came of it was no good
                Some(Arrival::Done(Ok(()))) | None => break u64::MAX,
            }
        };
        drop(arrivals);
        if self.file.is_none() {
            self.file = Some(self.blobs.whole(&self.sha256).ok_or(io::ErrorKind::NotFound)?);
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let most = usize::try_from(available).unwrap_or(usize::MAX).min(buffer.len());
        let read = file.read(&mut buffer[..most])?;
        self.read += read as u64;
        Ok(if read == 0 { Piece::End } else { Piece::Bytes(read) })
    }
}
