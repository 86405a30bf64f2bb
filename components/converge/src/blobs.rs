//! Blobs on their way from the installer's bundle into their place.
//!
//! The session's reader stores each blob as it arrives, the applying thread takes it when its resource comes: transfer and
//! work overlap. A blob is used only when its bytes have the digest it is named by. Other hosts may be given it meanwhile
//! ([`crate::peers`]), also what has come of it so far: they judge it by the same digest.

mod passing;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hoststate::{HostState, Resource};
use sha2::Digest;

use crate::{OWN, Root, files};
pub use passing::{Passing, Piece};

enum Arrival {
    /// Another host was asked for it.
    Coming,
    /// So many bytes of it are in this file.
    Part { file: PathBuf, written: u64 },
    /// It is there, or why it is not.
    Done(Result<(), String>),
}

#[derive(Default)]
struct Arrivals {
    by_digest: HashMap<String, Arrival>,
    /// No more will come; says why.
    ended: Option<String>,
}

pub struct Blobs {
    dir: PathBuf,
    arrivals: Mutex<Arrivals>,
    changed: Condvar,
    /// Files that have been put in their place, by their digest.
    placed: Mutex<HashMap<String, PathBuf>>,
    /// What was used is kept for other hosts.
    shared: AtomicBool,
    /// It has all been used.
    over: AtomicBool,
    /// This executable's digest, when somebody has asked for it.
    own: OnceLock<String>,
}

