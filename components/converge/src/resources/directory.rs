//! Directories of ours.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;

use hoststate::Action;
use hoststate::resource::Contents;
use hoststate::wire::Undo;

use super::Observation;
use crate::{Root, files};

pub fn observe(root: &Root, path: &str, wanted: u32, contents: Contents) -> io::Result<Observation> {
    match fs::symlink_metadata(root.path(path)) {
        Ok(meta) if !meta.is_dir() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{path} is there but is no directory: move it away"),
        )),
        // What was there before us stays, with its mode.
        Ok(_) if contents == Contents::Foreign => Ok(Observation::same(Undo::Keep)),
        Ok(meta) => {
            // Preflight refuses a directory that somebody else has filled; whoever goes on all the same keeps what is in it.
            let undo = if is_empty(root, path)? { Undo::RemoveDirectory { contents } } else { Undo::Keep };
            Ok(match files::access(&meta, wanted) {
                None => Observation::same(undo),
                Some((found, wanted)) => Observation::differs(Action::Update, found, wanted, undo),
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let undo = Undo::RemoveDirectory { contents };
            Ok(Observation::differs(Action::Create, "", format!("mode {wanted:o}"), undo))
        }
        Err(error) => Err(error),
    }
}

/// Whether nothing is in an existing directory.
pub fn is_empty(root: &Root, path: &str) -> io::Result<bool> {
    Ok(fs::read_dir(root.path(path))?.next().is_none())
}

pub fn apply(root: &Root, path: &str, mode: u32) -> io::Result<()> {
    let path = root.path(path);
    fs::create_dir_all(&path)?;
    files::make_own(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(mode))
}
