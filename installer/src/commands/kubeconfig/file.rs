//! The file that a kubeconfig is merged into: which one, alone, all of it or the old one.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::state::write_private;

/// The given file, else the first that `KUBECONFIG` names, else kubectl's own below the home directory.
pub fn chosen(given: Option<&Path>, variable: Option<&OsStr>, home: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let named = variable.into_iter().flat_map(std::env::split_paths).find(|path| !path.as_os_str().is_empty());
    match given.map(Path::to_path_buf).or(named).or_else(|| home.map(|home| home.join(".kube/config"))) {
        Some(path) => Ok(path),
        None => bail!("there is no home directory to find .kube/config in; name the file: --merge=FILE"),
    }
}

/// Changes the file's text by `change`, through links, with mode 0600. kubectl changes it under the same lock.
pub fn change<T>(path: &Path, change: impl FnOnce(&str) -> anyhow::Result<(String, T)>) -> anyhow::Result<T> {
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => path.to_path_buf(),
        Err(error) => return Err(error).with_context(|| format!("cannot find {}", path.display())),
    };
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let _lock = Lock::take(&path)?;
    let before = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let (text, result) =
        change(&before).with_context(|| format!("cannot merge into {}, which stays as it is", path.display()))?;
    write_private(&path, text.as_bytes())?;
    Ok(result)
}

/// A file `….lock` that is there as long as somebody changes the other one.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> anyhow::Result<Self> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        match OpenOptions::new().write(true).create_new(true).open(&lock) {
            Ok(_) => Ok(Self(lock)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
                "another program changes {} at this moment; when none does, remove {}",
                path.display(),
                lock.display()
            ),
            Err(error) => Err(error).with_context(|| format!("cannot create {}", lock.display())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_the_given_one_or_the_first_of_the_variable_or_the_usual() {
        let home = || Some(PathBuf::from("/home/me"));
        let chosen = |given: Option<&str>, variable: Option<&str>| {
            super::chosen(given.map(Path::new), variable.map(OsStr::new), home()).unwrap().display().to_string()
        };
        assert_eq!(chosen(Some("mine"), Some("/a:/b")), "mine");
        assert_eq!(chosen(None, Some(":/a:/b")), "/a");
        assert_eq!(chosen(None, Some("")), "/home/me/.kube/config");
        assert_eq!(chosen(None, None), "/home/me/.kube/config");
        assert!(super::chosen(None, None, None).unwrap_err().to_string().contains("--merge=FILE"));
    }

    #[test]
    fn the_file_is_changed_as_a_whole_and_in_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".kube/config");
        change(&path, |before| Ok((format!("{before}one\n"), ()))).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        change(&link, |before| Ok((format!("{before}two\n"), ()))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert!(link.is_symlink() && mode(&path) == 0o600);

        assert!(change(&path, |_| -> anyhow::Result<(String, ())> { bail!("no good") }).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let lock = directory.path().join(".kube/config.lock");
        assert!(!lock.exists(), "a merge that failed leaves no lock");
        fs::write(&lock, "").unwrap();
        let error = change(&path, |_| Ok((String::new(), ()))).unwrap_err().to_string();
        assert!(error.contains("config.lock") && fs::read_to_string(&path).unwrap() == "one\ntwo\n", "{error}");
        assert!(lock.exists(), "the lock of another stays");
    }
}
