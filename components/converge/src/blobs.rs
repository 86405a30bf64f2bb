//! Blobs on their way from the installer's bundle into their place.
//!
//! The session's reader stores each blob as it arrives, the applying thread takes it when its resource comes: transfer and
//! work overlap. A blob is used only when its bytes have the digest it is named by.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use sha2::Digest;

use crate::files;

#[derive(Default)]
struct Arrivals {
    /// Digest → where it is, or why it is not there.
    done: HashMap<String, Result<(), String>>,
    /// No more will come; says why.
    ended: Option<String>,
}

pub struct Blobs {
    dir: PathBuf,
    arrivals: Mutex<Arrivals>,
    changed: Condvar,
}

impl Blobs {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, arrivals: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(sha256)
    }

    /// Whether the bytes are here already: from an interrupted run, or because they are this very executable.
    pub fn have(&self, sha256: &str) -> bool {
        if self.lock().done.get(sha256).is_some_and(Result::is_ok) {
            return true;
        }
        let path = self.path(sha256);
        if files::sha256(&path).is_ok_and(|actual| actual == sha256) || self.adopt_own_executable(sha256) {
            self.lock().done.insert(sha256.to_owned(), Ok(()));
            return true;
        }
        false
    }

    /// The installer has just uploaded this executable; it need not come twice.
    fn adopt_own_executable(&self, sha256: &str) -> bool {
        let own = Path::new("/proc/self/exe");
        files::sha256(own).is_ok_and(|actual| actual == sha256)
            && fs::create_dir_all(&self.dir).is_ok()
            && fs::copy(own, self.path(sha256)).is_ok()
    }

    /// Reads exactly `size` bytes from `input`, whatever happens to them, so that the next message is found.
    pub fn receive(&self, sha256: &str, size: u64, input: &mut impl Read) -> io::Result<()> {
        let mut body = input.take(size);
        let stored = self.store(sha256, &mut body);
        let left = body.limit();
        if left > 0 {
            let skipped = io::copy(&mut body, &mut io::sink())?;
            if skipped < left {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.lock().done.insert(sha256.to_owned(), stored);
        self.changed.notify_all();
        Ok(())
    }

    fn store(&self, sha256: &str, body: &mut impl Read) -> Result<(), String> {
        if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("{sha256:?} is not a SHA-256 digest"));
        }
        let path = self.path(sha256);
        let part = path.with_extension("part");
        let mut write = || -> io::Result<String> {
            fs::create_dir_all(&self.dir)?;
            let mut file = files::create_private(&part)?;
            let mut hash = sha2::Sha256::new();
            let mut buffer = vec![0; 1 << 18];
            loop {
                let read = body.read(&mut buffer)?;
                if read == 0 {
                    return Ok(hex::encode(hash.finalize()));
                }
                hash.update(&buffer[..read]);
                file.write_all(&buffer[..read])?;
            }
        };
        let result = match write() {
            Ok(actual) if actual == sha256 => fs::rename(&part, &path).map_err(|error| error.to_string()),
            Ok(actual) => Err(format!("its digest is {actual}: the transfer or the bundle is damaged")),
            Err(error) => Err(error.to_string()),
        };
        if result.is_err() {
            let _ = fs::remove_file(&part);
        }
        result
    }

    /// No more blobs will come.
    pub fn end(&self, why: &str) {
        self.lock().ended.get_or_insert_with(|| why.to_owned());
        self.changed.notify_all();
    }

    /// Waits until the blob is here.
    pub fn wait(&self, sha256: &str) -> Result<PathBuf, String> {
        let mut arrivals = self.lock();
        loop {
            match (arrivals.done.get(sha256), &arrivals.ended) {
                (Some(Ok(())), _) => return Ok(self.path(sha256)),
                (Some(Err(why)), _) => return Err(why.clone()),
                (None, Some(why)) => return Err(why.clone()),
                (None, None) => arrivals = self.changed.wait(arrivals).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Everything that was received; all of it has been put in its place.
    pub fn clear(&self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_damaged_blob_is_refused_and_the_stream_stays_in_step() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().join("blobs"));
        let wanted = hoststate::sha256_hex(b"hello");
        let mut input = &b"hellx{next"[..];
        blobs.receive(&wanted, 5, &mut input).unwrap();
        assert_eq!(input, b"{next");
        assert!(blobs.wait(&wanted).unwrap_err().contains("damaged"));
        assert!(!blobs.have(&wanted));
        blobs.receive(&wanted, 5, &mut &b"hello"[..]).unwrap();
        assert_eq!(fs::read(blobs.wait(&wanted).unwrap()).unwrap(), b"hello");
    }

    #[test]
    fn a_cut_connection_ends_the_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().join("blobs"));
        let wanted = hoststate::sha256_hex(b"hello");
        assert!(blobs.receive(&wanted, 5, &mut &b"he"[..]).is_err());
        blobs.end("the connection ended");
        assert!(blobs.wait(&wanted).is_err());
        assert!(blobs.wait("other").unwrap_err().contains("connection"));
    }
}
