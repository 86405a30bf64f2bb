//! Files that are there whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::Digest;

/// Writes `content` beside `path`, syncs it and renames it over `path`. The mode is set before the content is written, so
/// that a secret is never readable by others.
pub fn write_atomic(path: &Path, mode: u32, mut content: impl Read) -> io::Result<()> {
    let temporary = beside(path);
    let result = (|| {
        let mut file = create_private(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        io::copy(&mut content, &mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// A symlink that is replaced without a moment in which it is missing.
pub fn symlink_atomic(target: &str, path: &Path) -> io::Result<()> {
    let temporary = beside(path);
    let _ = fs::remove_file(&temporary);
    std::os::unix::fs::symlink(target, &temporary)?;
    fs::rename(&temporary, path)
}

/// Everything of the file system in which `directory` lies is on the disk when this returns.
pub fn sync_file_system(directory: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(directory)?)?)
}

pub fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// `None` where the file is not there; one that holds something else is an error that names it.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.kinstall-new"))
}

/// Lower-case hexadecimal SHA-256 of a file. An executable is asked for several times in a session (what it is, what changes,
/// what an image is made of), so the answer is kept for as long as the file is the same.
pub fn sha256(path: &Path) -> io::Result<String> {
    static KNOWN: Mutex<BTreeMap<Identity, String>> = Mutex::new(BTreeMap::new());
    let mut file = File::open(path)?;
    let identity = Identity::of(&file.metadata()?);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known().get(&identity) {
        return Ok(digest.clone());
    }
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.write_all(&buffer[..read])?;
    }
    let digest = hex::encode(hash.finalize());
    if Identity::of(&file.metadata()?) == identity {
        known().insert(identity, digest.clone());
    }
    Ok(digest)
}

/// What changes whenever a file's content does.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(meta: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// How mode and owner differ from what they are to be, in words: what is there, and what is wanted. What is ours is root's.
pub fn access(meta: &fs::Metadata, wanted: u32) -> Option<(String, String)> {
    let mut differences = Vec::new();
    if mode(meta) != wanted {
        differences.push((format!("mode {:o}", mode(meta)), format!("mode {wanted:o}")));
    }
    let ((uid, gid), (own_uid, own_gid)) = (owner(meta), own());
    if (uid, gid) != (own_uid, own_gid) {
        differences.push((format!("owner {uid}:{gid}"), format!("owner {own_uid}:{own_gid}")));
    }
    let (found, wanted): (Vec<_>, Vec<_>) = differences.into_iter().unzip();
    (!found.is_empty()).then(|| (found.join(", "), wanted.join(", ")))
}

/// Gives it to who converges, if it is somebody else's.
pub fn make_own(path: &Path) -> io::Result<()> {
    let (uid, gid) = own();
    match owner(&fs::metadata(path)?) == (uid, gid) {
        true => Ok(()),
        false => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
    }
}

fn owner(meta: &fs::Metadata) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    (meta.uid(), meta.gid())
}

fn own() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// Permission bits only.
pub fn mode(meta: &fs::Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_changed_file_has_another_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for text in ["one", "two", "two", "one"] {
            write_atomic(&path, 0o644, text.as_bytes()).unwrap();
            assert_eq!(sha256(&path).unwrap(), hoststate::sha256_hex(text.as_bytes()));
            fs::write(&path, "in place").unwrap();
            assert_eq!(sha256(&path).unwrap(), hoststate::sha256_hex(b"in place"));
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(libc::ENOSPC))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        write_atomic(&path, 0o600, &b"old"[..]).unwrap();
        assert!(write_atomic(&path, 0o600, Broken).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(mode(&fs::metadata(&path).unwrap()), 0o600);
    }
}
