//! The last state of this host that was applied for good: what a rollback goes back to. It holds keys, so it is root's only.

use std::io;

use hoststate::HostState;

use crate::{Root, STATE_DIR, files};

fn path(root: &Root) -> std::path::PathBuf {
    root.path(STATE_DIR).join("state.json")
}

/// `None` before the first apply has gone to its end.
pub fn load(root: &Root) -> io::Result<Option<HostState>> {
    files::read_json(&path(root))
}

pub fn save(root: &Root, state: &HostState) -> io::Result<()> {
    files::write_atomic(&path(root), 0o600, serde_json::to_vec(state)?.as_slice())
}
