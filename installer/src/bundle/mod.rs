//! The bundle: everything that goes to hosts, in one file ([`hoststate::bundle`] describes it).
//!
//! [`create`] writes one; [`Bundle::open`] verifies every byte and keeps the blobs in a cache, so that later runs start at once.

pub mod create;
mod read;
mod signature;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hoststate::bundle::{BundleFile, BundleManifest};

pub use read::{manifest, verify};
pub use signature::Signer;

/// An opened bundle: its table of contents and verified blobs on disk.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub path: PathBuf,
    pub manifest: BundleManifest,
    blobs: PathBuf,
}

pub const COMPONENTS: &str = "bin/kinstall-components";
pub const PAUSE: &str = "bin/pause";
/// Only clusters with several control planes need it.
pub const ETCD: &str = "bin/etcd";

impl Bundle {
    pub fn blob(&self, sha256: &str) -> PathBuf {
        self.blobs.join(sha256)
    }

    /// Of a blob; `None` where it is not in here.
    pub fn size(&self, sha256: &str) -> Option<u64> {
        read::blobs(&self.manifest).find(|(digest, _)| *digest == sha256).map(|(_, size)| size)
    }

    /// What a blob is, for people: a file's path, an image's name.
    pub fn name(&self, sha256: &str) -> &str {
        let file = self.manifest.files.iter().find(|file| file.sha256 == sha256).map(|file| &file.path);
        let image = || self.manifest.images.iter().find(|image| image.sha256 == sha256).map(|image| &image.name);
        file.or_else(image).map_or("a part of the bundle", String::as_str)
    }

    /// The file that is uploaded first and does the work on the host.
    pub fn components(&self) -> anyhow::Result<&BundleFile> {
        self.file(COMPONENTS)
    }

    /// For clusters with several control planes.
    pub fn etcd(&self) -> anyhow::Result<&BundleFile> {
        self.file(ETCD).context("several control planes need etcd: the runtime directory must have bin/etcd")
    }

    fn file(&self, path: &str) -> anyhow::Result<&BundleFile> {
        let found = self.manifest.files.iter().find(|file| file.path == path);
        found.with_context(|| {
            format!("the bundle {} has no {path}; create it again with `kinstall bundle create`", self.path.display())
        })
    }
}

/// The host's architecture as bundles name it.
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The bundle file to use: the one that was named, or the newest one next to the executable.
pub fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        if !path.is_file() {
            bail!("there is no bundle {}; make one with `kinstall bundle create` or name another", path.display());
        }
        return Ok(path.to_path_buf());
    }
    let executable = std::env::current_exe().context("cannot tell where the kinstall executable is")?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("kinstall-bundle-") && name.contains("-linux-") && name.ends_with(".tar.zst")
        })
        .map(|entry| (entry.metadata().and_then(|m| m.modified()).ok(), entry.path()))
        .collect();
    found.sort();
    match found.pop() {
        Some((_, path)) => Ok(path),
        None => bail!(
            "no bundle is named and no kinstall-bundle-*-linux-*.tar.zst lies next to the executable in {}; name one with --bundle or in the \
             inventory, or make one with `kinstall bundle create`",
            directory.display()
        ),
    }
}
