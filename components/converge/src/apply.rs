//! Applying a host's state, one resource after the other, with its undo information written first.

use std::collections::HashSet;
use std::time::Instant;

use hoststate::wire::{Failure, ManifestEntry, Undo, Version};
use hoststate::{Action, Event, HostManifest, HostState, Resource};

use crate::resources::{self, Context, Observation, file, unit};
use crate::{command, kept, labels, manifest, runtime};

const UNIT_DIR: &str = "/etc/systemd/system/";

/// What becomes of that which only the state before has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// It stays, and [`crate::rollback`] can go back to it.
    Previous,
}

impl From<bool> for Keep {
    fn from(previous: bool) -> Self {
        if previous { Self::Previous } else { Self::Nothing }
    }
}

/// Blobs that have to come from the installer for these changes, in the order in which they will be used.
pub fn missing_blobs(state: &HostState, observations: &[Observation], has: impl Fn(&str) -> bool) -> Vec<String> {
    let mut asked = HashSet::new();
    changed(state, observations)
        .filter(|(_, _, observation)| !observation.same_content)
        .filter_map(|(_, resource, _)| resource.blobs())
        .filter(|sha256| asked.insert(*sha256) && !has(sha256))
        .map(str::to_owned)
        .collect()
}

fn changed<'a>(
    state: &'a HostState,
    observations: &'a [Observation],
) -> impl Iterator<Item = (usize, &'a Resource, &'a Observation)> {
    state
        .resources
        .iter()
        .zip(observations)
        .enumerate()
        .map(|(i, (r, o))| (i, r, o))
        .filter(|(_, _, o)| o.action != Action::None)
}

/// Makes every change; the first failure ends it. Gives how many resources changed.
pub fn apply(
    context: Context<'_>,
    state: &HostState,
    observations: &[Observation],
    keep: Keep,
) -> Result<usize, Failure> {
    let fail = |error: std::io::Error| resources::io("manifest", &error);
    let before = manifest::load(context.root).map_err(fail)?;
    let previous = match keep {
        Keep::Previous => kept::load(context.root)
            .map_err(fail)?
            .map(|kept| Version { version: kept.version, kubernetes: kept.kubernetes }),
        Keep::Nothing => None,
    };
    let new = HostManifest { previous, ..new_manifest(state, observations, before.as_ref()) };
    let stale = stale(state, before.as_ref());
    let ahead = write_ahead(context, new.clone(), &stale)?;

    // A run that was interrupted may have written unit files that systemd has not read.
    let reload = before.as_ref().is_some_and(|manifest| !manifest.complete);
    let mut run = Run::new(context, state, reload);
    for (index, (resource, observation)) in state.resources.iter().zip(observations).enumerate() {
        run.one(index, resource, observation)?;
    }
    run.join(|_| true)?;
    let mut changed = run.changed;
    if keep == Keep::Previous {
        manifest::save(context.root, &HostManifest { complete: true, restart: Vec::new(), ..ahead }).map_err(fail)?;
        context.blobs.clear();
        return Ok(changed);
    }
    // From here on there is no way back to what was before.
    kept::save(context.root, state).map_err(fail)?;
    // In reverse, as `down` does it: units before their files, files before their directories.
    for entry in stale.iter().rev() {
        crate::down::undo(context, entry)?;
        changed += 1;
    }
    if stale.iter().any(|entry| entry.name.starts_with(UNIT_DIR)) {
        command::run(context.sink, "systemd", "systemctl", &["daemon-reload"])?;
    }
    manifest::save(context.root, &HostManifest { complete: true, restart: Vec::new(), ..new }).map_err(fail)?;
    context.blobs.clear();
    Ok(changed)
}

