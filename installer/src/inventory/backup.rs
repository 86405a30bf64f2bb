//! `backup`: what the control planes' timers do.

use super::decode::{At, Fields, Sink};

#[derive(Clone, Debug, Default)]
pub struct Backup {
    pub schedule: Option<At<String>>,
    pub keep: Option<At<usize>>,
    pub recipients: Vec<At<String>>,
    pub directory: Option<At<String>>,
    pub pos: super::yaml::Pos,
}

pub fn backup(mut fields: Fields<'_>, sink: &mut Sink) -> Backup {
    let backup = Backup {
        schedule: fields.string("schedule", sink),
        keep: fields.parsed("keep", "a whole number", sink),
        recipients: fields.texts("recipients", sink),
        directory: fields.string("directory", sink),
        pos: fields.pos,
    };
    fields.finish(sink);
    backup
}
