//! Taking a host back to what it was before kinstall.
//!
//! The manifest says what was made and what was there before. Pods get the chance to end by themselves; what the runtime
//! and the data path left in the kernel goes before the files do.

mod pods;
mod tree;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use hoststate::resource::Contents;
use hoststate::wire::{Failure, ManifestEntry, Undo};
use hoststate::{Action, Event, HostManifest};

use crate::resources::{self, Context, sysctl};
use crate::{Root, STATE_DIR, command, files, manifest, readers, runtime};

const COMPONENTS: &str = "/opt/kinstall/current/bin/kinstall-components";

/// Everything back. A host on which kinstall never was is left alone; running it again finishes an interrupted run.
pub fn down(context: Context<'_>, keep_data: bool) -> Result<Event, Failure> {
    let Some(manifest) = manifest::load(context.root).map_err(|error| resources::io("manifest", &error))? else {
        return Ok(Event::Done { changed: 0, unchanged: 0 });
    };
    let mut steps = Steps { context, index: 0, total: manifest.entries.len() + 5 };
    let units = |runtime: bool| {
        manifest
            .entries
            .iter()
            .filter(move |e| e.kind == "unit" && (e.name == runtime::UNIT) == runtime)
            .map(|e| e.name.as_str())
    };
    steps.run("stop components", Action::Remove, || stop(context, units(false).collect()))?;
    let mut left = pods::Remains::default();
    steps.run("stop pods", Action::Remove, || {
        left = pods::stop(context)?;
        Ok(())
    })?;
    steps.run("remove the data path", Action::Remove, || clean_data_path(context))?;
    steps.run("stop the runtime", Action::Remove, || stop(context, units(true).collect()))?;
    steps.run("remove what pods left", Action::Remove, || pods::clean(context, &left))?;
    for entry in manifest.entries.iter().rev().filter(|e| !matches!(e.undo, Undo::RemoveDirectory { .. })) {
        steps.run(&entry.resource, action_of(&entry.undo), || undo(context, entry))?;
    }
    command::run(context.sink, "systemd", "systemctl", &["daemon-reload"])?;
    let changed = manifest.entries.len();
    for entry in manifest.entries.iter().rev().filter(|e| matches!(e.undo, Undo::RemoveDirectory { .. })) {
        steps.run(&entry.resource, Action::Remove, || remove_directory(context, entry, &manifest, keep_data))?;
    }
    let kept = data_directories(&manifest, keep_data);
    // Before the manifest goes, too: it tells the next run what came back, and may lie in another file system.
    on_disk(context.root)?;
    tree::forget_state(context.root, &kept).map_err(|error| resources::io("state", &error))?;
    if !kept.is_empty() {
        remember_data(context, manifest).map_err(|error| resources::io("manifest", &error))?;
    }
    on_disk(context.root)?;
    Ok(Event::Done { changed, unchanged: 0 })
}

/// A host that loses its power has again what was removed in its last seconds, and nobody comes to remove it once more.
fn on_disk(root: &Root) -> Result<(), Failure> {
    for directory in ["/etc", "/opt", "/var/lib"] {
        match files::sync_file_system(&root.path(directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(resources::io("write to the disk", &error));
            }
            _ => {}
        }
    }
    Ok(())
}

struct Steps<'a> {
    context: Context<'a>,
    index: usize,
    total: usize,
}

impl Steps<'_> {
    fn run(&mut self, name: &str, action: Action, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let started = Instant::now();
        work()?;
        self.index += 1;
        self.context.sink.send(&Event::Step {
            index: self.index,
            total: self.total,
            resource: name.to_owned(),
            action,
            finished: true,
            millis: command::millis(started),
        });
        Ok(())
    }
}

fn action_of(undo: &Undo) -> Action {
    match undo {
        Undo::Remove | Undo::RemoveDirectory { .. } => Action::Remove,
        Undo::RestoreFile { .. } | Undo::RestoreSysctl { .. } => Action::Restore,
        Undo::Keep => Action::None,
    }
}

/// What [`undo`] of this entry does, and what there is to say of it; None: nothing.
pub fn effect(root: &Root, entry: &ManifestEntry) -> Option<(Action, &'static str)> {
    let is_there = |path: &str| fs::symlink_metadata(root.path(path)).is_ok();
    match (&entry.undo, entry.kind.as_str()) {
        (_, "unit") => Some((Action::Remove, "stopped and disabled")),
        (Undo::Remove, "file" | "symlink") => is_there(&entry.name).then_some((Action::Remove, "")),
        (Undo::RestoreFile { backup, .. }, _) => {
            is_there(backup).then_some((Action::Restore, "as it was before kinstall came"))
        }
        (Undo::RestoreSysctl { .. }, _) => Some((Action::Restore, "as it was before kinstall came")),
        (Undo::RemoveDirectory { .. }, _) => is_there(&entry.name).then_some((Action::Remove, "if it is empty then")),
        _ => None,
    }
}

