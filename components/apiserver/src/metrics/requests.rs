//! Requests: how many, how long, how large, how many now (upstream: `apiserver/pkg/endpoints/metrics`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use machinery::request_info::RequestInfo;
use parking_lot::{Mutex, RwLock};

use super::{
    SECONDS,
    text::{Histogram, Text},
};
use crate::handlers::Named;

const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Paths beside resources whose requests are told apart; others count together.
const PATHS: &[&str] =
    &["/healthz", "/livez", "/readyz", "/metrics", "/version", "/openapi/v2", "/openapi/v3", "/api", "/apis"];

/// What a request is counted as. Only names that exist: anybody could fill the memory with others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    verb: &'static str,
    named: Named,
    scope: &'static str,
    dry_run: &'static str,
}

impl Kind {
    pub fn of(info: &RequestInfo, mut named: Named, dry_run: bool) -> Kind {
        if !info.is_resource {
            let path = PATHS.iter().find(|path| info.path.starts_with(**path));
            named.subresource = path.copied().unwrap_or_default();
        }
        let scope = match info.is_resource {
            false => "",
            true if !info.name.is_empty() || info.verb == "create" => "resource",
            true if !info.namespace.is_empty() => "namespace",
            true => "cluster",
        };
        Kind { verb: upper(info.verb), named, scope, dry_run: if dry_run { "All" } else { "" } }
    }

    fn is_mutating(&self) -> bool {
        !matches!(self.verb, "GET" | "LIST" | "WATCH" | "HEAD" | "OPTIONS")
    }

    fn labels(&self) -> [(&'static str, &'static str); 8] {
        [
            ("component", "apiserver"),
            ("dry_run", self.dry_run),
            ("group", self.named.group),
            ("resource", self.named.resource),
            ("scope", self.scope),
            ("subresource", self.named.subresource),
            ("verb", self.verb),
            ("version", self.named.version),
        ]
    }
}

fn upper(verb: &'static str) -> &'static str {
    const VERBS: &[(&str, &str)] = &[
        ("get", "GET"),
        ("list", "LIST"),
        ("watch", "WATCH"),
        ("create", "POST"),
        ("update", "PUT"),
        ("patch", "PATCH"),
        ("delete", "DELETE"),
        ("deletecollection", "DELETECOLLECTION"),
        ("proxy", "PROXY"),
        ("connect", "CONNECT"),
        ("head", "HEAD"),
        ("post", "POST"),
        ("put", "PUT"),
        ("options", "OPTIONS"),
    ];
    VERBS.iter().find(|(lower, _)| *lower == verb).map_or("other", |(_, upper)| upper)
}

struct Series {
    took: Histogram,
    sizes: Histogram,
    codes: Mutex<BTreeMap<u16, u64>>,
    lasting: Arc<AtomicI64>,
}

#[derive(Default)]
pub struct Requests {
    series: RwLock<HashMap<Kind, Arc<Series>>>,
    /// Under way: those that only read, and those that write.
    reading: Arc<AtomicI64>,
    writing: Arc<AtomicI64>,
}

/// A request under way.
pub struct Running {
    series: Arc<Series>,
    is_watch: bool,
    /// Where it counts as long as it lives.
    counted: Arc<AtomicI64>,
}

impl Requests {
    pub fn begin(&self, kind: Kind, long_running: bool) -> Running {
        let series = self.of(kind);
        let counted = match (long_running, kind.is_mutating()) {
            (true, _) => &series.lasting,
            (false, true) => &self.writing,
            (false, false) => &self.reading,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        Running { counted: counted.clone(), series, is_watch: kind.verb == "WATCH" }
    }

    fn of(&self, kind: Kind) -> Arc<Series> {
        if let Some(series) = self.series.read().get(&kind) {
            return series.clone();
        }
        let new = || {
            Arc::new(Series {
                took: Histogram::new(SECONDS),
                sizes: Histogram::new(BYTES),
                codes: Mutex::default(),
                lasting: Arc::default(),
            })
        };
        self.series.write().entry(kind).or_insert_with(new).clone()
    }

    pub fn render(&self, out: &mut Text) {
        let all: BTreeMap<Kind, Arc<Series>> = self.series.read().iter().map(|(k, s)| (*k, s.clone())).collect();
        let mut total = out.counter(
            "apiserver_request_total",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        );
        for (kind, series) in &all {
            for (code, count) in series.codes.lock().iter() {
                let code = code.to_string();
                let labels: Vec<_> = std::iter::once(("code", code.as_str())).chain(kind.labels()).collect();
                total.sample(&labels, count);
            }
        }
        let mut took = out.histogram(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
        );
        for (kind, series) in all.iter().filter(|(kind, _)| kind.verb != "WATCH") {
            took.distribution(&kind.labels(), &series.took);
        }
        let help = "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.";
        let mut sizes = out.histogram("apiserver_response_sizes", help);
        for (kind, series) in all.iter().filter(|(kind, _)| kind.verb != "WATCH") {
            let labels: Vec<_> = kind.labels().into_iter().filter(|(name, _)| *name != "dry_run").collect();
            sizes.distribution(&labels, &series.sizes);
        }
        let help = "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.";
        let mut lasting = out.gauge("apiserver_longrunning_requests", help);
        for (kind, series) in &all {
            let count = series.lasting.load(Ordering::Relaxed);
            if count > 0 {
                let labels: Vec<_> = kind.labels().into_iter().filter(|(name, _)| *name != "dry_run").collect();
                lasting.sample(&labels, count);
            }
        }
        let help = "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.";
        let mut now = out.gauge("apiserver_current_inflight_requests", help);
        for (kind, count) in [("mutating", &self.writing), ("readOnly", &self.reading)] {
            now.sample(&[("request_kind", kind)], count.load(Ordering::Relaxed));
        }
    }
}

impl Running {
    /// The answer is there; `bytes` is its length, where it is known.
    pub fn answered(&self, code: u16, took: Duration, bytes: Option<u64>) {
        *self.series.codes.lock().entry(code).or_default() += 1;
        // a watch takes as long as the client likes
        if !self.is_watch {
            self.series.took.observe(took.as_secs_f64());
        }
        if let Some(bytes) = bytes {
            self.series.sizes.observe(bytes as f64);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counted.fetch_sub(1, Ordering::Relaxed);
    }
}
