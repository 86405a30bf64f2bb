//! Symbolic links.

use std::fs;
use std::io;

use hoststate::Action;
use hoststate::wire::Undo;

use super::Observation;
use crate::{Root, files};

pub fn observe(root: &Root, path: &str, target: &str) -> io::Result<Observation> {
    match fs::read_link(root.path(path)) {
        Ok(actual) if actual.as_os_str() == target => Ok(Observation::same(Undo::Remove)),
        Ok(actual) => Ok(Observation::differs(Action::Update, actual.display().to_string(), target, Undo::Remove)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Observation::differs(Action::Create, "", format!("→ {target}"), Undo::Remove))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{path} is there but is no symbolic link: move it away"),
        )),
        Err(error) => Err(error),
    }
}

pub fn apply(root: &Root, path: &str, target: &str) -> io::Result<()> {
    files::symlink_atomic(target, &root.path(path))
}
