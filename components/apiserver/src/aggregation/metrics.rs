//! How available extension servers are, under upstream's names.

use std::{collections::BTreeMap, fmt::Write};

use parking_lot::Mutex;

use super::Aggregator;

/// How often each APIService (name, reason) became unavailable.
#[derive(Default)]
pub struct Metrics {
    lost: Mutex<BTreeMap<(String, String), u64>>,
}

impl Metrics {
    pub fn became_unavailable(&self, name: &str, reason: &str) {
        *self.lost.lock().entry((name.to_owned(), reason.to_owned())).or_default() += 1;
    }
}

impl Aggregator {
    /// Names and reasons have nothing that the text format escapes.
    pub fn render(&self, out: &mut String) {
        let name = "aggregator_unavailable_apiservice";
        let help = "Gauge of APIServices which are marked as unavailable broken down by APIService name.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for registration in self.all() {
            let value = u8::from(!registration.is_available());
            let _ = writeln!(out, "{name}{{name=\"{}\"}} {value}", registration.name);
        }
        let name = "aggregator_unavailable_apiservice_total";
        let help = "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for ((service, reason), count) in self.metrics.lost.lock().iter() {
            let _ = writeln!(out, "{name}{{name=\"{service}\",reason=\"{reason}\"}} {count}");
        }
    }
}
