//! Mounts below a directory, and taking them away.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};

/// Mount points at or below `directory`, deepest first.
pub fn below(directory: &Path) -> Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    let mut found: Vec<PathBuf> = points(&text).filter(|p| p.starts_with(directory)).collect();
    found.reverse();
    Ok(found)
}

pub fn is_mounted(path: &Path) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|text| points(&text).any(|p| p == path))
}

fn points(text: &str) -> impl Iterator<Item = PathBuf> {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| PathBuf::from(unescape(field)))
}

/// The kernel writes blanks and backslashes in paths as octal numbers.
fn unescape(field: &str) -> String {
    let mut out = Vec::new();
    let bytes = field.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match (bytes[at], octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Unmounts one point; a busy one is detached, so that its users keep it and no one else sees it.
pub fn unmount(point: &Path) -> Result<()> {
    match umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(nix::errno::Errno::EBUSY) => umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .with_context(|| format!("cannot detach {}", point.display())),
        Err(error) => Err(error).with_context(|| format!("cannot unmount {}", point.display())),
    }
}

/// Unmounts everything below a directory and removes it. Nothing is removed while anything is mounted
/// there: that might be someone's data.
pub fn remove_tree(directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    let directory = directory.canonicalize().with_context(|| format!("cannot resolve {}", directory.display()))?;
    for point in below(&directory)? {
        unmount(&point)?;
    }
    if let Some(left) = below(&directory)?.first() {
        bail!("{} is still mounted; {} is left in place", left.display(), directory.display());
    }
    std::fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_paths() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw shared:1 - ext3 /dev/root rw\n";
        assert_eq!(points(text).collect::<Vec<_>>(), [PathBuf::from("/mnt 2")]);
    }
}
