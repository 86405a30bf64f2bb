//! The host's own record of what converge made.

use std::io;

use hoststate::HostManifest;

use crate::{Root, STATE_DIR, files};

pub fn path(root: &Root) -> std::path::PathBuf {
    root.path(STATE_DIR).join("manifest.json")
}

/// `None` when kinstall was never here. A manifest that cannot be read is an error: `down` would otherwise leave everything.
pub fn load(root: &Root) -> io::Result<Option<HostManifest>> {
    files::read_json(&path(root))
}

pub fn save(root: &Root, manifest: &HostManifest) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(manifest)?;
    std::fs::create_dir_all(root.path(STATE_DIR))?;
    files::write_atomic(&path(root), 0o600, text.as_slice())
}
