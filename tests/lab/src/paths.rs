//! Where the lab keeps what it builds once (cache) and what belongs to the running hosts (state).

use std::path::{Path, PathBuf};

/// `$KINSTALL_CACHE` or `/var/cache/kinstall`: roots, images, downloads; every entry's name holds its recipe's hash.
pub fn cache_dir() -> PathBuf {
    from_env("KINSTALL_CACHE", "/var/cache/kinstall")
}

/// `$KINSTALL_LAB` or `/var/tmp/kinstall-lab`: disks, keys and logs of the running hosts; gone after `down`.
pub fn state_dir() -> PathBuf {
    from_env("KINSTALL_LAB", "/var/tmp/kinstall-lab")
}

/// The folder of this crate: recipes are read from the clone.
pub fn recipes_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The same path with `suffix` at the end of the name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn from_env(name: &str, default: &str) -> PathBuf {
    std::env::var_os(name).filter(|value| !value.is_empty()).map_or_else(|| PathBuf::from(default), PathBuf::from)
}