impl Blobs {
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            arrivals: Mutex::default(),
            changed: Condvar::new(),
            placed: Mutex::default(),
            shared: AtomicBool::new(false),
            over: AtomicBool::new(false),
            own: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, sha256: &str, arrival: Arrival) {
        self.lock().by_digest.insert(sha256.to_owned(), arrival);
        self.changed.notify_all();
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(sha256)
    }

    /// Whether the bytes are here already: from an interrupted run, or because they are this very executable. Touches nothing.
    pub fn has(&self, sha256: &str) -> bool {
        matches!(self.lock().by_digest.get(sha256), Some(Arrival::Done(Ok(()))))
            || is(&self.path(sha256), sha256)
            || self.is_own(sha256)
    }

    /// As [`Blobs::has`]; from here on [`Blobs::wait`] gives them.
    pub fn have(&self, sha256: &str) -> bool {
        if matches!(self.lock().by_digest.get(sha256), Some(Arrival::Done(Ok(())))) {
            return true;
        }
        let there = is(&self.path(sha256), sha256) || self.adopt_own_executable(sha256);
        if there {
            self.set(sha256, Arrival::Done(Ok(())));
        }
        there
    }

    /// The installer has just uploaded this executable; it need not come twice.
    fn adopt_own_executable(&self, sha256: &str) -> bool {
        self.is_own(sha256) && fs::create_dir_all(&self.dir).is_ok() && fs::copy(OWN, self.path(sha256)).is_ok()
    }

    fn is_own(&self, sha256: &str) -> bool {
        self.own.get_or_init(|| files::sha256(Path::new(OWN)).unwrap_or_default()) == sha256
    }

    /// Reads exactly `size` bytes from `input`, whatever happens to them, so that the next message is found.
    pub fn receive(&self, sha256: &str, size: u64, input: &mut impl Read) -> io::Result<()> {
        let mut body = input.take(size);
        let stored = self.store(sha256, &mut body);
        skip(&mut body)?;
        self.set(sha256, Arrival::Done(stored));
        Ok(())
    }

    /// Another host is going to be asked for it.
    pub fn expect(&self, sha256: &str) {
        self.set(sha256, Arrival::Coming);
    }

    /// What another host has of it. When that is not the whole of it, it is as if it had not come, and still may.
    pub fn fetch(&self, sha256: &str, body: &mut impl Read) -> Result<(), String> {
        let stored = self.store(sha256, body);
        match &stored {
            Ok(()) => self.set(sha256, Arrival::Done(Ok(()))),
            Err(_) => self.forget(sha256),
        }
        stored
    }

    /// It does not come from where it was expected, and still may come from elsewhere.
    pub fn forget(&self, sha256: &str) {
        self.lock().by_digest.remove(sha256);
        self.changed.notify_all();
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
            let mut written = 0;
            loop {
                self.set(sha256, Arrival::Part { file: part.clone(), written });
                let read = body.read(&mut buffer)?;
                if read == 0 {
                    return Ok(hex::encode(hash.finalize()));
                }
                hash.update(&buffer[..read]);
                file.write_all(&buffer[..read])?;
                written += read as u64;
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
            match (arrivals.by_digest.get(sha256), &arrivals.ended) {
                (Some(Arrival::Done(Ok(()))), _) => return Ok(self.path(sha256)),
                (Some(Arrival::Done(Err(why))), _) => return Err(why.clone()),
                (_, Some(why)) => return Err(why.clone()),
                (_, None) => arrivals = self.changed.wait(arrivals).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// From now on other hosts are given what is here.
    pub fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Where the files of this state are, or are going to be.
    pub fn learn(&self, root: &Root, state: &HostState) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in &state.resources {
            if let (Resource::File { path, .. }, Some(sha256)) = (resource, resource.blobs()) {
                placed.insert(sha256.to_owned(), root.path(path));
            }
        }
    }

    /// For another host: what is here of a blob, or comes. `None`: nothing is known of it.
    pub fn pass(&self, sha256: &str) -> Option<Passing<'_>> {
        let arriving = match self.lock().by_digest.get(sha256) {
            Some(Arrival::Coming) => Some(None),
            Some(Arrival::Part { file, .. }) => Some(File::open(file).ok()),
            _ => None,
        };
        let file = match arriving {
            Some(file) => file,
            None => Some(self.whole(sha256)?),
        };
        Some(Passing { blobs: self, sha256: sha256.to_owned(), file, read: 0 })
    }

    /// All of a blob, from wherever it is.
    pub fn whole(&self, sha256: &str) -> Option<File> {
        if self.is_own(sha256) {
            return File::open(OWN).ok();
        }
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner).get(sha256).cloned();
        let places = [Some(self.path(sha256)), placed];
        let path = places.into_iter().flatten().find(|path| is(path, sha256))?;
        File::open(path).ok()
    }

    /// Waits a moment for a blob of which nothing is known: the installer's word of it may be on its way here.
    pub fn pass_soon(&self, sha256: &str, patience: Duration) -> Option<Passing<'_>> {
        if let Some(passing) = self.pass(sha256) {
            return Some(passing);
        }
        let arrivals = self.lock();
        let unknown = |arrivals: &mut Arrivals| !arrivals.by_digest.contains_key(sha256) && arrivals.ended.is_none();
        drop(self.changed.wait_timeout_while(arrivals, patience, unknown));
        self.pass(sha256)
    }

    /// It was put in its place. Other hosts may want it as long as there is ample room.
    pub fn used(&self, sha256: &str) -> io::Result<()> {
        match self.shared.load(Ordering::Relaxed) && has_room(&self.dir) {
            true => Ok(()),
            false => fs::remove_file(self.path(sha256)),
        }
    }

    /// All of it has been put in its place: removes it, or when nobody is given it any more.
    pub fn clear(&self) {
        self.over.store(true, Ordering::Relaxed);
        if !self.shared.load(Ordering::Relaxed) {
            self.end_sharing();
        }
    }

    /// What was not used stays for the next run.
    pub fn end_sharing(&self) {
        if self.over.load(Ordering::Relaxed) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Whether a file has these bytes.
fn is(path: &Path, sha256: &str) -> bool {
    files::sha256(path).is_ok_and(|actual| actual == sha256)
}

/// Reads what is left of a message.
pub fn skip(body: &mut io::Take<impl Read>) -> io::Result<()> {
    let left = body.limit();
    match io::copy(body, &mut io::sink())? < left {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(()),
    }
}

/// Whether a quarter of the file system is free.
fn has_room(path: &Path) -> bool {
    nix::sys::statvfs::statvfs(path).is_ok_and(|stat| stat.blocks_available() >= stat.blocks() / 4)
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

    #[test]
    fn what_comes_is_passed_on_as_it_comes_and_what_broke_off_is_not_whole() {
        const SOON: Duration = Duration::from_millis(20);
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().join("blobs"));
        let wanted = hoststate::sha256_hex(b"hello");
        assert!(blobs.pass(&wanted).is_none());
        assert!(blobs.pass_soon(&wanted, SOON).is_none());
        let (mut reader, mut writer) = io::pipe().unwrap();
        let mut buffer = [0; 16];
        for whole in [false, true] {
            blobs.expect(&wanted);
            let mut passing = blobs.pass(&wanted).unwrap();
            assert!(matches!(passing.next(&mut buffer, SOON).unwrap(), Piece::Waiting));
            std::thread::scope(|scope| {
                let fetching = scope.spawn(|| blobs.fetch(&wanted, &mut (&mut reader).take(if whole { 5 } else { 2 })));
                writer.write_all(b"he").unwrap();
                let first = loop {
                    match passing.next(&mut buffer, SOON) {
                        Ok(Piece::Waiting) => {}
                        other => break other,
                    }
                };
                if whole {
                    assert!(matches!(first.unwrap(), Piece::Bytes(2)));
                    writer.write_all(b"llo").unwrap();
                }
                assert_eq!(fetching.join().unwrap().is_ok(), whole);
            });
            if whole {
                assert!(matches!(passing.next(&mut buffer, SOON).unwrap(), Piece::Bytes(3)));
                assert!(matches!(passing.next(&mut buffer, SOON).unwrap(), Piece::End));
            } else {
                assert!(blobs.pass(&wanted).is_none(), "it still may come from elsewhere");
            }
        }
        assert_eq!(fs::read(blobs.wait(&wanted).unwrap()).unwrap(), b"hello");
    }

    #[test]
    fn what_is_shared_outlives_its_use() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().join("blobs"));
        let wanted = hoststate::sha256_hex(b"hello");
        blobs.share();
        blobs.receive(&wanted, 5, &mut &b"hello"[..]).unwrap();
        blobs.clear();
        assert!(blobs.whole(&wanted).is_some());
        blobs.end_sharing();
        assert!(blobs.whole(&wanted).is_none() && !dir.path().join("blobs").exists());
    }
}
