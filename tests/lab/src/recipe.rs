//! A recipe is a folder: `packages` (one Debian package a line), `customize.sh` (run with the root as `$1`), `rootfs/` (files
//! copied over the root) and, where it is not `minbase`, `variant` (mmdebstrap's word: `extract` only unpacks). A root is built
//! in two cached steps, because the first takes a minute and the second a second: packages → compressed tar by mmdebstrap, then
//! tar + rootfs + customize.sh → folder.

use crate::release::Release;
use crate::{command, paths};
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// What a root is made of where its recipe does not say.
const VARIANT: &str = "minbase";
/// Roots are kept for the next change of a recipe; at this level they take a third of the room and no time.
const LEVEL: i32 = 3;

/// Raise to rebuild everything after a change of the way roots are built.
const FORMAT: &str = "2";

pub struct Recipe {
    name: String,
    dir: PathBuf,
    release: Release,
}

impl Recipe {
    /// `path` is relative to this crate's folder, for example `images/mariadb`.
    pub fn open(path: &str, release: Release) -> Self {
        let dir = paths::recipes_dir().join(path);
        let name = dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Recipe { name, dir, release }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Changes whenever any file of the recipe (content, mode, name), its release or `extra` does.
    pub fn hash(&self, extra: &str) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(FORMAT);
        if self.release != Release::default() {
            hash.update(self.release.suite());
        }
        hash.update(extra);
        for path in files(&self.dir)? {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::symlink_metadata(&path)?.permissions().mode();
            let content = fs::read(&path).with_context(|| format!("cannot read recipe file {}", path.display()))?;
            hash.update(format!("{}\0{mode:o}\0{}\0", path.strip_prefix(&self.dir)?.display(), content.len()));
            hash.update(content);
        }
        Ok(short(hash))
    }

    /// Builds the root into `target`, which must not exist.
    pub fn build(&self, target: &Path) -> Result<()> {
        let packages = self.packages_tar()?;
        fs::create_dir_all(target)?;
        command::run(
            Command::new("tar")
                .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "--zstd", "-xf"])
                .arg(&packages)
                .arg("-C")
                .arg(target),
        )?;
        let rootfs = self.file("rootfs");
        if rootfs.exists() {
            command::run(Command::new("cp").args(["-a", "--no-preserve=ownership"]).arg(rootfs.join(".")).arg(target))?;
        }
        command::run(Command::new("bash").arg(self.file("customize.sh")).arg(target))
            .with_context(|| format!("cannot customize the root of {}", self.name))?;
        Ok(())
    }

    /// The cached tar with the packages installed.
    fn packages_tar(&self) -> Result<PathBuf> {
        let tar = self.packages_path()?;
        let (list, variant) = (self.packages()?, self.variant()?);
        let debs = paths::cache_dir().join("debs").join(self.release.suite());
        cached(&tar, |partial| mmdebstrap(self.release, &variant, &list, &debs, partial))?;
        Ok(tar)
    }

    /// Where that tar is, or would be.
    pub fn packages_path(&self) -> Result<PathBuf> {
        let (list, variant) = (self.packages()?, self.variant()?);
        let mut hash = Sha256::new();
        hash.update(format!("{FORMAT}{}{list:?}", self.release));
        if variant != VARIANT {
            hash.update(&variant);
        }
        Ok(paths::cache_dir().join("roots").join(format!("{}-{}.tar.zst", self.name, short(hash))))
    }

    fn packages(&self) -> Result<Vec<String>> {
        let list = fs::read_to_string(self.file("packages"))
            .with_context(|| format!("recipe {} has no list of packages", self.name))?;
        let named = |line: &&str| !line.is_empty() && !line.starts_with('#');
        Ok(list.lines().map(str::trim).filter(named).map(str::to_owned).collect())
    }

    fn variant(&self) -> Result<String> {
        match fs::read_to_string(self.file("variant")) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(VARIANT.to_owned()),
            Err(error) => Err(error).with_context(|| format!("cannot read the variant of recipe {}", self.name)),
        }
    }
}

/// An entry's time is that of its last use: what is not used for long is pruned.
fn used(path: &Path) -> Result<()> {
    let touch = || fs::File::open(path)?.set_modified(SystemTime::now());
    touch().with_context(|| format!("cannot mark {} as used", path.display()))
}

