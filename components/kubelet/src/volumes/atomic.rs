//! Volumes made of files: every change appears at once.
//!
//! Upstream's `AtomicWriter`: files live in a directory named by time, `..data` points to it, and the
//! names containers see point through `..data`. A change is a new directory and one rename.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::jiff::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// Owner, if it is not root.
    pub user: Option<u32>,
}

pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Makes `directory` show exactly these files. True if something changed.
pub fn write(directory: &Path, files: &Files, group: Option<u32>) -> Result<bool> {
    for path in files.keys() {
        check(path)?;
    }
    let old = std::fs::read_link(directory.join(DATA)).ok();
    if let Some(old) = &old
        && same(&directory.join(old), files)
    {
        return Ok(false);
    }
    let context = || format!("cannot write the volume {}", directory.display());
    let fresh = fill(directory, files, group).with_context(context)?;
    switch(directory, &fresh).with_context(context)?;
    link(directory, files).with_context(context)?;
    if let Some(old) = old {
        std::fs::remove_dir_all(directory.join(old)).ok();
    }
    Ok(true)
}

/// Paths must stay inside of the volume and out of the writer's own names.
fn check(path: &str) -> Result<()> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.starts_with("..")
        || path.split('/').any(|part| part == ".." || part.is_empty());
    if bad {
        bail!("{path:?} is not a valid path inside of a volume");
    }
    Ok(())
}

fn same(current: &Path, files: &Files) -> bool {
    let mut known = BTreeSet::new();
    if list(current, current, &mut known).is_err() || known.len() != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let real = current.join(path);
        let mode = std::fs::metadata(&real).map(|m| m.permissions().mode() & 0o777);
        mode.is_ok_and(|mode| mode & file.mode == file.mode & 0o777)
            && std::fs::read(&real).is_ok_and(|b| b == file.bytes)
    })
}

fn list(root: &Path, directory: &Path, found: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(root, &entry.path(), found)?;
        } else {
            found.insert(entry.path().strip_prefix(root).map(Path::to_path_buf).unwrap_or_default());
        }
    }
    Ok(())
}

fn fill(directory: &Path, files: &Files, group: Option<u32>) -> std::io::Result<String> {
    let stamp = Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S").to_string();
    let name = format!("..{stamp}.{}", rand::random::<u32>());
    let root = directory.join(&name);
    make_directory(&root, group)?;
    for (path, file) in files {
        let real = root.join(path);
        let mut missing: Vec<PathBuf> =
            real.ancestors().skip(1).take_while(|p| !p.exists()).map(Path::to_path_buf).collect();
        missing.reverse();
        for parent in missing {
            make_directory(&parent, group)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut open = options.write(true).create_new(true).mode(0o600).open(&real)?;
        std::io::Write::write_all(&mut open, &file.bytes)?;
        if group.is_some() || file.user.is_some() {
            chown(&real, file.user, group)?;
        }
        // the group may read what the owner may, and nothing keeps the creation mask in
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(name)
}

fn make_directory(path: &Path, group: Option<u32>) -> std::io::Result<()> {
    std::fs::create_dir(path)?;
    chown(path, None, group)?;
    let mode = if group.is_some() { 0o2755 } else { 0o755 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn switch(directory: &Path, fresh: &str) -> std::io::Result<()> {
    let temporary = directory.join("..data_tmp");
    std::fs::remove_file(&temporary).ok();
    symlink(fresh, &temporary)?;
    std::fs::rename(&temporary, directory.join(DATA))
}

/// Names at the top of the volume; stale ones go.
fn link(directory: &Path, files: &Files) -> std::io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|p| p.split('/').next()).collect();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("..") && !wanted.contains(text.as_ref()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let visible = directory.join(name);
        if std::fs::symlink_metadata(&visible).is_err() {
            symlink(Path::new(DATA).join(name), &visible)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn files(list: &[(&str, &str, u32)]) -> Files {
        let file = |text: &str, mode| File { bytes: text.as_bytes().to_vec(), mode, user: None };
        list.iter().map(|(path, text, mode)| ((*path).to_string(), file(text, *mode))).collect()
    }

    #[test]
    fn files_appear_change_and_vanish() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(write(root, &files(&[("a", "1", 0o644), ("sub/b", "2", 0o400)]), None).unwrap());
        assert!(!write(root, &files(&[("a", "1", 0o644), ("sub/b", "2", 0o400)]), None).unwrap());
        assert_eq!(std::fs::read_link(root.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(std::fs::read_to_string(root.join("sub/b")).unwrap(), "2");
        let mode = std::fs::metadata(root.join("sub/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        assert!(write(root, &files(&[("a", "3", 0o644)]), None).unwrap());
        assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "3");
        assert!(!root.join("sub").exists());
        // the data directory, its link and one name
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 3);
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../b", "..x", ""] {
            assert!(write(dir.path(), &files(&[(path, "1", 0o644)]), None).is_err(), "{path}");
        }
    }
}
