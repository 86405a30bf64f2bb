//! Where the time of a run went.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The lane of what is done for all hosts.
pub const CLUSTER: &str = "cluster";

/// Something that was done, from the run's begin on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// A host, or [`CLUSTER`].
    pub lane: String,
    pub what: String,
    pub kind: Kind,
    pub from: Duration,
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Wait,
    Connect,
    Look,
    Send,
    File,
    Unit,
    Image,
    Api,
    Validation,
}

/// What a span's first words say about it.
const KINDS: [(&str, Kind); 29] = [
    ("waiting for its turn", Kind::Wait),
    ("waiting to", Kind::Wait),
    ("connecting", Kind::Connect),
    ("send", Kind::Send),
    ("looking", Kind::Look),
    ("starting converge", Kind::Look),
    ("facts", Kind::Look),
    ("bundle", Kind::Look),
    ("keys", Kind::Look),
    ("plan", Kind::Look),
    ("comparing", Kind::Look),
    ("upgrading", Kind::Look),
    ("going back", Kind::Look),
    ("control planes", Kind::Wait),
    ("workers", Kind::Wait),
    ("waiting until", Kind::Api),
    ("draining", Kind::Api),
    ("directory ", Kind::File),
    ("file ", Kind::File),
    ("symlink ", Kind::File),
    ("sysctl ", Kind::File),
    ("kernel module ", Kind::File),
    ("unit ", Kind::Unit),
    ("image ", Kind::Image),
    ("API server", Kind::Api),
    ("nodes ", Kind::Api),
    ("addons", Kind::Api),
    ("sample", Kind::Api),
    ("check", Kind::Validation),
];

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Wait,
        Self::Connect,
        Self::Look,
        Self::Send,
        Self::File,
        Self::Unit,
        Self::Image,
        Self::Api,
        Self::Validation,
    ];

    /// What a step's name tells; where it tells nothing it is something that a host does.
    pub fn of(what: &str) -> Self {
        KINDS.iter().find(|(prefix, _)| what.starts_with(prefix)).map_or(Self::File, |(_, kind)| *kind)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "waits",
            Self::Connect => "connects",
            Self::Look => "looks",
            Self::Send => "sends",
            Self::File => "files",
            Self::Unit => "units",
            Self::Image => "images",
            Self::Api => "API",
            Self::Validation => "validation",
        }
    }
}

/// All spans of a run, in the order in which they ended: where somebody wants to see them. A thousand hosts make megabytes of them.
#[derive(Debug)]
pub struct Timeline {
    started: Instant,
    spans: Mutex<Option<Vec<Span>>>,
}

impl Timeline {
    pub fn new(started: Instant) -> Self {
        Self { started, spans: Mutex::default() }
    }

    /// From now on spans are kept.
    pub fn keep(&self) {
        self.spans.lock().get_or_insert_default();
    }

    /// Something ended now and took so long.
    pub fn add(&self, lane: &str, what: &str, took: Duration) -> Span {
        let now = self.started.elapsed();
        self.add_from(lane, what, now.saturating_sub(took), took.min(now))
    }

    /// Something began so long after the run.
    pub fn add_from(&self, lane: &str, what: &str, from: Duration, took: Duration) -> Span {
        let span = Span { lane: lane.to_owned(), what: what.to_owned(), kind: Kind::of(what), from, took };
        if let Some(spans) = self.spans.lock().as_mut() {
            spans.push(span.clone());
        }
        span
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().clone().unwrap_or_default()
    }
}
