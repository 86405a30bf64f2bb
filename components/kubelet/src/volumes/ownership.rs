//! fsGroup: the volume's files belong to the group, and what is made in it later too.
//!
//! Upstream: `pkg/volume/volume_linux.go`, `SetVolumeOwnership`.

use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use anyhow::{Context, Result};

const FILE: u32 = 0o660;
const DIRECTORY: u32 = 0o2770;

/// `on_mismatch` skips the walk when the top already is as it should be.
pub fn apply(root: &Path, group: u32, on_mismatch: bool) -> Result<()> {
    let top = std::fs::metadata(root).with_context(|| format!("cannot read {}", root.display()))?;
    if on_mismatch && top.gid() == group && top.mode() & DIRECTORY == DIRECTORY {
        return Ok(());
    }
    walk(root, group).with_context(|| format!("cannot give {} to group {group}", root.display()))
}

fn walk(path: &Path, group: u32) -> std::io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            walk(&entry?.path(), group)?;
        }
    }
    lchown(path, None, Some(group))?;
    if metadata.file_type().is_symlink() {
        return Ok(());
    }
    let add = if metadata.is_dir() { DIRECTORY } else { FILE };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode((metadata.mode() & 0o7777) | add))
}