/// As [`apply`] of a part of what the host has: everything else stays, the host's version too. Gives how many resources changed.
pub fn amend(context: Context<'_>, state: &HostState, observations: &[Observation]) -> Result<usize, Failure> {
    let before = manifest::load(context.root).map_err(|error| resources::io("manifest", &error))?;
    let before = before.ok_or_else(|| Failure {
        hint: Some("run `kinstall up` first".into()),
        ..resources::io("manifest", &std::io::Error::other("kinstall is not on this host"))
    })?;
    let part = new_manifest(state, observations, Some(&before));
    for entry in &part.entries {
        if let Undo::RestoreFile { backup, .. } = &entry.undo {
            file::back_up(context.root, &entry.name, backup).map_err(|error| resources::io(&entry.resource, &error))?;
        }
    }
    let mut entries = before.entries.clone();
    let is_new = |entry: &ManifestEntry| !before.entries.iter().any(|e| e.kind == entry.kind && e.name == entry.name);
    entries.extend(part.entries.into_iter().filter(is_new));
    // a run that was interrupted may owe restarts of units that this part does not name
    let of_part = |unit: &String| state.resources.iter().any(|r| kind_and_name(r) == ("unit", unit));
    let owed: Vec<String> = before.restart.iter().filter(|unit| !of_part(unit)).cloned().collect();
    let restart = owed.iter().cloned().chain(part.restart).collect();
    let was_complete = before.complete || before.amending;
    let (complete, amending) = (false, was_complete);
    let ahead = HostManifest { entries, restart, complete, amending, applied: part.applied, ..before.clone() };
    manifest::save(context.root, &ahead).map_err(|error| resources::io("manifest", &error))?;

    let mut run = Run::new(context, state, !before.complete);
    for (index, (resource, observation)) in state.resources.iter().zip(observations).enumerate() {
        run.one(index, resource, observation)?;
    }
    run.join(|_| true)?;
    keep_amended(context, state).map_err(|error| resources::io("manifest", &error))?;
    let finished = HostManifest { complete: was_complete, amending: false, restart: owed, ..ahead };
    manifest::save(context.root, &finished).map_err(|error| resources::io("manifest", &error))?;
    Ok(run.changed)
}

/// A host that goes back to its last state goes back with the files that it was given since: those before may have run out.
fn keep_amended(context: Context<'_>, state: &HostState) -> std::io::Result<()> {
    let Some(mut kept) = kept::load(context.root)? else { return Ok(()) };
    let files = state.resources.iter().filter(|resource| matches!(resource, Resource::File { .. }));
    for file in files {
        if let Some(old) = kept.resources.iter_mut().find(|old| old.id() == file.id()) {
            old.clone_from(file);
        }
    }
    kept::save(context.root, &kept)
}

/// The entries of an earlier apply that this state no longer has.
pub fn stale(state: &HostState, before: Option<&HostManifest>) -> Vec<ManifestEntry> {
    let named: HashSet<(&str, &str)> = state.resources.iter().map(kind_and_name).collect();
    let entries = before.map(|manifest| manifest.entries.as_slice()).unwrap_or_default().iter();
    entries.filter(|entry| !named.contains(&(entry.kind.as_str(), entry.name.as_str()))).cloned().collect()
}

/// Writes down what is about to be made and keeps what is there, before anything is touched. Gives what was written.
fn write_ahead(context: Context<'_>, new: HostManifest, stale: &[ManifestEntry]) -> Result<HostManifest, Failure> {
    for entry in &new.entries {
        if let Undo::RestoreFile { backup, .. } = &entry.undo {
            file::back_up(context.root, &entry.name, backup).map_err(|error| resources::io(&entry.resource, &error))?;
        }
    }
    // Until it is complete the manifest also names what an earlier version made, so that `down` finds everything.
    let ahead = HostManifest { entries: stale.iter().cloned().chain(new.entries).collect(), ..new };
    manifest::save(context.root, &ahead).map_err(|error| resources::io("manifest", &error))?;
    Ok(ahead)
}

fn new_manifest(state: &HostState, observations: &[Observation], before: Option<&HostManifest>) -> HostManifest {
    let known = before.map(|m| m.entries.as_slice()).unwrap_or_default();
    let entries = state
        .resources
        .iter()
        .zip(observations)
        .map(|(resource, observation)| {
            let (kind, name) = kind_and_name(resource);
            // What was there before us was seen on the first run; later runs see our own work.
            let undo = known.iter().find(|e| e.kind == kind && e.name == name).map_or(&observation.undo, |e| &e.undo);
            ManifestEntry { resource: resource.id(), kind: kind.to_owned(), name: name.to_owned(), undo: undo.clone() }
        })
        .collect();
    HostManifest {
        cluster: state.cluster.clone(),
        host: state.host.clone(),
        version: state.version.clone(),
        kubernetes: state.kubernetes.clone(),
        previous: None,
        applied: time::OffsetDateTime::now_utc()
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default(),
        complete: false,
        amending: false,
        restart: restarts(state, observations),
        entries,
    }
}

