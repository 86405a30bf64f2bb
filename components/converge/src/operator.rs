//! The operator's own files, kept on control planes for the day on which the operator's machine is lost.

use std::io;

use hoststate::Event;
use hoststate::wire::Failure;

use crate::resources::{self, Context};
use crate::{Root, files};

/// Readable by root only, who can read the cluster's keys here anyway.
const PATH: &str = "/var/lib/kinstall/operator.json";

pub fn keep(context: Context<'_>, text: &str) -> Result<Event, Failure> {
    files::write_atomic(&context.root.path(PATH), 0o600, text.as_bytes())
        .map(|()| Event::Done { changed: 1, unchanged: 0 })
        .map_err(|error| resources::io("keep the operator's files", &error))
}

pub fn kept(context: Context<'_>) -> Result<Event, Failure> {
    match std::fs::read_to_string(context.root.path(PATH)) {
        Ok(text) => Ok(Event::Kept { text: Some(text) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Event::Kept { text: None }),
        Err(error) => Err(resources::io("read the operator's files", &error)),
    }
}

/// SHA-256 of what is kept here.
pub fn digest(root: &Root) -> Option<String> {
    std::fs::read(root.path(PATH)).ok().map(|bytes| hoststate::sha256_hex(&bytes))
}
