//! Writes a bundle.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hoststate::bundle::{BundleFile, BundleImage, BundleManifest};
use sha2::Digest as _;

use super::{COMPONENTS, PAUSE};

pub struct Input {
    pub components: PathBuf,
    pub pause: PathBuf,
    pub runtime_dir: PathBuf,
    /// Full reference and archive file.
    pub images: Vec<(String, PathBuf)>,
    pub arch: String,
    pub version: String,
    /// Kubernetes' version that the components have.
    pub kubernetes: String,
}

/// One blob's source.
struct Source {
    path: PathBuf,
    sha256: String,
    size: u64,
}

/// Writes the bundle beside its final place and renames it, so that nobody sees half a bundle. Gives its manifest.
pub fn create(input: &Input, output: &Path) -> anyhow::Result<BundleManifest> {
    let mut sources = Vec::new();
    let mut files = Vec::new();
    for (path, source) in members(input)? {
        let mode = if path.starts_with("bin/") { 0o755 } else { 0o644 };
        let source = digest(&source)?;
        files.push(BundleFile { path, mode, sha256: source.sha256.clone(), size: source.size });
        sources.push(source);
    }
    let mut images = Vec::new();
    for (name, path) in &input.images {
        let source = digest(path)?;
        images.push(BundleImage { name: name.clone(), sha256: source.sha256.clone(), size: source.size });
        sources.push(source);
    }
    let manifest = BundleManifest {
        format: 1,
        version: input.version.clone(),
        kubernetes: Some(input.kubernetes.clone()),
        arch: input.arch.clone(),
        files,
        images,
    };

    let temporary = output.with_extension(format!("tmp{}", std::process::id()));
    let written = write(&manifest, &sources, &temporary);
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, output).map_err(Into::into)) {
        let _ = fs::remove_file(&temporary);
        return Err(error.context(format!("cannot write the bundle {}", output.display())));
    }
    Ok(manifest)
}

/// Bundle path and source file of every file, sorted.
fn members(input: &Input) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut members = vec![(COMPONENTS.to_owned(), input.components.clone()), (PAUSE.to_owned(), input.pause.clone())];
    for part in ["bin", "lib"] {
        let directory = input.runtime_dir.join(part);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && part == "lib" => continue,
            Err(error) => bail!("cannot list the runtime's files in {}: {error}", directory.display()),
        };
        for entry in entries {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                members.push((format!("{part}/{}", name.to_string_lossy()), path.clone()));
            }
        }
    }
    for needed in ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr", "bin/runc"] {
        if !members.iter().any(|(path, _)| path == needed) {
            bail!("the runtime directory {} has no {needed}", input.runtime_dir.display());
        }
    }
    members.sort();
    Ok(members)
}

fn digest(path: &Path) -> anyhow::Result<Source> {
    let read = || -> io::Result<Source> {
        let mut file = File::open(path)?;
        let mut hash = sha2::Sha256::new();
        let size = io::copy(&mut file, &mut hash)?;
        Ok(Source { path: path.to_path_buf(), sha256: hex::encode(hash.finalize()), size })
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn write(manifest: &BundleManifest, sources: &[Source], path: &Path) -> anyhow::Result<()> {
    let file = File::create(path)?;
    let mut encoder = zstd::Encoder::new(file, 1)?;
    encoder.include_checksum(true)?;
    let mut archive = tar::Builder::new(encoder);
    append(&mut archive, "manifest.json", &serde_json::to_vec_pretty(manifest)?)?;
    let mut written = HashSet::new();
    for source in sources.iter().filter(|source| written.insert(&source.sha256)) {
        let mut file = File::open(&source.path).with_context(|| format!("cannot read {}", source.path.display()))?;
        archive.append_data(
            &mut header(source.size),
            format!("blobs/{}", source.sha256),
            &mut (&mut file).take(source.size),
        )?;
    }
    let file = archive.into_inner()?.finish()?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()?;
    Ok(())
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, data: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(data.len() as u64), name, data)
}

/// No times and no owners: the same input gives the same bundle.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}
