//! Programs taken out of Debian's packages without installing them: the container runtime and etcd for the bundle, and a kubectl.

use crate::command::{self, sh};
use crate::paths;
use crate::recipe;
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const RUNTIME: [&str; 3] = ["containerd", "runc", "etcd-server"];
const KUBECTL: [&str; 1] = ["kubernetes-client"];
const REGISTRY: [&str; 1] = ["docker-registry"];

/// Where the runtime's folder is, or would be.
pub(crate) fn runtime_path() -> Result<PathBuf> {
    Ok(paths::cache_dir().join("runtime").join(versions(&RUNTIME)?))
}

/// Where kubectl's folder is, or would be.
pub(crate) fn kubectl_path() -> Result<PathBuf> {
    Ok(paths::cache_dir().join("kubectl").join(versions(&KUBECTL)?))
}

/// A folder with `bin/{containerd,containerd-shim-runc-v2,ctr,runc,etcd}`. Besides libc they need libseccomp (runc), which every
/// Debian has: apt and systemd depend on it.
pub fn runtime() -> Result<PathBuf> {
    let packages = RUNTIME;
    let target = runtime_path()?;
    recipe::cached(&target, |partial| {
        let unpacked = paths::beside(partial, ".unpacked");
        unpack(&packages, &unpacked)?;
        fs::create_dir_all(partial.join("bin"))?;
        for program in ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr", "sbin/runc", "bin/etcd"] {
            let name = Path::new(program).file_name().unwrap_or_default();
            fs::copy(unpacked.join("usr").join(program), partial.join("bin").join(name))
                .with_context(|| format!("Debian's package has no usr/{program}"))?;
        }
        recipe::remove(&unpacked)
    })?;
    Ok(target)
}

/// Where the registry's folder is, or would be.
pub(crate) fn registry_path() -> Result<PathBuf> {
    Ok(paths::cache_dir().join("registry").join(versions(&REGISTRY)?))
}

/// The path of a kubectl executable.
pub fn kubectl() -> Result<PathBuf> {
    one(&KUBECTL, kubectl_path()?, "kubectl")
}

/// The path of an image registry's executable.
pub fn registry() -> Result<PathBuf> {
    one(&REGISTRY, registry_path()?, "docker-registry")
}

/// A single program out of packages.
fn one(packages: &[&str], target: PathBuf, program: &str) -> Result<PathBuf> {
    recipe::cached(&target, |partial| {
        let unpacked = paths::beside(partial, ".unpacked");
        unpack(packages, &unpacked)?;
        fs::create_dir_all(partial)?;
        fs::copy(unpacked.join("usr/bin").join(program), partial.join(program))
            .with_context(|| format!("Debian's {} has no {program}", packages.join(" and ")))?;
        recipe::remove(&unpacked)
    })?;
    Ok(target.join(program))
}

/// A name for exactly these versions of the packages.
fn versions(packages: &[&str]) -> Result<String> {
    let mut hash = Sha256::new();
    for package in packages {
        let text = sh(&["apt-cache", "show", "--no-all-versions", package])
            .context("apt knows no such package; run `apt-get update`")?;
        let sum = text
            .lines()
            .find(|line| line.starts_with("SHA256:"))
            .with_context(|| format!("apt knows no download of {package}; run `apt-get update`"))?;
        hash.update(sum);
    }
    Ok(recipe::short(hash))
}

fn unpack(packages: &[&str], target: &Path) -> Result<()> {
    recipe::remove(target)?;
    let downloads = target.join("downloads");
    fs::create_dir_all(&downloads)?;
    command::run(
        Command::new("apt-get")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .args(packages)
            .current_dir(&downloads),
    )?;
    for entry in fs::read_dir(&downloads)? {
        command::run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(target))?;
    }
    Ok(())
}
