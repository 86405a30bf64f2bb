//! The state directory as files that go elsewhere: into a backup, to the control planes, to another machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::{StateDir, write_private};

/// What belongs to one machine or one run.
const LOCAL: [&str; 4] = ["logs", "lock", "admin.kubeconfig", REPLACED];
/// What a restore found here.
const REPLACED: &str = "before-restore";

impl StateDir {
    /// Every file by its path below the state directory, but logs, lock, and the kubeconfig that `up` writes anew.
    pub fn files(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        collect(&self.path, "", &mut files)?;
        Ok(files)
    }

    /// As [`StateDir::put`]; what is replaced by something else is kept beside it.
    pub fn replace(&self, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
        let mut replaced = self.files()?;
        replaced.retain(|name, bytes| files.get(name).is_some_and(|new| new != bytes));
        let kept = replaced.into_iter().map(|(name, bytes)| (format!("{REPLACED}/{name}"), bytes)).collect();
        self.put(&kept)?;
        self.put(files)
    }

    /// Writes files that [`StateDir::files`] gave; those that are not named stay.
    pub fn put(&self, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
        for (name, bytes) in files {
            let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
            ensure!(name.split('/').all(plain), "the name {name:?} leads out of the state directory");
            let path = self.path.join(name);
            let parent = path.parent().unwrap_or(&self.path);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
            write_private(&path, bytes)?;
        }
        Ok(())
    }
}

fn collect(directory: &Path, inside: &str, files: &mut BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let told = || format!("cannot read the state directory {}", directory.display());
    for entry in fs::read_dir(directory).with_context(told)? {
        let entry = entry.with_context(told)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if (inside.is_empty() && LOCAL.contains(&name.as_str())) || name.contains(".tmp") {
            continue;
        }
        let kind = entry.file_type().with_context(told)?;
        let inside = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        if kind.is_dir() {
            collect(&entry.path(), &inside, files)?;
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            files.insert(inside, bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everything_but_what_is_of_one_machine_goes_along() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "c");
        state.create().unwrap();
        state.identity().unwrap();
        state.write_bytes("pki/ca.key", b"key").unwrap();
        state.write_bytes("admin.kubeconfig", b"x").unwrap();
        state.write_bytes("logs/1.log", b"x").unwrap();
        fs::write(state.path().join("lock"), "").unwrap();
        fs::write(state.path().join("cluster.tmp77"), "half").unwrap();
        let files = state.files().unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["cluster.json", "pki/ca.key"]);

        let other = StateDir::at(&directory.path().join("elsewhere"), "c");
        other.put(&files).unwrap();
        assert_eq!(other.identity().unwrap(), state.identity().unwrap());
        assert_eq!(other.files().unwrap(), files);
        let newer = [("pki/ca.key".to_owned(), b"newer".to_vec())].into();
        other.replace(&newer).unwrap();
        assert_eq!(fs::read(other.path().join("pki/ca.key")).unwrap(), b"newer");
        assert_eq!(fs::read(other.path().join("before-restore/pki/ca.key")).unwrap(), b"key");
        assert_eq!(other.files().unwrap().len(), 2, "what was replaced does not travel");
        assert!(other.put(&[("../x".to_owned(), Vec::new())].into()).is_err());
    }
}
