//! `hooks`: what the operator wants run when kinstall comes to certain points.

use std::path::PathBuf;

use super::Seconds;
use super::decode::{At, Fields, Sink, pick};
use super::yaml::{Node, Pos};

/// What a hook belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Up,
    /// Hosts are brought to their state, by `up` and `node add`.
    Converge,
    Upgrade,
    /// One host's part of an upgrade.
    UpgradeHost,
    NodeAdd,
    /// One node's removal.
    NodeRemove,
    Down,
}

pub const STAGES: &[(&str, Stage)] = &[
    ("up", Stage::Up),
    ("converge", Stage::Converge),
    ("upgrade", Stage::Upgrade),
    ("upgradeHost", Stage::UpgradeHost),
    ("nodeAdd", Stage::NodeAdd),
    ("nodeRemove", Stage::NodeRemove),
    ("down", Stage::Down),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Before,
    /// And only if it went well.
    After,
}

pub const WHEN: &[(&str, When)] = &[("before", When::Before), ("after", When::After)];

/// Where a hook runs; of the hosts those that the stage is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On {
    /// On the operator's machine.
    #[default]
    Local,
    Hosts,
    ControlPlanes,
    Workers,
}

pub const ON: &[(&str, On)] =
    &[("local", On::Local), ("hosts", On::Hosts), ("controlPlanes", On::ControlPlanes), ("workers", On::Workers)];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    #[default]
    Stop,
    Warn,
}

pub const ON_FAILURE: &[(&str, OnFailure)] = &[("stop", OnFailure::Stop), ("warn", OnFailure::Warn)];

#[derive(Clone, Debug)]
pub struct Hook {
    pub path: String,
    pub pos: Pos,
    pub name: Option<At<String>>,
    pub stage: Option<Stage>,
    pub when: Option<When>,
    pub run: Option<At<String>>,
    pub file: Option<PathBuf>,
    pub on: Option<On>,
    pub timeout: Option<At<Seconds>>,
    pub on_failure: Option<OnFailure>,
}

pub fn hook(node: &Node, path: String, sink: &mut Sink) -> Hook {
    let mut fields = Fields::open(node, path.clone(), sink);
    let hook = Hook {
        pos: fields.pos,
        name: fields.required("name", sink),
        stage: word(&mut fields, "stage", STAGES, sink),
        when: word(&mut fields, "when", WHEN, sink),
        run: fields.string("run", sink),
        file: fields.string("file", sink).map(|at| PathBuf::from(at.value)),
        on: fields.choice("on", ON, sink),
        timeout: fields.parsed("timeout", "a duration such as 30s, 5m or 1h", sink),
        on_failure: fields.choice("onFailure", ON_FAILURE, sink),
        path,
    };
    fields.finish(sink);
    hook
}

/// A choice that has to be made.
fn word<T: Copy>(fields: &mut Fields<'_>, field: &'static str, choices: &[(&str, T)], sink: &mut Sink) -> Option<T> {
    let path = fields.child(field);
    let At { value, pos } = fields.required(field, sink)?;
    pick(&value, choices).map_err(|message| sink.add(pos, path, message)).ok()
}

/// How an inventory writes it.
pub fn written<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> &'static str {
    choices.iter().find(|(_, known)| known == value).map(|(word, _)| *word).unwrap_or_default()
}
