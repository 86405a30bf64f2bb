//! `apiserver_flowcontrol_*`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Flow, dispatch::LevelState};
use crate::metrics::text::{Histogram, Text};

const SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const REASONS: [&str; 3] = ["queue-full", "concurrency-limit", "time-out"];

struct Counts {
    dispatched: AtomicU64,
    rejected: [AtomicU64; 3],
    waits: Histogram,
}

/// What became of one FlowSchema's requests; survives its changes.
#[derive(Clone)]
pub struct Counters(Arc<Counts>);

impl Default for Counters {
    fn default() -> Self {
        let counts =
            Counts { dispatched: AtomicU64::default(), rejected: Default::default(), waits: Histogram::new(SECONDS) };
        Counters(Arc::new(counts))
    }
}

impl Counters {
    /// `None`: exempt, waiting was no question.
    pub fn dispatched(&self, waited: Option<Duration>) {
        self.0.dispatched.fetch_add(1, Ordering::Relaxed);
        if let Some(waited) = waited {
            self.0.waits.observe(waited.as_secs_f64());
        }
    }

    pub fn rejected(&self, why: &str) {
        if let Some(index) = REASONS.iter().position(|r| *r == why) {
            self.0.rejected[index].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Name, help, value.
type Gauge = (&'static str, &'static str, fn(&LevelState) -> u64);

pub fn render(out: &mut Text, flows: &[Arc<Flow>], levels: &[LevelState]) {
    let help = "Number of requests executed by API Priority and Fairness subsystem";
    let mut family = out.counter("apiserver_flowcontrol_dispatched_requests_total", help);
    for flow in flows {
        family.sample(&labels(flow), flow.counters.0.dispatched.load(Ordering::Relaxed));
    }
    let help = "Number of requests rejected by API Priority and Fairness subsystem";
    let mut family = out.counter("apiserver_flowcontrol_rejected_requests_total", help);
    for flow in flows {
        for (reason, count) in REASONS.iter().zip(&flow.counters.0.rejected) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let [schema, level] = labels(flow);
                family.sample(&[schema, level, ("reason", *reason)], count);
            }
        }
    }
    let help = "Length of time a request spent waiting in its queue";
    let mut family = out.histogram("apiserver_flowcontrol_request_wait_duration_seconds", help);
    for flow in flows.iter().filter(|flow| !flow.exempt) {
        let [schema, level] = labels(flow);
        family.distribution(&[("execute", "true"), schema, level], &flow.counters.0.waits);
    }
    let gauges: [Gauge; 5] = [
        (
            "apiserver_flowcontrol_current_executing_seats",
            "Concurrency (number of seats) occupied by the currently executing requests",
            |l| u64::from(l.used),
        ),
        ("apiserver_flowcontrol_current_inqueue_requests", "Number of requests currently pending in queues", |l| {
            l.waiting as u64
        }),
        (
            "apiserver_flowcontrol_nominal_limit_seats",
            "Nominal number of execution seats configured for each priority level",
            |l| u64::from(l.config.nominal),
        ),
        (
            "apiserver_flowcontrol_lower_limit_seats",
            "Configured lower bound on number of execution seats available to each priority level",
            |l| u64::from(l.config.min),
        ),
        (
            "apiserver_flowcontrol_upper_limit_seats",
            "Configured upper bound on number of execution seats available to each priority level",
            |l| u64::from(l.config.max),
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = out.gauge(name, help);
        for level in levels.iter().filter(|level| !level.config.exempt) {
            family.sample(&[("priority_level", &level.config.name)], value(level));
        }
    }
}

fn labels(flow: &Flow) -> [(&'static str, &str); 2] {
    [("flow_schema", &flow.schema.name), ("priority_level", &flow.level_name)]
}
