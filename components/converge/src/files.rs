//! Files that are there whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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

pub fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.kinstall-new"))
}

/// Lower-case hexadecimal SHA-256 of a file.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.write_all(&buffer[..read])?;
    }
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
