//! Images in the runtime's store, imported from archives or made here from an executable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use hoststate::wire::{Failure, Undo};
use hoststate::{Action, ImageSource, sha256_hex};
use serde::{Deserialize, Serialize};

use super::running::Running;
use super::{Context, Observation};
use crate::{Root, STATE_DIR, files, runtime};

/// Which source each imported image came from. The runtime knows only the image's own digest, and an archive is not kept.
#[derive(Default, Serialize, Deserialize)]
struct Imported {
    images: BTreeMap<String, String>,
    /// Imports that were begun, by the images' names. The runtime writes down that it has a layer before the layer's files are on
    /// the disk, so a host that loses its power meanwhile has images with empty files.
    #[serde(default)]
    unfinished: BTreeSet<String>,
}

fn record_path(root: &Root) -> std::path::PathBuf {
    root.path(STATE_DIR).join("images.json")
}

fn imported(root: &Root) -> Imported {
    fs::read(record_path(root)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The names of those that were imported here.
pub fn recorded(root: &Root) -> Vec<String> {
    imported(root).images.into_keys().collect()
}

/// They are not there any more.
pub fn forget(root: &Root, names: &[String]) -> io::Result<()> {
    let mut record = imported(root);
    record.images.retain(|name, _| !names.contains(name));
    save(root, &record)
}

fn save(root: &Root, record: &Imported) -> io::Result<()> {
    files::write_atomic(&record_path(root), 0o600, serde_json::to_vec_pretty(record)?.as_slice())
}

/// A digest that changes whenever the image would.
fn fingerprint(root: &Root, source: &ImageSource) -> io::Result<String> {
    match source {
        ImageSource::Archive { sha256, .. } => Ok(sha256.clone()),
        ImageSource::Executable { path, entrypoint } => {
            Ok(sha256_hex(format!("{} {entrypoint:?}", files::sha256(&root.path(path))?).as_bytes()))
        }
    }
}

pub fn observe(root: &Root, running: &Running<'_>, name: &str, source: &ImageSource) -> Observation {
    let recorded = imported(root).images.remove(name);
    let wanted = fingerprint(root, source).ok();
    let there = recorded.is_some() && recorded == wanted && running.has_image(name);
    let action = match (there, recorded.is_some()) {
        (true, _) => Action::None,
        (false, true) => Action::Update,
        (false, false) => Action::Create,
    };
    // Images go with the runtime's root.
    match action {
        Action::None => Observation::same(Undo::Keep),
        Action::Create => Observation::differs(action, "", "import", Undo::Keep),
        _ if recorded == wanted => Observation::differs(action, "gone from the runtime", "import", Undo::Keep),
        _ => Observation::differs(action, "made of something else", "import", Undo::Keep),
    }
}

pub fn apply(context: Context<'_>, step: &str, name: &str, source: &ImageSource) -> Result<(), Failure> {
    let fail = |error: io::Error| super::io(step, &error);
    let archive = match source {
        ImageSource::Archive { sha256, .. } => context.blobs.wait(sha256).map_err(|why| fail(io::Error::other(why)))?,
        ImageSource::Executable { path, entrypoint } => {
            let archive = context.root.path(STATE_DIR).join("image.tar");
            files::create_private(&archive)
                .and_then(|file| write_archive(file, name, &context.root.path(path), entrypoint))
                .map_err(fail)?;
            archive
        }
    };
    let imported_now = import(context, step, name, &archive);
    let removed = match source {
        ImageSource::Archive { sha256, .. } => context.blobs.used(sha256),
        ImageSource::Executable { .. } => fs::remove_file(&archive),
    };
    removed.map_err(fail)?;
    imported_now?;
    let mut record = imported(context.root);
    record.unfinished.remove(name);
    record.images.insert(name.to_owned(), fingerprint(context.root, source).map_err(fail)?);
    save(context.root, &record).map_err(fail)
}

/// All of it is on the disk when this returns.
fn import(context: Context<'_>, step: &str, name: &str, archive: &Path) -> Result<(), Failure> {
    let fail = |error: io::Error| super::io(step, &error);
    let mut record = imported(context.root);
    match record.unfinished.insert(name.to_owned()) {
        true => save(context.root, &record).map_err(fail)?,
        false => discard(context, step, name)?,
    }
    runtime::run(context.sink, step, &["images", "import", &archive.display().to_string()])?;
    files::sync_file_system(Path::new(runtime::ROOT)).map_err(fail)
}

/// Takes out what an import has left that did not end: the next one would find its layers there and leave them as they are. What holds
/// them beside the image is the lease under which they were made, and every other name of that image.
fn discard(context: Context<'_>, step: &str, name: &str) -> Result<(), Failure> {
    let leases = runtime::run(context.sink, step, &["leases", "list", "--quiet"])?;
    for lease in leases.lines() {
        runtime::run(context.sink, step, &["leases", "delete", lease])?;
    }
    let listed = runtime::run(context.sink, step, &["images", "list"])?;
    match names(&listed, name).as_slice() {
        [] => Ok(()),
        all => runtime::run(context.sink, step, &[&["images", "remove", "--sync"], all].concat()).map(drop),
    }
}

/// All names in a list of images that the image called `name` has: the CRI calls it by the digest of its configuration, too. A line
/// has the name, the media type and the digest of the manifest.
fn names<'a>(listed: &'a str, name: &str) -> Vec<&'a str> {
    let image = |line: &'a str| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.nth(1)?))
    };
    let digest = listed.lines().filter_map(image).find(|(it, _)| *it == name).map(|(_, digest)| digest);
    listed.lines().filter_map(image).filter(|(_, it)| Some(*it) == digest).map(|(it, _)| it).collect()
}