/// Makes `path` with `make` unless it is there; `make` writes to a name beside it, so that a killed build leaves no half file.
pub fn cached(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return used(path);
    }
    let parent = path.parent().context("a cache entry needs a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make the cache folder {}", parent.display()))?;
    // two builds of one entry wait for each other; the second then finds it
    let lock = fs::File::create(paths::beside(path, ".lock"))?;
    lock.lock()?;
    if path.exists() {
        return Ok(());
    }
    let partial = paths::beside(path, ".partial");
    remove(&partial)?;
    let started = std::time::Instant::now();
    eprintln!("lab: building {} (once)", path.display());
    make(&partial).with_context(|| format!("cannot build {}", path.display()))?;
    fs::rename(&partial, path)?;
    eprintln!("lab: built {} in {:.1} s", path.display(), started.elapsed().as_secs_f32());
    Ok(())
}

pub fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

pub fn short(hash: Sha256) -> String {
    hex::encode(hash.finalize())[..16].to_owned()
}

fn mmdebstrap(release: Release, variant: &str, packages: &[String], debs: &Path, tar: &Path) -> Result<()> {
    fs::create_dir_all(debs)?;
    let archives = "var/cache/apt/archives";
    let mut command = Command::new("mmdebstrap");
    command
        // SOURCE_DATE_EPOCH makes mmdebstrap clamp times: the same packages give the same bytes
        .env("SOURCE_DATE_EPOCH", "0")
        .args(["--quiet", "--mode=root", &format!("--variant={variant}"), "--format=tar"])
        .arg(format!("--include={}", packages.join(",")))
        .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"])
        .args(["man", "locale", "doc"].map(|dir| format!("--dpkgopt=path-exclude=/usr/share/{dir}/*")))
        .arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    if variant == VARIANT {
        // packages once downloaded serve every recipe of their release; where nothing is installed no hook runs
        command
            .arg("--skip=essential/unlink")
            .arg(format!(
                "--setup-hook=mkdir -p \"$1/{archives}\"; cp {}/*.deb \"$1/{archives}\" 2>/dev/null || true",
                debs.display()
            ))
            .arg(format!(
                "--customize-hook=cp -n \"$1/{archives}/\"*.deb {} && rm -f \"$1/{archives}/\"*.deb",
                debs.display()
            ));
    }
    command.args([release.suite(), "-"]);
    // the machine's own mirror where it runs the same release; else mmdebstrap's default
    let own = "/etc/apt/sources.list.d/debian.sources";
    if fs::read_to_string(own).is_ok_and(|text| text.contains(release.suite())) {
        command.arg(own);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start mmdebstrap")?;
    let root = child.stdout.take().context("mmdebstrap has no output")?;
    zstd::stream::copy_encode(root, fs::File::create(tar)?, LEVEL)?;
    if !child.wait()?.success() {
        anyhow::bail!("mmdebstrap cannot make a root of {}", packages.join(", "));
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read recipe folder {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { todo.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn hash_follows_content_release_and_extra() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe { name: "x".into(), dir: dir.path().to_owned(), release: Release::Bookworm };
        fs::create_dir(dir.path().join("rootfs")).unwrap();
        fs::write(dir.path().join("rootfs/a"), "1").unwrap();
        let first = recipe.hash("").unwrap();
        assert_eq!(first, recipe.hash("").unwrap());
        assert_ne!(first, recipe.hash("6.18").unwrap());
        let newer = Recipe { name: "x".into(), dir: dir.path().to_owned(), release: Release::Trixie };
        assert_ne!(first, newer.hash("").unwrap());
        fs::write(dir.path().join("rootfs/a"), "2").unwrap();
        assert_ne!(first, recipe.hash("").unwrap());
    }

    #[test]
    fn a_failed_build_leaves_no_entry_and_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entry");
        assert!(
            cached(&path, |partial| {
                fs::write(partial, "half")?;
                anyhow::bail!("no")
            })
            .is_err()
        );
        assert!(!path.exists());
        cached(&path, |partial| Ok(fs::write(partial, "whole")?)).unwrap();
        cached(&path, |_| anyhow::bail!("built twice")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
    }
}
