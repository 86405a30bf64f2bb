//! Where every host stands: what the screen is drawn from.

use std::collections::HashMap;
use std::time::Instant;

/// One host's work.
#[derive(Clone, Debug)]
pub struct Lane {
    pub name: String,
    /// What hosts are counted by where there are too many for a line each.
    pub stage: String,
    /// What it is at, in full.
    pub what: String,
    /// Steps that are done, of all.
    pub steps: (usize, usize),
    pub sending: Option<Sending>,
    /// What came of it; an error is why it failed.
    pub ended: Option<Result<String, String>>,
    pub started: Instant,
    pub stopped: Option<Instant>,
    /// How many look after it.
    users: usize,
}

impl Lane {
    /// Nothing is done there yet: its clock has not begun.
    pub fn is_waiting(&self) -> bool {
        self.stage.starts_with("waiting") && self.steps.1 == 0
    }
}

/// A file on its way to a host.
#[derive(Clone, Debug)]
pub struct Sending {
    pub what: String,
    pub sent: u64,
    pub total: u64,
    pub since: Instant,
}

impl Sending {
    /// Bytes a second, since its begin.
    pub fn rate(&self, now: Instant) -> f64 {
        self.sent as f64 / now.duration_since(self.since).as_secs_f64().max(0.05)
    }
}

/// All hosts that are worked on, in the order in which they came; and what is done for the cluster meanwhile.
#[derive(Debug, Default)]
pub struct Board {
    pub lanes: Vec<Lane>,
    pub cluster: Option<(String, Instant)>,
    index: HashMap<String, usize>,
    live: usize,
}

/// What hosts are at between two stages that have names.
const WORKING: &str = "working";
const SENDING: &str = "sending";

impl Board {
    /// Work on a host begins: on a line of its own, or goes on where one is shown already.
    pub fn begin(&mut self, name: &str, now: Instant) {
        self.live += 1;
        if let Some(lane) = self.index.get(name).and_then(|index| self.lanes.get_mut(*index)) {
            lane.users += 1;
            return;
        }
        self.index.insert(name.to_owned(), self.lanes.len());
        self.lanes.push(Lane {
            name: name.to_owned(),
            stage: WORKING.to_owned(),
            what: String::new(),
            steps: (0, 0),
            sending: None,
            ended: None,
            started: now,
            stopped: None,
            users: 1,
        });
    }

    /// One of those who look after a host goes. Whether nobody is left anywhere.
    pub fn leave(&mut self, name: &str, now: Instant) -> bool {
        self.live = self.live.saturating_sub(1);
        self.change(name, |lane| {
            lane.users = lane.users.saturating_sub(1);
            if lane.users == 0 {
                lane.stopped = Some(now);
            }
        });
        self.live == 0
    }

    pub fn is_live(&self) -> bool {
        self.live > 0 || self.cluster.is_some()
    }

    pub fn doing(&mut self, name: &str, what: &str, now: Instant) {
        self.change(name, |lane| {
            if lane.is_waiting() {
                lane.started = now;
            }
            what.clone_into(&mut lane.stage);
            what.clone_into(&mut lane.what);
            lane.sending = None;
            lane.ended = None;
        });
    }

    /// The host is at its step `index` of `total`.
    pub fn step(&mut self, name: &str, index: usize, total: usize, resource: &str) {
        self.change(name, |lane| {
            WORKING.clone_into(&mut lane.stage);
            resource.clone_into(&mut lane.what);
            lane.steps = (index, total);
        });
    }

    pub fn sent(&mut self, name: &str, what: &str, sent: u64, total: u64, now: Instant) {
        self.change(name, |lane| match &mut lane.sending {
            _ if sent >= total => lane.sending = None,
            Some(sending) if sending.what == what => sending.sent = sent,
            other => {
                *other = Some(Sending { what: what.to_owned(), sent, total, since: now });
                if lane.steps.1 == 0 {
                    SENDING.clone_into(&mut lane.stage);
                }
            }
        });
    }

    pub fn ended(&mut self, name: &str, result: Result<String, String>, now: Instant) {
        self.change(name, |lane| {
            lane.sending = None;
            if result.is_ok() {
                lane.steps.0 = lane.steps.1;
            }
            lane.ended = Some(result);
            lane.stopped = Some(now);
        });
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.index.get(name).and_then(|index| self.lanes.get_mut(*index)) {
            change(lane);
        }
    }

    /// Everything there was is told; the next hosts begin anew.
    pub fn clear(&mut self) {
        self.lanes.clear();
        self.index.clear();
    }
}
