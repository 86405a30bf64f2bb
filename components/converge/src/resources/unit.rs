//! systemd units.

use std::thread::JoinHandle;

use hoststate::Action;
use hoststate::wire::{Failure, Undo};

use super::running::Shown;
use super::{Context, Observation};
use crate::abandon::Abandon;
use crate::command;
use crate::sink::Sink;

pub fn observe(shown: &Shown, enabled: bool, active: bool) -> Observation {
    let (is_active, is_enabled) = (shown.active == "active", shown.enabled == "enabled");
    let action = match (is_active == active, is_enabled == enabled) {
        (true, true) => Action::None,
        (false, _) if active => Action::Start,
        _ => Action::Update,
    };
    if action == Action::None {
        return Observation::same(Undo::Remove);
    }
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let found = format!("{}, {}", or(&shown.active, "inactive"), or(&shown.enabled, "disabled"));
    let wanted = (if active { "active" } else { "inactive" }, if enabled { "enabled" } else { "disabled" });
    Observation::differs(action, found, format!("{}, {}", wanted.0, wanted.1), Undo::Remove)
}

/// One unit on its way up.
pub struct Starting {
    pub index: usize,
    pub name: String,
    thread: JoinHandle<Result<u64, Stopped>>,
}

/// Why a unit did not come up.
pub struct Stopped {
    pub failure: Failure,
    /// It was not waited for any longer, for a reason that lies elsewhere.
    pub abandoned: bool,
}

impl Starting {
    /// Waits until the unit is up; gives the milliseconds it took.
    pub fn wait(self) -> Result<u64, Stopped> {
        self.thread.join().unwrap_or_else(|_| {
            let error = std::io::Error::other("the thread that started it panicked");
            Err(Stopped { failure: super::io(&format!("unit {}", self.name), &error), abandoned: false })
        })
    }
}

/// Begins to bring a unit to its state; other units may be brought up at the same time. One that fails is told to the others:
/// what waits for it would wait in vain.
pub fn start(context: Context<'_>, index: usize, name: &str, enabled: bool, active: bool, action: Action) -> Starting {
    let (sink, abandon, unit) = (context.sink.clone(), context.abandon.clone(), name.to_owned());
    let started = std::time::Instant::now();
    let thread = std::thread::spawn(move || {
        let brought = bring(&sink, &abandon, &unit, enabled, active, action);
        // it may be up long before somebody waits for it
        brought.map(|()| command::millis(started)).map_err(|failure| {
            let abandoned = abandon.is_set();
            abandon.set();
            Stopped { failure, abandoned }
        })
    });
    Starting { index, name: name.to_owned(), thread }
}

fn bring(
    sink: &Sink,
    abandon: &Abandon,
    unit: &str,
    enabled: bool,
    active: bool,
    action: Action,
) -> Result<(), Failure> {
    let step = format!("unit {unit}");
    command::run(sink, &step, "systemctl", &[if enabled { "enable" } else { "disable" }, "--quiet", "--", unit])?;
    let verb = match (active, action) {
        (false, _) => "stop",
        (true, Action::Restart) => "restart",
        // it started with what was there before, and would be waited for in vain
        (true, _) if is_activating(unit) => "restart",
        (true, _) => "start",
    };
    command::run_unless(sink, &step, "systemctl", &[verb, "--", unit], || abandon.is_set()).map(|_| ()).map_err(
        |mut failure| {
            if abandon.is_set() {
                failure.message = "it was not ready yet, and is not waited for any longer".into();
            }
            explain(failure, unit)
        },
    )
}

fn is_activating(unit: &str) -> bool {
    let shown = command::look("systemctl", &["show", "-p", "ActiveState", "--value", "--", unit]);
    shown.is_some_and(|state| state.trim() == "activating")
}

/// What the unit itself said is worth more than systemctl's "see the journal".
fn explain(mut failure: Failure, unit: &str) -> Failure {
    // it ended a moment ago: its last words may not have been read yet by who keeps them
    let _ = command::look("journalctl", &["--sync"]);
    if let Some(journal) = command::look("journalctl", &["-u", unit, "-n", "15", "-o", "cat", "--no-pager"]) {
        failure.stderr.extend(journal.lines().map(str::to_owned));
    }
    failure.hint = Some(format!("see `journalctl -u {unit}` on the host, mend the cause, then run the command again"));
    failure
}
