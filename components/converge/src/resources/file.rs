//! Files with a given content and mode, owned by root.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hoststate::wire::{Failure, Undo};
use hoststate::{Action, Content, sha256_hex, shown};

use super::{Context, Observation};
use crate::{Root, STATE_DIR, files, readers};

pub fn observe(root: &Root, path: &str, wanted_mode: u32, content: &Content) -> io::Result<Observation> {
    let on_disk = root.path(path);
    let meta = match fs::metadata(&on_disk) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let missing = Observation::differs(Action::Create, "", describe(content, wanted_mode), Undo::Remove);
            return Ok(Observation { diff: diff(path, None, content), ..missing });
        }
        Err(error) => return Err(error),
    };
    let undo = {
        use std::os::unix::fs::MetadataExt;
        Undo::RestoreFile { backup: backup_path(path), mode: files::mode(&meta), uid: meta.uid(), gid: meta.gid() }
    };
    let same_content = has(&on_disk, &meta, content)?;
    let access = files::access(&meta, wanted_mode);
    if same_content && access.is_none() {
        return Ok(Observation::same(undo));
    }
    let (found, wanted) = match content {
        _ if same_content => Default::default(),
        Content::Inline { secret: true, .. } => ("other content".to_owned(), "its content (secret)".to_owned()),
        Content::Inline { text, .. } => (
            format!("sha256 {}", short(&files::sha256(&on_disk)?)),
            format!("sha256 {}", short(&sha256_hex(text.as_bytes()))),
        ),
        Content::Blob { sha256, .. } => {
            (format!("sha256 {}", short(&files::sha256(&on_disk)?)), format!("sha256 {}", short(sha256)))
        }
    };
    let (found_access, wanted_access) = access.unwrap_or_default();
    let (found, wanted) = (joined(&found, &found_access), joined(&wanted, &wanted_access));
    let diff = match content {
        Content::Inline { .. } if !same_content => {
            diff(path, Some(&String::from_utf8_lossy(&fs::read(&on_disk)?)), content)
        }
        _ => String::new(),
    };
    Ok(Observation { diff, same_content, ..Observation::differs(Action::Update, found, wanted, undo) })
}

/// Whether a file has this content.
fn has(on_disk: &Path, meta: &fs::Metadata, content: &Content) -> io::Result<bool> {
    Ok(match content {
        Content::Inline { text, .. } => fs::read(on_disk)? == text.as_bytes(),
        Content::Blob { sha256, size } => meta.len() == *size && files::sha256(on_disk)? == *sha256,
    })
}

fn joined(one: &str, other: &str) -> String {
    [one, other].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

fn describe(content: &Content, mode: u32) -> String {
    match content {
        Content::Inline { text, secret: true } => format!("{} bytes (secret), mode {mode:o}", text.len()),
        Content::Inline { text, .. } => format!("{} bytes, mode {mode:o}", text.len()),
        Content::Blob { sha256, size } => format!("{size} bytes, mode {mode:o}, sha256 {}", short(sha256)),
    }
}

/// Nothing of a secret file is shown, but of a kubeconfig who speaks to whom.
fn diff(path: &str, was: Option<&str>, content: &Content) -> String {
    match content {
        Content::Inline { text, secret: false } => shown::difference(path, was, Some(text)),
        Content::Inline { text, secret: true } if path.ends_with(".kubeconfig") => {
            shown::difference(path, was.map(shown::outline).as_deref(), Some(&shown::outline(text)))
        }
        _ => String::new(),
    }
}

/// Where a file that was there before us is kept.
pub fn backup_path(path: &str) -> String {
    format!("{STATE_DIR}/backup/{}", path.trim_start_matches('/').replace('%', "%25").replace('/', "%2F"))
}

/// Keeps what is at `path`; done once, before the first change.
pub fn back_up(root: &Root, path: &str, backup: &str) -> io::Result<()> {
    let backup = root.path(backup);
    if backup.exists() {
        return Ok(());
    }
    if let Some(dir) = backup.parent() {
        fs::create_dir_all(dir)?;
    }
    files::write_atomic(&backup, 0o600, fs::File::open(root.path(path))?)
}

pub fn apply(context: Context<'_>, step: &str, path: &str, mode: u32, content: &Content) -> Result<(), Failure> {
    let target = context.root.path(path);
    // a large file is not sent because somebody has changed its mode
    let there = fs::metadata(&target).and_then(|meta| has(&target, &meta, content)).unwrap_or(false);
    let written = match content {
        _ if there => fs::set_permissions(&target, fs::Permissions::from_mode(mode)),
        Content::Inline { text, .. } => files::write_atomic(&target, mode, text.as_bytes()),
        Content::Blob { sha256, .. } => {
            let blob = context.blobs.wait(sha256).map_err(|why| super::io(step, &io::Error::other(why)))?;
            fs::File::open(blob).and_then(|source| files::write_atomic(&target, mode, source))
        }
    };
    let owned = written.and_then(|()| files::make_own(&target));
    // a new owner clears set-user-id bits
    owned
        .and_then(|()| fs::set_permissions(&target, fs::Permissions::from_mode(mode)))
        .map_err(|error| super::io(step, &error))?;
    readers::tell(context, step, path)
}
