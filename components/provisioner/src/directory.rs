//! Makes and removes volume directories, and never touches anything outside of the base directory.
//!
//! A volume's directory is always a direct child of the base directory, with a name made of checked characters. Only root can write to
//! the base directory; what pods put *into* a volume (symbolic links among it) is removed by `std::fs::remove_dir_all`, which walks by
//! file descriptors and does not follow links.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// File names have at most 255 bytes: 63 of namespace, 36 of uid, and so much of the claim's.
const CLAIM_BYTES: usize = 150;

#[derive(Debug, Clone)]
pub struct BaseDirectory(PathBuf);

impl BaseDirectory {
    /// Makes the directory if it is missing and closes it to all but root.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.is_absolute() {
            bail!("base directory {} must be an absolute path", path.display());
        }
        let told = || format!("cannot prepare base directory {}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(told)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(told)?;
        Ok(Self(path.to_owned()))
    }

    /// The directory of a claim's volume; the uid makes it unique, the rest is for people.
    pub fn path_for(&self, namespace: &str, claim: &str, uid: &str) -> anyhow::Result<PathBuf> {
        let mut claim = claim;
        if claim.len() > CLAIM_BYTES {
            claim = claim.get(..CLAIM_BYTES).unwrap_or_default();
        }
        let name = format!("{namespace}_{claim}_{uid}");
        check_name(&name)?;
        Ok(self.0.join(name))
    }

    /// Makes the directory; one that exists already is kept as it is, since an earlier attempt may have made it.
    pub fn create(&self, path: &Path) -> anyhow::Result<()> {
        self.check(path)?;
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_directory(path) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
        }
        // By its own call: the umask must not take bits away.
        fs::set_permissions(path, Permissions::from_mode(0o777))
            .with_context(|| format!("cannot open {} to all", path.display()))?;
        File::open(&self.0)?.sync_all().with_context(|| format!("cannot sync {}", self.0.display()))
    }

    /// Removes the directory with everything in it; a missing one is fine.
    pub fn remove(&self, path: &Path) -> anyhow::Result<()> {
        self.check(path)?;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// A direct child of the base directory, by its text alone: `..` or another depth is refused.
    fn check(&self, path: &Path) -> anyhow::Result<()> {
        let text = path.to_str().with_context(|| format!("{} is not a volume's path", path.display()))?;
        let base = self.0.to_str().context("the base directory's path is not UTF-8")?;
        let name = text.strip_prefix(base).and_then(|rest| rest.trim_end_matches('/').strip_prefix('/'));
        match name {
            Some(name) => check_name(name).with_context(|| format!("{text} is not a volume under {base}")),
            None => bail!("{text} is not a volume under {base}"),
        }
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !starts_well || !name.chars().all(allowed) || name.len() > 255 || name.matches('_').count() != 2 {
        bail!("{name:?} cannot name a volume's directory");
    }
    Ok(())
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    fn setup() -> (tempfile::TempDir, BaseDirectory) {
        let temp = tempfile::tempdir().unwrap();
        let base = BaseDirectory::open(&temp.path().join("volumes")).unwrap();
        (temp, base)
    }

    #[test]
    fn made_for_everyone_and_removed_without_a_trace() {
        let (temp, base) = setup();
        let path = base.path_for("default", "data", "1234-abcd").unwrap();
        base.create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o777);
        assert_eq!(fs::metadata(temp.path().join("volumes")).unwrap().permissions().mode() & 0o7777, 0o700);
        fs::write(path.join("file"), "kept").unwrap();
        base.create(&path).unwrap();
        assert!(path.join("file").exists(), "a second attempt keeps what is there");
        base.remove(&path).unwrap();
        assert!(!path.exists());
        base.remove(&path).unwrap();
    }

    #[test]
    fn links_are_never_followed() {
        let (temp, base) = setup();
        let outside = temp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "").unwrap();
        let path = base.path_for("default", "data", "1").unwrap();
        base.create(&path).unwrap();
        symlink(&outside, path.join("trap")).unwrap();
        base.remove(&path).unwrap();
        symlink(&outside, &path).unwrap();
        assert!(base.create(&path).is_err(), "a link is not a volume");
        // Whether the link goes or an error is told: what it points to stays.
        let _ = base.remove(&path);
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn nothing_outside_is_touched() {
        let (temp, base) = setup();
        let volumes = temp.path().join("volumes");
        let texts = [
            "",
            "/",
            "/..",
            "/../outside",
            "/a_b_c/../../x",
            "/a_b_c/d",
            "/a_b_.._c/",
            "2/a_b_c",
            "/.hidden_b_c",
            "//a_b_c",
            "/A_b_c",
        ];
        for text in texts {
            let path = PathBuf::from(format!("{}{text}", volumes.display()));
            assert!(base.remove(&path).is_err(), "{}", path.display());
        }
        assert!(base.remove(Path::new("/etc")).is_err());
        assert!(base.path_for("..", "x", "y").is_err());
        assert!(base.path_for("a/b", "x", "y").is_err());
        assert!(BaseDirectory::open(Path::new("relative")).is_err());
    }

    #[test]
    fn the_longest_names_fit() {
        let (_temp, base) = setup();
        let path = base.path_for(&"n".repeat(63), &"c".repeat(253), &"0".repeat(36)).unwrap();
        base.create(&path).unwrap();
    }
}
