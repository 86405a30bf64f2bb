//! Kernel modules, loaded or built in.

use hoststate::Action;
use hoststate::wire::{Failure, Undo};

use super::Observation;
use crate::command;
use crate::sink::Sink;
use crate::{Root, facts};

pub fn observe(root: &Root, name: &str) -> Observation {
    if facts::module_present(root, name) {
        return Observation::same(Undo::Keep);
    }
    // A module that somebody may have come to use is not unloaded again.
    Observation::differs(Action::Create, "", "load", Undo::Keep)
}

pub fn apply(sink: &Sink, step: &str, name: &str) -> Result<(), Failure> {
    command::run(sink, step, "modprobe", &[name]).map(|_| ()).map_err(|mut failure| {
        failure.hint = Some(format!("the kernel needs {name}: install the distribution's full kernel package"));
        failure
    })
}
