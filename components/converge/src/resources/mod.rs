//! What each kind of resource is on this host, what would change, and how it is changed.

pub mod directory;
pub mod file;
pub mod image;
pub mod module;
pub mod running;
pub mod symlink;
pub mod sysctl;
pub mod unit;

use hoststate::wire::{Failure, Undo};
use hoststate::{Action, Resource};

use running::Running;

use crate::Root;
use crate::abandon::Abandon;
use crate::blobs::Blobs;
use crate::sink::Sink;

/// What a session's work needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub root: &'a Root,
    pub sink: &'a Sink,
    pub blobs: &'a Blobs,
    pub abandon: &'a Abandon,
}

/// How a resource differs from what is wanted, and how the host would be put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub action: Action,
    /// In a few words, for people; nothing where nothing is there.
    pub found: String,
    pub wanted: String,
    /// Nothing is wrong with it: something else changes, on which it depends.
    pub why: String,
    /// How its text changes.
    pub diff: String,
    /// A file that only has another mode or owner.
    pub same_content: bool,
    /// How to take it back if this is the first time that we touch it.
    pub undo: Undo,
}

impl Observation {
    /// As it is wanted.
    fn same(undo: Undo) -> Self {
        Self::differs(Action::None, "", "", undo)
    }

    fn differs(action: Action, found: impl Into<String>, wanted: impl Into<String>, undo: Undo) -> Self {
        let (why, diff) = Default::default();
        Self { action, found: found.into(), wanted: wanted.into(), why, diff, same_content: false, undo }
    }

    /// It is worked on because of something else.
    pub fn because(self, action: Action, why: impl Into<String>) -> Self {
        Self { action, why: why.into(), ..self }
    }

    pub fn detail(&self) -> String {
        match (self.why.as_str(), self.found.as_str(), self.wanted.as_str()) {
            ("", "", wanted) => wanted.to_owned(),
            ("", found, wanted) => format!("{found} → {wanted}"),
            (why, ..) => why.to_owned(),
        }
    }
}

/// Looks at one resource; units and images are looked at together with what else changes (see [`crate::plan`]).
pub fn observe(root: &Root, running: &Running<'_>, resource: &Resource) -> std::io::Result<Observation> {
    match resource {
        Resource::Directory { path, mode, contents } => directory::observe(root, path, *mode, *contents),
        Resource::File { path, mode, content } => file::observe(root, path, *mode, content),
        Resource::Symlink { path, target } => symlink::observe(root, path, target),
        Resource::Sysctl { key, value } => sysctl::observe(root, key, value),
        Resource::KernelModule { name } => Ok(module::observe(root, name)),
        Resource::Unit { name, enabled, active, .. } => Ok(unit::observe(&running.unit(name), *enabled, *active)),
        Resource::Image { name, source } => Ok(image::observe(root, running, name, source)),
    }
}

/// Makes it so. Units are started by [`unit::start`], in groups.
pub fn apply(context: Context<'_>, resource: &Resource) -> Result<(), Failure> {
    let step = resource.id();
    match resource {
        Resource::Directory { path, mode, .. } => {
            directory::apply(context.root, path, *mode).map_err(|e| io(&step, &e))
        }
        Resource::File { path, mode, content } => file::apply(context, &step, path, *mode, content),
        Resource::Symlink { path, target } => symlink::apply(context.root, path, target).map_err(|e| io(&step, &e)),
        Resource::Sysctl { key, value } => sysctl::write(context.root, key, value).map_err(|e| io(&step, &e)),
        Resource::KernelModule { name } => module::apply(context.sink, &step, name),
        Resource::Unit { .. } => Ok(()),
        Resource::Image { name, source } => image::apply(context, &step, name, source),
    }
}

/// A failed system call as the operator should read it.
pub fn io(step: &str, error: &std::io::Error) -> Failure {
    let hint = match error.raw_os_error() {
        Some(libc::ENOSPC) => Some("the disk is full: free some space, then run the command again"),
        Some(libc::EROFS) => Some("the file system is read-only: remount it writable, then run the command again"),
        Some(libc::EDQUOT) => Some("the disk quota is used up: raise it, then run the command again"),
        _ => None,
    };
    Failure {
        step: step.to_owned(),
        message: error.to_string(),
        command: None,
        status: None,
        stderr: Vec::new(),
        hint: hint.map(str::to_owned),
    }
}
