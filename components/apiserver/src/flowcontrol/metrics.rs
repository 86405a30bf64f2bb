//! `apiserver_flowcontrol_*`.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Flow, dispatch::LevelState};

const BUCKETS: [f64; 10] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];
const REASONS: [&str; 3] = ["queue-full", "concurrency-limit", "time-out"];

#[derive(Default)]
struct Counts {
    dispatched: AtomicU64,
    rejected: [AtomicU64; 3],
    waits: [AtomicU64; 11],
    wait_micros: AtomicU64,
}

/// What became of one FlowSchema's requests; survives its changes.
#[derive(Clone, Default)]
pub struct Counters(Arc<Counts>);

impl Counters {
    /// `None`: exempt, waiting was no question.
    pub fn dispatched(&self, waited: Option<Duration>) {
        self.0.dispatched.fetch_add(1, Ordering::Relaxed);
        if let Some(waited) = waited {
            let seconds = waited.as_secs_f64();
            let bucket = BUCKETS.iter().position(|limit| seconds <= *limit).unwrap_or(BUCKETS.len());
            self.0.waits[bucket].fetch_add(1, Ordering::Relaxed);
            self.0.wait_micros.fetch_add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
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

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP apiserver_flowcontrol_{name} {help}\n# TYPE apiserver_flowcontrol_{name} {kind}");
}

pub fn render(out: &mut String, flows: &[Arc<Flow>], levels: &[LevelState]) {
    let labels = |f: &Flow| format!("priority_level=\"{}\",flow_schema=\"{}\"", f.level_name, f.schema.name);
    head(
        out,
        "dispatched_requests_total",
        "counter",
        "Number of requests executed by API Priority and Fairness subsystem",
    );
    for flow in flows {
        let count = flow.counters.0.dispatched.load(Ordering::Relaxed);
        let _ = writeln!(out, "apiserver_flowcontrol_dispatched_requests_total{{{}}} {count}", labels(flow));
    }
    head(
        out,
        "rejected_requests_total",
        "counter",
        "Number of requests rejected by API Priority and Fairness subsystem",
    );
    for flow in flows {
        for (reason, count) in REASONS.iter().zip(&flow.counters.0.rejected) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let _ = writeln!(
                    out,
                    "apiserver_flowcontrol_rejected_requests_total{{{},reason=\"{reason}\"}} {count}",
                    labels(flow)
                );
            }
        }
    }
    head(out, "request_wait_duration_seconds", "histogram", "Length of time a request spent waiting in its queue");
    for flow in flows.iter().filter(|f| !f.exempt) {
        let counts = &flow.counters.0;
        let mut sum = 0;
        for (limit, count) in BUCKETS.iter().zip(&counts.waits) {
            sum += count.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "apiserver_flowcontrol_request_wait_duration_seconds_bucket{{{},execute=\"true\",le=\"{limit}\"}} {sum}",
                labels(flow)
            );
        }
        sum += counts.waits[BUCKETS.len()].load(Ordering::Relaxed);
        let seconds = counts.wait_micros.load(Ordering::Relaxed) as f64 / 1e6;
        for (suffix, value) in [("_bucket", sum as f64), ("_sum", seconds), ("_count", sum as f64)] {
            let bound = if suffix == "_bucket" { ",le=\"+Inf\"" } else { "" };
            let _ = writeln!(
                out,
                "apiserver_flowcontrol_request_wait_duration_seconds{suffix}{{{},execute=\"true\"{bound}}} {value}",
                labels(flow)
            );
        }
    }
    let gauges: [Gauge; 5] = [
        (
            "current_executing_seats",
            "Concurrency (number of seats) occupied by the currently executing requests",
            |l| u64::from(l.used),
        ),
        ("current_inqueue_requests", "Number of requests currently pending in queues", |l| l.waiting as u64),
        ("nominal_limit_seats", "Nominal number of execution seats configured for each priority level", |l| {
            u64::from(l.config.nominal)
        }),
        (
            "lower_limit_seats",
            "Configured lower bound on number of execution seats available to each priority level",
            |l| u64::from(l.config.min),
        ),
        (
            "upper_limit_seats",
            "Configured upper bound on number of execution seats available to each priority level",
            |l| u64::from(l.config.max),
        ),
    ];
    for (name, help, value) in gauges {
        head(out, name, "gauge", help);
        for level in levels.iter().filter(|l| !l.config.exempt) {
            let _ = writeln!(
                out,
                "apiserver_flowcontrol_{name}{{priority_level=\"{}\"}} {}",
                level.config.name,
                value(level)
            );
        }
    }
}
