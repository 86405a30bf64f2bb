//! The stages of each command, by the events that begin them.

use anyhow::{Context as _, Result};

use super::struck::{Command, Struck};
use crate::events::Mark;
use crate::fault::Fault;

enum When {
    /// An event of this kind whose text begins so.
    Event(&'static str, &'static str),
    /// A step on the struck host, or on the first that gets there.
    Step(&'static str),
}

use When::{Event, Step};

const UP: [(&str, When); 8] = [
    ("connecting", Event("phase", "connecting")),
    ("hosts begin", Event("phase", "bringing hosts")),
    ("files", Step("file ")),
    ("the runtime starts", Step("unit kinstall-containerd")),
    ("images", Step("image ")),
    ("the kubelet starts", Step("unit kinstall-kubelet")),
    ("API ready", Event("apiReady", "")),
    ("nodes Ready", Event("nodesReady", "")),
];

const UPGRADE: [(&str, When); 7] = [
    ("connecting", Event("phase", "connecting")),
    ("hosts begin", Event("phase", "upgrading")),
    ("files", Step("file ")),
    ("the control plane restarts", Step("unit kinstall-control-plane")),
    ("the kubelet restarts", Step("unit kinstall-kubelet")),
    ("is the first one well", Event("host", "waiting until")),
    ("addons", Event("phase", "addons")),
];

/// What it has beyond [`UPGRADE`].
const DRAINED: [(&str, When); 2] =
    [("draining", Event("host", "draining")), ("the runtime restarts", Step("unit kinstall-containerd"))];

const GROW: [(&str, When); 7] = [
    ("connecting", Event("phase", "connecting")),
    ("hosts begin", Event("phase", "bringing hosts")),
    ("files", Step("file ")),
    ("etcd starts", Step("unit kinstall-etcd")),
    ("the control plane starts", Step("unit kinstall-control-plane")),
    ("API ready", Event("apiReady", "")),
    ("nodes Ready", Event("nodesReady", "")),
];

const REMOVE: [(&str, When); 6] = [
    ("removing", Event("phase", "removing")),
    ("drained", Event("node", "drained")),
    ("stop components", Step("stop components")),
    ("stop the runtime", Step("stop the runtime")),
    ("files", Step("file ")),
    ("Node deleted", Event("node", "its Node")),
];

const DOWN: [(&str, When); 8] = [
    ("connecting", Event("phase", "connecting")),
    ("hosts begin", Event("phase", "taking hosts back")),
    ("stop components", Step("stop components")),
    ("stop pods", Step("stop pods")),
    ("stop the runtime", Step("stop the runtime")),
    ("what pods left", Step("remove what pods left")),
    ("files", Step("file ")),
    ("directories", Step("directory ")),
];

fn of(command: Command) -> &'static [(&'static str, When)] {
    match command {
        Command::Up => &UP,
        Command::Upgrade | Command::UpgradeThree => &UPGRADE,
        Command::Drained => &DRAINED,
        Command::Grow => &GROW,
        Command::Remove => &REMOVE,
        Command::Down => &DOWN,
    }
}

fn struck(command: Command, (step, when): &(&'static str, When), fault: Fault, host: u32) -> Struck {
    let mark = match when {
        Event(kind, text) => Mark::Event(kind, text),
        Step(resource) => Mark::Step(format!("h{host}"), resource),
    };
    Struck { command, step: (*step).to_owned(), marks: vec![mark], fault }
}

/// The fault in every stage of the command; stages of hosts are those of `host`.
pub fn all(command: Command, fault: Fault, host: u32) -> Vec<Struck> {
    let has = |step: &str| step != "the control plane restarts" || host == 1 || command == Command::UpgradeThree;
    of(command).iter().filter(|(step, _)| has(step)).map(|stage| struck(command, stage, fault, host)).collect()
}

/// The fault in one stage.
pub fn named(command: Command, step: &str, fault: Fault) -> Result<Struck> {
    let stage = of(command).iter().find(|(name, _)| *name == step).with_context(|| format!("no stage {step:?}"))?;
    let host = fault.host().and_then(|name| name.trim_start_matches('h').parse().ok());
    // what strikes all hosts is marked by the last, which every command works on
    Ok(struck(command, stage, fault, host.unwrap_or(3)))
}
