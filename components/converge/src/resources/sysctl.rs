//! Kernel parameters, as they read in `/proc/sys`.

use std::fs;
use std::io;

use hoststate::Action;
use hoststate::wire::Undo;

use super::Observation;
use crate::Root;

fn path(root: &Root, key: &str) -> std::path::PathBuf {
    root.path(&format!("/proc/sys/{}", key.replace('.', "/")))
}

pub fn observe(root: &Root, key: &str, wanted: &str) -> io::Result<Observation> {
    let actual = fs::read_to_string(path(root, key))?.trim().to_owned();
    if actual == wanted {
        return Ok(Observation::same(Undo::Keep));
    }
    Ok(Observation::differs(Action::Update, actual.clone(), wanted, Undo::RestoreSysctl { value: actual }))
}

pub fn write(root: &Root, key: &str, value: &str) -> io::Result<()> {
    fs::write(path(root, key), value)
}
