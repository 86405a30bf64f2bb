//! What the cache holds for recipes of the past goes. Several clones share the cache, so an entry has to be unused for a while
//! too: each use of an entry sets its time.

use crate::recipe::{self, Recipe};
use crate::release::Release;
use crate::{base, images, paths, tools};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folders of the cache whose entries are named by a recipe's hash.
const FOLDERS: [&str; 6] = ["host", "images", "kubectl", "registry", "roots", "runtime"];
const UNUSED: Duration = Duration::from_secs(24 * 3600);

/// Removes what no recipe of this clone names and nobody has used for a day; tells what.
pub fn prune() -> Result<()> {
    for gone in prune_in(&paths::cache_dir(), &named()?, UNUSED)? {
        eprintln!("lab: pruned {}", gone.display());
    }
    Ok(())
}

/// Every entry that this clone's recipes name.
fn named() -> Result<BTreeSet<PathBuf>> {
    let mut named = BTreeSet::new();
    for host in Release::ALL.map(base::recipe) {
        named.insert(base::image_path(&host, &base::kernel_release()?)?);
        named.insert(host.packages_path()?);
    }
    for name in images::IMAGES {
        let recipe: Recipe = images::recipe_of(name);
        let archive = images::archive_of(name, &recipe)?;
        named.extend(archive.parent().map(Path::to_owned));
        named.insert(recipe.packages_path()?);
    }
    named.insert(tools::runtime_path()?);
    named.insert(tools::kubectl_path()?);
    named.insert(tools::registry_path()?);
    Ok(named)
}

fn prune_in(cache: &Path, named: &BTreeSet<PathBuf>, unused: Duration) -> Result<Vec<PathBuf>> {
    let mut gone = Vec::new();
    for folder in FOLDERS {
        let folder = cache.join(folder);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if !named.contains(&owner(&path)) && idle(&path)? > unused {
                recipe::remove(&path)?;
                gone.push(path);
            }
        }
    }
    gone.sort();
    Ok(gone)
}

/// The entry that a file is, or that it lies beside: its lock, or the half of a killed build.
fn owner(path: &Path) -> PathBuf {
    const BESIDE: [&str; 4] = [".root", ".unpacked", ".partial", ".lock"];
    let mut name = path.to_string_lossy().into_owned();
    for suffix in BESIDE {
        if let Some(rest) = name.strip_suffix(suffix) {
            name = rest.to_owned();
        }
    }
    PathBuf::from(name)
}

/// How long nobody has used the entry or anything directly in it.
fn idle(path: &Path) -> Result<Duration> {
    let age = |path: &Path| -> Result<Duration> {
        let time = fs::symlink_metadata(path)?.modified()?;
        Ok(SystemTime::now().duration_since(time).unwrap_or_default())
    };
    let mut least = age(path).with_context(|| format!("cannot see how old {} is", path.display()))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            least = least.min(age(&entry?.path())?);
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn only_what_is_neither_named_nor_used_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path();
        let old = SystemTime::now() - 2 * UNUSED;
        for path in ["host/named.ext4", "host/named.ext4.lock", "host/old.ext4", "host/old.ext4.lock", "host/new.ext4"]
        {
            let path = cache.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(&path).unwrap().set_modified(old).unwrap();
        }
        fs::File::open(cache.join("host/new.ext4")).unwrap().set_modified(SystemTime::now()).unwrap();
        for (folder, time) in [("images/used", SystemTime::now()), ("images/unused", old)] {
            fs::create_dir_all(cache.join(folder)).unwrap();
            fs::File::create(cache.join(folder).join("a.tar")).unwrap().set_modified(time).unwrap();
            fs::File::open(cache.join(folder)).unwrap().set_modified(old).unwrap();
        }
        let named = BTreeSet::from([cache.join("host/named.ext4")]);
        let gone = prune_in(cache, &named, UNUSED).unwrap();
        let names: Vec<_> = gone.iter().map(|path| path.strip_prefix(cache).unwrap().display().to_string()).collect();
        assert_eq!(names, ["host/old.ext4", "host/old.ext4.lock", "images/unused"]);
        assert!(cache.join("images/used/a.tar").exists() && !cache.join("images/unused").exists());
    }

    #[test]
    fn every_recipe_names_its_entries() {
        let named = named().unwrap();
        let of = |folder: &str| named.iter().filter(|path| path.parent().unwrap().ends_with(folder)).count();
        assert_eq!(FOLDERS.map(of), [2, 3, 1, 1, 5, 1], "{named:?}");
    }
}
