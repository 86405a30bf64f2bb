//! `subPath`: part of a volume, found without ever leaving it.
//!
//! The containers of a pod can plant symbolic links in a shared volume (CVE-2017-1002101,
//! CVE-2021-25741). The kernel resolves the path beneath the volume's root in one step
//! (`openat2`, `RESOLVE_BENEATH`), and what it found is bind-mounted by its descriptor, so nothing can be
//! exchanged between check and use.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::mountinfo;

/// Binds `sub` of `volume` to `target` and returns the target.
pub fn bind(volume: &Path, sub: &str, target: &Path) -> Result<PathBuf> {
    check(sub)?;
    let context = || format!("cannot use subPath {sub:?} of {}", volume.display());
    let base = open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).with_context(context)?;
    let found = match beneath(&base, Path::new(sub)) {
        Err(Errno::ENOENT) => {
            make_directories(&base, Path::new(sub)).with_context(context)?;
            beneath(&base, Path::new(sub)).with_context(context)?
        }
        other => other.with_context(context)?,
    };
    let is_directory = fstat(found.as_fd()).with_context(context)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    prepare_target(target, is_directory).with_context(context)?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(context)?;
    Ok(target.to_path_buf())
}

fn check(sub: &str) -> Result<()> {
    if sub.starts_with('/') {
        bail!("subPath {sub:?} must not be an absolute path");
    }
    if sub.split('/').any(|part| part == "..") {
        bail!("subPath {sub:?} must not contain '..'");
    }
    Ok(())
}

fn beneath(base: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(base.as_fd(), path, how)
}

/// Missing directories get the mode of the volume's root.
fn make_directories(base: &OwnedFd, path: &Path) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(fstat(base.as_fd())?.st_mode & 0o777);
    let mut so_far = PathBuf::new();
    for part in path.components() {
        let parent = if so_far.as_os_str().is_empty() { None } else { Some(beneath(base, &so_far)?) };
        so_far.push(part);
        if beneath(base, &so_far).is_ok() {
            continue;
        }
        let name = Path::new(part.as_os_str());
        let parent = parent.as_ref().unwrap_or(base);
        match mkdirat(parent.as_fd(), name, mode) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
        // the process's mask may have taken bits away
        let made = beneath(base, &so_far)?;
        let link = format!("/proc/self/fd/{}", made.as_raw_fd());
        nix::sys::stat::fchmodat(
            nix::fcntl::AT_FDCWD,
            link.as_str(),
            mode,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )?;
    }
    Ok(())
}

/// An empty directory or file to mount on; what a previous container left mounted there goes first.
fn prepare_target(target: &Path, is_directory: bool) -> Result<()> {
    if mountinfo::is_mounted(target) {
        mountinfo::unmount(target)?;
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match (std::fs::metadata(target), is_directory) {
        (Ok(found), true) if found.is_dir() => return Ok(()),
        (Ok(found), false) if found.is_file() => return Ok(()),
        (Ok(found), _) if found.is_dir() => std::fs::remove_dir(target)?,
        (Ok(_), _) => std::fs::remove_file(target)?,
        (Err(_), _) => {}
    }
    if is_directory {
        std::fs::create_dir(target)?;
    } else {
        std::fs::File::create(target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_bound_and_escapes_refused() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        std::fs::create_dir_all(volume.join("in")).unwrap();
        std::fs::write(volume.join("in/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("in/file", volume.join("inner")).unwrap();
        let target = dir.path().join("t");
        assert!(bind(&volume, "../x", &target).is_err());
        assert!(bind(&volume, "/etc", &target).is_err());
        assert!(bind(&volume, "out/passwd", &target).is_err());
        let bound = bind(&volume, "inner", &target).unwrap();
        assert_eq!(std::fs::read_to_string(&bound).unwrap(), "x");
        let bound = bind(&volume, "new/deep", &target).unwrap();
        assert!(bound.is_dir() && volume.join("new/deep").is_dir());
        mountinfo::remove_tree(dir.path()).unwrap();
    }
}