/// Units that this apply restarts.
fn restarts(state: &HostState, observations: &[Observation]) -> Vec<String> {
    changed(state, observations)
        .filter(|(_, _, observation)| observation.action == Action::Restart)
        .filter_map(|(_, resource, _)| match resource {
            Resource::Unit { name, .. } => Some(name.clone()),
            _ => None,
        })
        .collect()
}

fn kind_and_name(resource: &Resource) -> (&'static str, &str) {
    match resource {
        Resource::Directory { path, .. } => ("directory", path),
        Resource::File { path, .. } => ("file", path),
        Resource::Symlink { path, .. } => ("symlink", path),
        Resource::Sysctl { key, .. } => ("sysctl", key),
        Resource::KernelModule { name } => ("kernelModule", name),
        Resource::Unit { name, .. } => ("unit", name),
        Resource::Image { name, .. } => ("image", name),
    }
}

/// The state of one apply.
struct Run<'a> {
    context: Context<'a>,
    total: usize,
    changed: usize,
    /// Units on their way up.
    starting: Vec<(unit::Starting, Action)>,
    /// Unit files changed since systemd last read them.
    reload: bool,
    /// What has to have its SELinux labels before a unit is touched.
    unlabelled: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(context: Context<'a>, state: &HostState, reload: bool) -> Self {
        let unlabelled = labels::paths(context.root, state);
        Self { context, total: state.resources.len(), changed: 0, starting: Vec::new(), reload, unlabelled }
    }

    fn one(&mut self, index: usize, resource: &Resource, observation: &Observation) -> Result<(), Failure> {
        if observation.action == Action::None {
            return Ok(());
        }
        match resource {
            Resource::Unit { name, enabled, active, after, .. } => {
                self.join(|unit| after.iter().any(|before| before == unit))?;
                labels::restore(self.context, &std::mem::take(&mut self.unlabelled))?;
                if self.reload {
                    self.join(|_| true)?;
                    command::run(self.context.sink, &resource.id(), "systemctl", &["daemon-reload"])?;
                    self.reload = false;
                }
                self.step(index, &resource.id(), observation.action, None);
                let starting = unit::start(self.context, index, name, *enabled, *active, observation.action);
                self.starting.push((starting, observation.action));
                return Ok(());
            }
            Resource::Image { .. } => self.join(|name| name == runtime::UNIT)?,
            Resource::File { path, .. } => self.reload |= path.starts_with(UNIT_DIR),
            _ => {}
        }
        self.step(index, &resource.id(), observation.action, None);
        let started = Instant::now();
        resources::apply(self.context, resource)?;
        self.changed += 1;
        self.step(index, &resource.id(), observation.action, Some(command::millis(started)));
        Ok(())
    }

    /// Waits for those units on their way up that `which` names.
    fn join(&mut self, which: impl Fn(&str) -> bool) -> Result<(), Failure> {
        let (waited, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.starting).into_iter().partition(|(starting, _)| which(&starting.name));
        self.starting = rest;
        let mut failed: Option<unit::Stopped> = None;
        for (starting, action) in waited {
            let (index, id) = (starting.index, format!("unit {}", starting.name));
            match starting.wait() {
                Ok(millis) => {
                    self.changed += 1;
                    self.step(index, &id, action, Some(millis));
                }
                // The first failure is told, not what was given up because of it.
                Err(stopped) if failed.as_ref().is_none_or(|first| first.abandoned && !stopped.abandoned) => {
                    failed = Some(stopped);
                }
                Err(_) => {}
            }
        }
        failed.map_or(Ok(()), |stopped| Err(stopped.failure))
    }

    fn step(&self, index: usize, resource: &str, action: Action, millis: Option<u64>) {
        self.context.sink.send(&Event::Step {
            index,
            total: self.total,
            resource: resource.to_owned(),
            action,
            finished: millis.is_some(),
            millis: millis.unwrap_or(0),
        });
    }
}