/// An OCI image layout (image-spec v1) of one uncompressed layer that holds the executable. The same input gives the same
/// bytes.
fn write_archive(out: impl Write, name: &str, executable: &Path, entrypoint: &[String]) -> io::Result<()> {
    let file_name = executable.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut layer = tar::Builder::new(Vec::new());
    append_dir(&mut layer, "tmp/", 0o1777)?;
    append(&mut layer, &file_name, 0o755, &fs::read(executable)?)?;
    let layer = layer.into_inner()?;

    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let layer_digest = sha256_hex(&layer);
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": arch,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": entrypoint, "WorkingDir": "/", "Env": ["PATH=/"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "kinstall" }],
    }))?;
    let descriptor = |media_type: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media_type, "digest": format!("sha256:{}", sha256_hex(bytes)), "size": bytes.len() });
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["platform"] = serde_json::json!({ "architecture": arch, "os": "linux" });
    entry["annotations"] = serde_json::json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rsplit(':').next().unwrap_or_default(),
    });
    let index = serde_json::to_vec(&serde_json::json!({ "schemaVersion": 2, "manifests": [entry] }))?;

    let mut archive = tar::Builder::new(out);
    append(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", 0o644, &index)?;
    for blob in [&layer, &config, &manifest] {
        append(&mut archive, &format!("blobs/sha256/{}", sha256_hex(blob)), 0o644, blob)?;
    }
    archive.into_inner()?.flush()
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

fn append_dir<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(mode);
    header.set_size(0);
    tar.append_data(&mut header, path, io::empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_image_has_the_names_that_the_runtime_gave_it_too() {
        let listed = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
                      kinstall.local/tools:1 application/x sha256:1 1.2 MiB linux/amd64 a=b\n\
                      kinstall.local/tools:10 application/x sha256:2 1.2 MiB linux/amd64 -\n\
                      sha256:f application/x sha256:1 1.2 MiB linux/amd64 a=b\n";
        assert_eq!(names(listed, "kinstall.local/tools:1"), ["kinstall.local/tools:1", "sha256:f"]);
        assert_eq!(names(listed, "kinstall.local/tools:10"), ["kinstall.local/tools:10"]);
        assert_eq!(names(listed, "kinstall.local/tools"), [""; 0]);
    }

    #[test]
    fn the_same_executable_gives_the_same_archive() {
        let dir = tempfile::tempdir().unwrap();
        let executable = dir.path().join("pause");
        fs::write(&executable, b"ELF").unwrap();
        let make = || {
            let mut out = Vec::new();
            write_archive(&mut out, "kinstall.local/pause:1", &executable, &["/pause".to_owned()]).unwrap();
            out
        };
        assert_eq!(make(), make());
        let names: Vec<String> = tar::Archive::new(make().as_slice())
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names[..2], ["oci-layout", "index.json"]);
        assert_eq!(names.len(), 5);
    }
}
