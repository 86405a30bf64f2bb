//! The last state of this host that was applied for good: what a rollback goes back to. It holds keys, so it is root's only.

use std::io;

use hoststate::HostState;

use crate::{Root, STATE_DIR, files};

fn path(root: &Root) -> std::path::PathBuf {
    root.path(STATE_DIR).join("state.json")
}

/// `None` before the first apply has gone to its end.
pub fn load(root: &Root) -> io::Result<Option<HostState>> {
    match std::fs::read(path(root)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path(root).display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn save(root: &Root, state: &HostState) -> io::Result<()> {
    files::write_atomic(&path(root), 0o600, serde_json::to_vec(state)?.as_slice())
}