/// Stops units that exist and takes them out of the boot; one that is gone already is no error.
fn stop(context: Context<'_>, units: Vec<&str>) -> Result<(), Failure> {
    let known: Vec<&str> =
        units.into_iter().filter(|unit| command::look("systemctl", &["cat", "--", unit]).is_some()).collect();
    if known.is_empty() {
        return Ok(());
    }
    for verb in ["stop", "disable"] {
        let mut args = vec![verb, "--quiet", "--"];
        args.extend(&known);
        command::run(context.sink, "stop components", "systemctl", &args)?;
    }
    // A unit that failed at some time would stay in systemd's list.
    let mut args = vec!["reset-failed", "--"];
    args.extend(&known);
    let _ = command::look("systemctl", &args);
    for timer in known {
        let Some(job) = timer.strip_suffix(".timer") else { continue };
        // when it ran last, and how what it started ended
        let _ = command::look("systemctl", &["clean", "--what=state", "--", timer]);
        let _ = command::look("systemctl", &["reset-failed", "--", &format!("{job}.service")]);
    }
    Ok(())
}

/// The components know what they made in the kernel; where their executable never arrived, they made nothing.
fn clean_data_path(context: Context<'_>) -> Result<(), Failure> {
    if !context.root.path(COMPONENTS).exists() {
        return Ok(());
    }
    for applet in ["proxy", "cni-agent"] {
        command::run(context.sink, "remove the data path", COMPONENTS, &[applet, "--cleanup"])?;
    }
    Ok(())
}

/// Takes one entry back. Also used for what a newer version no longer has.
pub fn undo(context: Context<'_>, entry: &ManifestEntry) -> Result<(), Failure> {
    let path = context.root.path(&entry.name);
    let result = match (&entry.undo, entry.kind.as_str()) {
        (_, "unit") => return stop(context, vec![&entry.name]),
        (Undo::Remove, "file" | "symlink") => gone(fs::remove_file(&path)),
        (Undo::RestoreFile { backup, mode, uid, gid }, _) => restore(context, &path, backup, *mode, *uid, *gid),
        (Undo::RestoreSysctl { value }, _) => sysctl::write(context.root, &entry.name, value),
        (Undo::RemoveDirectory { .. }, _) => tree::remove_if_empty(&path),
        (Undo::Remove | Undo::Keep, _) => Ok(()),
    };
    result.map_err(|error| resources::io(&entry.resource, &error))?;
    if entry.kind == "file" {
        // what does not listen now must not keep the host from being given back
        let _told = readers::tell(context, &entry.resource, &entry.name);
    }
    Ok(())
}

fn restore(
    context: Context<'_>,
    path: &std::path::Path,
    backup: &str,
    mode: u32,
    uid: u32,
    gid: u32,
) -> io::Result<()> {
    let backup = context.root.path(backup);
    if !backup.exists() {
        // A run before this one has restored it.
        return Ok(());
    }
    files::write_atomic(path, mode, fs::File::open(&backup)?)?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    // Changing the owner clears set-user-id bits.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    fs::remove_file(backup)
}

fn remove_directory(
    context: Context<'_>,
    entry: &ManifestEntry,
    manifest: &HostManifest,
    keep_data: bool,
) -> Result<(), Failure> {
    let Undo::RemoveDirectory { contents } = entry.undo else { return Ok(()) };
    let kept = data_directories(manifest, keep_data);
    let path = context.root.path(&entry.name);
    // The manifest itself goes last: until then a killed `down` can be run again.
    let state_dir = entry.name == STATE_DIR;
    let result = match contents {
        _ if state_dir => Ok(()),
        Contents::Foreign => tree::remove_if_empty(&path),
        Contents::Data if keep_data => Ok(()),
        Contents::Ours | Contents::Data => {
            let kept: Vec<_> = kept.iter().map(|path| context.root.path(path)).collect();
            tree::remove(&path, &kept)
        }
    };
    result.map_err(|error| resources::io(&entry.resource, &error))
}

/// What was kept still belongs to its cluster: another one's `up` is refused, and a later `down` finishes the removal.
fn remember_data(context: Context<'_>, manifest: HostManifest) -> io::Result<()> {
    let is_data = |e: &ManifestEntry| matches!(e.undo, Undo::RemoveDirectory { contents: Contents::Data });
    let entries = manifest.entries.into_iter().filter(is_data).collect();
    manifest::save(context.root, &HostManifest { entries, restart: Vec::new(), complete: true, ..manifest })
}

fn data_directories(manifest: &HostManifest, keep_data: bool) -> Vec<String> {
    manifest
        .entries
        .iter()
        .filter(|e| keep_data && matches!(e.undo, Undo::RemoveDirectory { contents: Contents::Data }))
        .map(|e| e.name.clone())
        .collect()
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
