//! What libcni remembers of each attachment (its `cacheDir`), to hand it to the plugin when the attachment ends.
//!
//! It is not synced: a host that loses its power finds empty files of the pods that it had, and the runtime does not stop a pod whose
//! file cannot be read ("cached result: unexpected end of JSON input"), however often it is told. Where there is no file it goes on.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

pub const DIRECTORY: &str = "/var/lib/cni/results";
/// `<network>-<container>-<interface>`; the second is the runtime's own.
const NETWORKS: [&str; 2] = ["kinstall-", "cni-loopback-"];

/// Removes those of our pods that cannot be read; fine where there is no such directory.
pub fn remove_torn(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = NETWORKS.iter().any(|network| name.starts_with(network));
        if is_ours && serde_json::from_slice::<Value>(&fs::read(&path)?).is_err() {
            fs::remove_file(&path)?;
            tracing::warn!(path = %path.display(), "removed what was left of an attachment by a power cut");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_read_goes_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("kinstall-a-eth0", "{\"kind\":\"cniCacheV1\"}"),
            ("kinstall-b-eth0", ""),
            ("cni-loopback-b-lo", "{\"kind\":"),
            ("podman-c-eth0", ""),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        remove_torn(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["kinstall-a-eth0", "podman-c-eth0"]);
        remove_torn(&dir.path().join("none")).unwrap();
    }
}
