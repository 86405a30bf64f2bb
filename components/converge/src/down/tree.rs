//! Removing directories without ever reaching through a mount.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::{Root, STATE_DIR};

/// Removes everything below and including `path`, except what `kept` names. What is mounted below is unmounted first; a
/// mount that stays is an error, since removing through it would delete somebody's data.
pub fn remove(path: &Path, kept: &[PathBuf]) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    unmount_below(path)?;
    remove_tree(path, kept)
}

fn remove_tree(path: &Path, kept: &[PathBuf]) -> io::Result<()> {
    if kept.iter().any(|keep| keep == path) {
        return Ok(());
    }
    if !kept.iter().any(|keep| keep.starts_with(path)) {
        return fs::remove_dir_all(path);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path(), kept)?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    remove_if_empty(path)
}

/// A directory with something in it, or one that is gone, stays as it is.
pub fn remove_if_empty(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::ENOENT | libc::EEXIST | libc::EBUSY)) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Unmounts everything mounted at or below `path`, the deepest first.
pub fn unmount_below(path: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut mounts = mounts_below(&path)?;
    mounts.reverse();
    for mount in &mounts {
        let plain = umount2(mount, MntFlags::empty()).or_else(|_| umount2(mount, MntFlags::MNT_DETACH));
        match plain {
            // It went by itself meanwhile; what is still there is seen below.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => {
                let text = format!("cannot unmount {}: {errno}", mount.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
        }
    }
    match mounts_below(&path)?.first() {
        Some(left) => Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("{} is still mounted", left.display()))),
        None => Ok(()),
    }
}

/// In the order in which they were mounted.
fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|mount| PathBuf::from(unescape(mount)))
        .filter(|mount| mount.starts_with(path))
        .collect())
}

/// mountinfo writes white space and backslashes as `\ooo`.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let octal = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

/// Removes kinstall's own directory; what is kept of it stays.
pub fn forget_state(root: &Root, kept: &[String]) -> io::Result<()> {
    let kept: Vec<PathBuf> = kept.iter().map(|path| root.path(path)).collect();
    remove(&root.path(STATE_DIR), &kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kept_directories_survive_with_their_parents() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("kinstall");
        fs::create_dir_all(state.join("volumes/a")).unwrap();
        fs::create_dir_all(state.join("containerd/x")).unwrap();
        fs::write(state.join("volumes/a/data"), "post").unwrap();
        fs::write(state.join("manifest.json"), "{}").unwrap();
        remove(&state, &[state.join("volumes")]).unwrap();
        assert_eq!(fs::read_to_string(state.join("volumes/a/data")).unwrap(), "post");
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        remove(&state, &[]).unwrap();
        assert!(!state.exists());
    }

    #[test]
    fn a_symlink_is_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("theirs")).unwrap();
        fs::write(dir.path().join("theirs/file"), "x").unwrap();
        fs::create_dir(dir.path().join("ours")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("theirs"), dir.path().join("ours/link")).unwrap();
        remove(&dir.path().join("ours"), &[]).unwrap();
        assert!(dir.path().join("theirs/file").exists());
    }

    #[test]
    fn escaped_mount_points_are_read() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
    }
}
