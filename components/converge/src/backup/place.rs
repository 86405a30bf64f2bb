//! A host becomes what `down --keep-data` would have left of the cluster as it was when it was backed up.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Instant;

use hoststate::backup::{Blob, Placement};
use hoststate::resource::Contents;
use hoststate::wire::{Failure, ManifestEntry, Undo};
use hoststate::{Action, Event, HostManifest};

use super::{ASIDE, ETCD, STORE, VOLUMES, volumes};
use crate::resources::{self, Context};
use crate::{OWN, STATE_DIR, command, down, manifest};

/// Takes the components away, puts aside what the host has of a store, and puts the backup's data there. May be repeated.
pub fn place(context: Context<'_>, placement: &Placement) -> Result<Event, Failure> {
    let blobs = [&placement.store, &placement.volumes].into_iter().flatten();
    let missing = blobs.map(|blob| blob.sha256.clone()).filter(|sha256| !context.blobs.have(sha256)).collect();
    context.sink.send(&Event::NeedBlobs { sha256: missing });
    // all of it is here before anything is taken away; and `down` leaves no room for what comes later
    let arrived = arrived(context, placement)?;
    down::down(context, true)?;

    let mut steps = Steps { context, index: 0 };
    let directories = [Some(STORE).filter(|_| placement.store.is_some()), placement.volumes.as_ref().map(|_| VOLUMES)];
    steps.run("manifest", || {
        manifest_of(context, placement, directories.into_iter().flatten())
            .map_err(|error| resources::io("manifest", &error))
    })?;
    for directory in [STORE, ETCD] {
        steps.run(&format!("put aside {directory}"), || put_aside(context, directory))?;
    }
    if let Some(dump) = &arrived.store {
        steps.run("restore the store", || restore_store(context, dump))?;
    }
    if let Some(archive) = &arrived.volumes {
        steps.run(&format!("put aside {VOLUMES}"), || put_aside(context, VOLUMES))?;
        steps.run("restore the volumes", || {
            volumes::unpack(archive, &context.root.path(VOLUMES))
                .map_err(|error| resources::io("restore the volumes", &error))
        })?;
    }
    arrived.clear();
    Ok(Event::Done { changed: steps.index, unchanged: 0 })
}

struct Steps<'a> {
    context: Context<'a>,
    index: usize,
}

impl Steps<'_> {
    fn run(&mut self, name: &str, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        const TOTAL: usize = 6;
        let started = Instant::now();
        work()?;
        self.index += 1;
        self.context.sink.send(&Event::Step {
            index: self.index,
            total: TOTAL,
            resource: name.to_owned(),
            action: Action::Restore,
            finished: true,
            millis: command::millis(started),
        });
        Ok(())
    }
}

/// What was sent, where `down` does not reach.
struct Arrived {
    directory: std::path::PathBuf,
    store: Option<std::path::PathBuf>,
    volumes: Option<std::path::PathBuf>,
}

impl Arrived {
    fn clear(&self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Beside kinstall's directory: on the same file system, so that a large file is only renamed.
const ARRIVED: &str = "/var/lib/kinstall-restore";

fn arrived(context: Context<'_>, placement: &Placement) -> Result<Arrived, Failure> {
    let failed = |error: io::Error| resources::io("receive the backup", &error);
    let directory = context.root.path(ARRIVED);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&directory).map_err(failed)?;
    let keep = |blob: &Option<Blob>, name: &str| {
        let Some(blob) = blob else { return Ok(None) };
        let from = context.blobs.wait(&blob.sha256).map_err(|why| failed(io::Error::other(why)))?;
        let to = directory.join(name);
        // a file system of its own is copied from
        fs::rename(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).map_err(failed)?;
        Ok(Some(to))
    };
    Ok(Arrived {
        store: keep(&placement.store, "store")?,
        volumes: keep(&placement.volumes, "volumes")?,
        directory: directory.clone(),
    })
}

/// The host belongs to the cluster from now on, and a later `down` finds what is put here.
fn manifest_of<'d>(
    context: Context<'_>,
    placement: &Placement,
    directories: impl Iterator<Item = &'d str>,
) -> io::Result<()> {
    // as its resource makes it: who finds it there leaves its mode
    let state = context.root.path(STATE_DIR);
    fs::create_dir_all(&state)?;
    fs::set_permissions(&state, fs::Permissions::from_mode(0o711))?;
    let mut entries = manifest::load(context.root)?.map(|manifest| manifest.entries).unwrap_or_default();
    for path in directories {
        let known = entries.iter().any(|entry| entry.kind == "directory" && entry.name == path);
        if !known {
            entries.push(ManifestEntry {
                resource: format!("directory {path}"),
                kind: "directory".into(),
                name: path.into(),
                undo: Undo::RemoveDirectory { contents: Contents::Data },
            });
        }
        private_directory(&context.root.path(path))?;
    }
    if entries.is_empty() {
        return Ok(());
    }
    manifest::save(
        context.root,
        &HostManifest {
            cluster: placement.cluster.clone(),
            host: placement.host.clone(),
            version: placement.version.clone(),
            applied: time::OffsetDateTime::now_utc()
                .format(&time::format_description::well_known::Rfc3339)
                .unwrap_or_default(),
            complete: true,
            entries,
            ..HostManifest::default()
        },
    )
}

fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Everything in a directory into a folder of its own. A damaged store goes as whole as a good one.
fn put_aside(context: Context<'_>, directory: &str) -> Result<(), Failure> {
    let directory = context.root.path(directory);
    let work = || -> io::Result<()> {
        if !directory.exists() {
            return Ok(());
        }
        let names: Vec<_> = fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        let names: Vec<_> = names.into_iter().filter(|name| name != ASIDE).collect();
        if names.is_empty() {
            return Ok(());
        }
        let aside = directory.join(ASIDE);
        match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        private_directory(&aside)?;
        names.iter().try_for_each(|name| fs::rename(directory.join(name), aside.join(name)))
    };
    work().map_err(|error| resources::io(&format!("put aside what is in {}", directory.display()), &error))
}

fn restore_store(context: Context<'_>, dump: &Path) -> Result<(), Failure> {
    let (dump, directory) = (dump.to_string_lossy(), context.root.path(STORE));
    let arguments = ["backup", "place", "--dump", &dump, "--directory", &directory.to_string_lossy()];
    command::run(context.sink, "restore the store", OWN, &arguments).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Root;
    use crate::abandon::Abandon;
    use crate::blobs::Blobs;
    use crate::sink::Sink;

    #[test]
    fn what_a_host_had_is_put_aside_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root { prefix: directory.path().to_owned() };
        let (sink, blobs) = (Sink::new(io::sink()), Blobs::new(directory.path().join("blobs")));
        let context = Context { root: &root, sink: &sink, blobs: &blobs, abandon: &Abandon::default() };
        put_aside(context, STORE).unwrap();
        let store = root.path(STORE);
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("store.db"), "first").unwrap();
        put_aside(context, STORE).unwrap();
        let aside = || fs::read_to_string(store.join(ASIDE).join("store.db")).unwrap();
        assert!(!store.join("store.db").exists() && aside() == "first");
        // again, with nothing there: what was put aside stays
        put_aside(context, STORE).unwrap();
        assert_eq!(aside(), "first");
        fs::write(store.join("store.db"), "second").unwrap();
        put_aside(context, STORE).unwrap();
        assert_eq!(aside(), "second");
    }

    #[test]
    fn a_host_that_is_given_data_belongs_to_the_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root { prefix: directory.path().to_owned() };
        let (sink, blobs) = (Sink::new(io::sink()), Blobs::new(directory.path().join("blobs")));
        let context = Context { root: &root, sink: &sink, blobs: &blobs, abandon: &Abandon::default() };
        let placement = Placement {
            cluster: hoststate::resource::ClusterRef { name: "c".into(), id: "7".into() },
            host: "h1".into(),
            version: "1".into(),
            store: None,
            volumes: None,
        };
        manifest_of(context, &placement, [STORE].into_iter()).unwrap();
        manifest_of(context, &placement, [STORE, VOLUMES].into_iter()).unwrap();
        let manifest = manifest::load(&root).unwrap().unwrap();
        let names: Vec<_> = manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!((names, manifest.cluster.id.as_str(), manifest.complete), (vec![STORE, VOLUMES], "7", true));
    }
}
